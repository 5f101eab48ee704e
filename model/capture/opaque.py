"""Opaque operators: what stands for a neuron, or for Shiftmax, while a module is traced."""

from __future__ import annotations

import torch
from torch import Tensor, nn


@torch.library.custom_op("lapilli::neuron", mutates_args=())
def neuron(x: Tensor, path: str, fresh: bool) -> Tensor:
    """Stand for the neuron at `path`, at rest if it is `fresh`; it is traced, never run."""
    raise RuntimeError(f"{path}: the opaque neuron is for tracing only")


@neuron.register_fake
def _(x: Tensor, path: str, fresh: bool) -> Tensor:
    return torch.empty_like(x)


NEURON = torch.ops.lapilli.neuron.default  # the target of its nodes in an exported graph


class OpaqueNeuron(nn.Module):
    """Takes a neuron's place in the copy that is traced.

    Attributes:
        fresh: whether it was reset since its last call, as heads do that run once for each level
            of a pyramid.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path, self.fresh = path, True

    def forward(self, x: Tensor) -> Tensor:
        """Leave one node in the trace."""
        y: Tensor = NEURON(x, self.path, self.fresh)
        self.fresh = False
        return y

    def reset(self) -> None:
        """Begin anew, as SpikingJelly's neurons do."""
        self.fresh = True

    def n_reset(self) -> None:
        """Begin anew, as BrainCog's neurons do."""
        self.fresh = True


@torch.library.custom_op("lapilli::shiftmax", mutates_args=())
def shiftmax(x: Tensor, v: Tensor, path: str) -> Tensor:
    """Stand for the `Shiftmax` at `path`; it is traced, never run."""
    raise RuntimeError(f"{path}: the opaque Shiftmax is for tracing only")


@shiftmax.register_fake
def _(x: Tensor, v: Tensor, path: str) -> Tensor:
    return torch.matmul(x, v)


SHIFTMAX = torch.ops.lapilli.shiftmax.default


class OpaqueShiftmax(nn.Module):
    """Takes the place of a `Shiftmax` in the copy that is traced."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def forward(self, x: Tensor, v: Tensor) -> Tensor:
        """Leave one node in the trace."""
        y: Tensor = SHIFTMAX(x, v, self.path)
        return y
