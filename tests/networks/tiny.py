"""A small network with everything that quantization must handle, and its comparison."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lapilli.ir import ops
from lapilli.ir.tensor import IntArray
from lapilli.model.families.lif import LIF
from lapilli.quantize import Quantized
from lapilli.simulators.reference import Reference


class Tiny(nn.Module):
    """Convolution with norm, a biased linear map without, and a membrane shortcut."""

    def __init__(self, T: int = 4, tau: float = 2.0, affine: bool = True) -> None:
        super().__init__()
        self.T = T
        self.conv = nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(4, affine=affine)
        self.fc = nn.Linear(64, 8)
        self.a, self.a_bn = nn.Linear(8, 8), nn.BatchNorm1d(8, affine=affine)
        self.b = nn.Linear(8, 8)
        self.lif0, self.lif1, self.lif2, self.lif3 = (LIF(tau, 0.8 / tau) for _ in range(4))
        self.head = nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Tensor:
        x = images.unsqueeze(0).repeat(self.T, 1, 1, 1, 1)
        x = self.bn(self.conv(x.flatten(0, 1))).reshape(self.T, -1, 4, 4, 4)
        s = self.lif1(self.fc(self.lif0(x).flatten(2)))
        x = self.a_bn(self.a(s.flatten(0, 1))).reshape(self.T, -1, 8)
        x = x + self.b(self.lif2(x))
        logits: Tensor = self.head(self.lif3(x)).mean(0)
        return logits


def tiny(seed: int = 0, **options: Any) -> Tiny:
    """Weights and statistics of a plausible training; half of the gammas are negative."""
    torch.manual_seed(seed)
    model = Tiny(**options).eval()
    with torch.no_grad():
        for norm in (model.bn, model.a_bn):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.running_mean.copy_(torch.randn_like(norm.running_mean) * 0.1)
            norm.running_var.copy_(torch.rand_like(norm.running_var) + 0.1)
            if norm.affine:
                norm.weight.copy_(torch.randn_like(norm.weight) + 0.3)
                norm.bias.copy_(torch.randn_like(norm.bias) * 0.5)
        model.fc.weight.mul_(3)
        model.b.weight.mul_(3)
    return model


def images(count: int = 24, seed: int = 1) -> Tensor:
    made: Tensor = torch.randn(count, 1, 4, 4, generator=torch.Generator().manual_seed(seed))
    return made


def integers(made: Quantized, x: Tensor) -> IntArray:
    source = made.network.input
    scaled = np.rint(x.double().numpy() * 2.0**source.exponent).astype(np.int64)
    return scaled.clip(source.lo, source.hi)


def compare(made: Quantized, x: Tensor) -> int:
    """PyTorch and the graph agree on everything; the number of values."""
    given = integers(made, x)
    graph = made.network.graph
    trace = made.reference.run_images(given)
    got = (
        Reference()
        .compile(graph)
        .run({graph.inputs[0]: np.broadcast_to(given, (graph.T, *given.shape))})
    )
    assert trace.membranes.keys() == set(graph.neurons)
    compared = 0
    for name in graph.neurons:
        for mine, theirs in (
            (got.values[name], trace.values[name]),
            (got.membranes[name], trace.membranes[name]),
            (got.currents[name], trace.currents[name]),
        ):
            assert np.array_equal(mine, theirs), name
            compared += mine.size
        assert 0 < got.values[name].mean() < 1, name
    (output,) = graph.outputs
    logits = trace.values[output][-1]
    assert np.array_equal(got.values[output][-1], logits)
    assert len(np.unique(logits)) > 5
    return compared + int(logits.size)


def integer_weights(made: Quantized) -> dict[str, npt.NDArray[np.int64]]:
    return {
        n.name: n.op.weight.mantissa.array
        for n in made.network.graph.nodes
        if isinstance(n.op, ops.Linear | ops.Conv2d)
    }
