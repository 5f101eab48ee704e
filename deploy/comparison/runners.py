"""The two kinds of sides of a comparison: PyTorch, and any simulator."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from lapilli.ir.network import Network
from lapilli.ir.recording import Recording
from lapilli.ir.tensor import IntArray
from lapilli.simulators.protocol import Executable, Simulator

if TYPE_CHECKING:  # comparing simulators needs no PyTorch
    from lapilli.quantize.pytorch.reference import PyTorchReference

Pixels = npt.NDArray[np.uint8]


class Runner(Protocol):
    """Something that runs a network on images (B, C, H, W) of bytes."""

    @property
    def name(self) -> str:
        """For reports."""
        ...

    def run(self, pixels: Pixels) -> Recording:
        """Run one batch from rest."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class PyTorch:
    """The author's module with quantized parameters."""

    network: Network
    reference: PyTorchReference
    name: str = "pytorch"

    def run(self, pixels: Pixels) -> Recording:
        """Encode and run."""
        return self.record(self.network.input.encode(pixels))

    def record(self, images: IntArray) -> Recording:
        """Run quantized images; the logits stand as the one step of the graph's output."""
        trace = self.reference.run(images)
        (output,) = self.network.graph.outputs
        values = {**trace.spikes, **trace.shown, output: trace.logits[None]}
        return Recording(values, trace.membranes, trace.currents)


@dataclass(slots=True, eq=False)
class Simulated:
    """A simulator with the network compiled for it."""

    network: Network
    simulator: Simulator
    executable: Executable = field(init=False)

    def __post_init__(self) -> None:
        self.executable = self.simulator.compile(self.network.graph)

    @property
    def name(self) -> str:
        """The simulator's."""
        return self.simulator.name

    def run(self, pixels: Pixels) -> Recording:
        """Encode and simulate."""
        return self.executable.run(self.network.encode(pixels))
