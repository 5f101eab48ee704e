"""Opaque operators: what stands for a neuron, or for Shiftmax, while a module is traced."""

from __future__ import annotations

import torch
from torch import Tensor, nn


@torch.library.custom_op("lapilli::neuron", mutates_args=())
def neuron(x: Tensor, path: str) -> Tensor:
    """Stand for the neuron at `path`; it is traced, never run."""
    raise RuntimeError(f"{path}: the opaque neuron is for tracing only")


@neuron.register_fake
def _(x: Tensor, path: str) -> Tensor:
    return torch.empty_like(x)


NEURON = torch.ops.lapilli.neuron.default  # the target of its nodes in an exported graph


class OpaqueNeuron(nn.Module):
    """Takes a neuron's place in the copy that is traced."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def forward(self, x: Tensor) -> Tensor:
        """Leave one node in the trace."""
        y: Tensor = NEURON(x, self.path)
        return y


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
