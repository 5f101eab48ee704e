"""A network around two neurons of whatever framework, and its comparison."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lapilli.deploy.comparison.compare import compare_all
from lapilli.quantize import Quantized, quantize
from lapilli.simulators.event_driven import EventDriven
from lapilli.simulators.reference import Reference


class Net(nn.Module):
    """Two neurons between three linear maps; the mean over time."""

    def __init__(self, first: nn.Module, second: nn.Module, T: int = 4) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.T = T
        self.fc1, self.fc2, self.head = nn.Linear(48, 24), nn.Linear(24, 20), nn.Linear(20, 5)
        self.first, self.second = first, second
        with torch.no_grad():
            self.fc1.weight.mul_(6)
            self.fc2.weight.mul_(12)

    def forward(self, images: Tensor) -> Tensor:
        x = self.fc1(images.flatten(1)).unsqueeze(0).repeat(self.T, 1, 1)
        logits: Tensor = self.head(self.second(self.fc2(self.first(x)))).mean(0)
        return logits


def quantized(net: Net, **options: Any) -> Quantized:
    images = torch.rand(32, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    return quantize(net.eval(), images, **options)


def compared(made: Quantized, *others: Any, images: int = 24) -> int:
    """Compare PyTorch with every simulator; return how many values."""
    network = made.network
    pixels = np.random.default_rng(2).integers(0, 256, (images, 3, 4, 4)).astype(np.uint8)
    simulators = (Reference(), EventDriven(), *others)
    runs = {simulator.name: simulator.compile(network.graph) for simulator in simulators}
    found = compare_all(network, made.reference, runs, pixels)
    for one in found:
        one.require()
    return sum(one.compared for one in found)
