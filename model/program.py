"""A captured model: a float program of few operators, its time and batch axes named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

from torch import nn

from lapilli.model.adapters import NeuronRule
from lapilli.model.axes import Dims


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """The model's input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Synapse:
    """A linear map (`conv` false) or a 2-d convolution; names of its parameters."""

    weight: str
    bias: str | None
    conv: bool
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    groups: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchNorm:
    """Batch norm in evaluation mode; `module` holds its parameters."""

    module: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fire:
    """A neuron: module path, which call of that module this is, and its rule."""

    module: str
    call: int
    rule: NeuronRule


@dataclass(frozen=True, slots=True, kw_only=True)
class MatMul:
    """Matrix product of two values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """Elementwise product of two values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Product with a constant."""

    factor: Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class Plus:
    """Elementwise sum of two values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reduce:
    """Sum, or average, over axes of one time step; `time` if over T as well."""

    axes: tuple[int, ...]
    keepdims: bool
    mean: bool
    time: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxPool:
    """Largest value of each window."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Reshape of one time step: to the shape of the call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transpose:
    """Permutation of the axes of one time step."""

    axes: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Broadcast:
    """Axes of length 1 repeated: to the shape of the call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Elements start..stop - 1 of one axis of one time step."""

    axis: int
    start: int
    stop: int


Operator: TypeAlias = (
    Image
    | Synapse
    | BatchNorm
    | Fire
    | MatMul
    | Product
    | Scale
    | Plus
    | Reduce
    | MaxPool
    | View
    | Transpose
    | Broadcast
    | Part
)


@dataclass(frozen=True, slots=True)
class Call:
    """One operator applied; `path` is the module that asked for it."""

    name: str
    op: Operator
    inputs: tuple[str, ...]
    path: str
    dims: Dims


@dataclass(frozen=True, slots=True, eq=False)
class Captured:
    """A module as a program.

    Attributes:
        module: the author's own, untouched; parameters are looked up here by name.
        calls: in an order in which every input precedes its use; by name.
        output: name of the logits.
        T: time steps.
    """

    module: nn.Module
    calls: Mapping[str, Call]
    output: str
    T: int
