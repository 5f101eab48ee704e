"""A linear map of a program, in float32 where none of its sums is rounded, else in float64.

float32 holds every integer up to 2^24. Where what is given are whole numbers, as spikes and counts
are, and the weights multiples of a power of two, a sum is exact in whatever order if the magnitudes
of all its terms stay below that: weights of eight bits nearly always do. PyTorch's convolutions
take a quarter of the time then, and no copy of every window. No transform may do them (Winograd,
FFT), which multiply by fractions: of the first result of every shape, the row that heard most is
compared with float64's. PyTorch chooses how it computes by shapes, steps and edges, not by values,
so that maps which have these alike vouch for each other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from lapilli.ir.errors import MismatchError
from lapilli.model.capture import program
from lapilli.quantize.pytorch.byte_maps import byte_sums
from lapilli.quantize.pytorch.precision import LARGEST, no_transform

# What PyTorch chooses by how it computes a map; see `form_of`.
Form: TypeAlias = tuple[object, ...]

_WEIGHT_BITS = 8  # of the largest: multiples of less than its 2**-7 are left to float64


@dataclass(frozen=True, slots=True, eq=False)
class WholeNumbers:
    """Weights that are whole numbers of few bits, times a power of two.

    Attributes:
        kernel: the numbers, in float32 or int8.
        unit: the power of two.
        most: the largest sum of magnitudes of a row, in units.
    """

    kernel: Tensor
    unit: float
    most: float

    def real(self) -> Tensor:
        """The weights in float64."""
        return self.kernel.double() * self.unit

    def narrowed(self, x: Tensor) -> tuple[Tensor, float] | None:
        """Values as whole numbers in float32, and their unit, if it rounds no sum of them.

        The unit is 1, or else the finest power of two of which float32 holds all sums.
        """
        lo, hi = (float(end) for end in x.aminmax()) if x.numel() else (0.0, 0.0)
        largest = max(-lo, hi) * self.most
        if largest <= LARGEST and (narrow := _whole(x)) is not None:
            return narrow, 1.0
        if not 0 < largest < math.inf:
            return None
        unit = 2.0 ** math.ceil(math.log2(largest / LARGEST))
        narrow = _whole(x / unit)
        return None if narrow is None else (narrow, unit)


def _whole(x: Tensor) -> Tensor | None:
    """Float64 in float32, if all are whole numbers that it holds."""
    narrow = x.float().round_()
    return narrow if bool((narrow == x).all()) else None


def whole_numbers(weight: Tensor) -> WholeNumbers | None:
    """Float64 weights as whole numbers; None if they are none of few bits, or all 0."""
    lo, hi = (float(end) for end in weight.aminmax()) if weight.numel() else (0.0, 0.0)
    largest = max(-lo, hi)
    _, exponent = torch.frexp(torch.tensor(largest, dtype=torch.float64))
    unit = 2.0 ** (int(exponent) - _WEIGHT_BITS)
    kernel = _whole(weight / unit) if largest else None
    if kernel is None:
        return None
    sums = torch.linalg.vector_norm(kernel.flatten(1), 1, dim=1, dtype=torch.float64)
    return WholeNumbers(kernel, unit, float(sums.max()))


def form_of(windows: object, groups: int, kernel: Tensor, x: Tensor, *, of_bytes: bool) -> Form:
    """What maps have alike that vouch for each other: all that PyTorch chooses by.

    `windows` are stride, padding and dilation, each of as many numbers as there are axes.
    """
    return windows, groups, kernel.shape, x.shape, x.stride(), of_bytes


def in_units(sums: Tensor, unit: float, bias: Tensor | None, space: int) -> Tensor:
    """Sums in float32 times the unit of the weights, and biases, in one walk; float64."""
    if bias is None:
        return sums.double().mul_(unit)
    return torch.add(bias.reshape(-1, *[1] * space), sums, alpha=unit)


@dataclass(frozen=True, slots=True, eq=False)
class ExactMap:
    """One linear map or convolution with its weights.

    Attributes:
        op: which; weights and biases under its names are not read.
        path: for messages.
        kernel: the weights in float64; or whole numbers in float32 or int8, times `unit` the
            weights.
        unit: a power of two; 1 in float64.
        bias: in float64.
        most: the largest sum of magnitudes of the weights of a row, in units.
        checked: forms of which a result was compared with that of float64; of several maps
            together.
    """

    op: program.Synapse
    path: str
    kernel: Tensor
    unit: float
    bias: Tensor | None
    most: float
    checked: set[Form] = field(default_factory=set)

    @classmethod
    def wide(
        cls, op: program.Synapse, path: str, weight: Tensor | WholeNumbers, bias: Tensor | None
    ) -> ExactMap:
        """Take weights, and compute in float64."""
        real = weight.real() if isinstance(weight, WholeNumbers) else weight
        return cls(op, path, real, 1.0, bias, 0.0)

    @classmethod
    def of(
        cls,
        op: program.Synapse,
        path: str,
        weight: Tensor | WholeNumbers,
        bias: Tensor | None,
        checked: set[Form] | None = None,
    ) -> ExactMap:
        """Take weights, those of float64 in the narrower form where they are whole numbers."""
        # A depthwise one may be a transform on other machines, and costs little.
        if op.groups > 1:
            return cls.wide(op, path, weight, bias)
        found = weight if isinstance(weight, WholeNumbers) else whole_numbers(weight)
        if found is None:
            return cls.wide(op, path, weight, bias)
        known = set() if checked is None else checked
        return cls(op, path, found.kernel, found.unit, bias, found.most, known)

    def __call__(self, x: Tensor) -> Tensor:
        """Values (T, B, *step) to values, float64.

        Raises:
            MismatchError: float32 rounds on this machine.
        """
        rows = x.flatten(0, 1) if self.op.space else x
        if self.kernel.dtype is torch.float64:
            y = self._applied(rows, self.kernel, self.bias)
        elif (found := WholeNumbers(self.kernel, self.unit, self.most).narrowed(rows)) is None:
            y = self._applied(rows, self.kernel.double() * self.unit, self.bias)
        else:
            y = self._narrow(rows, *found)
        return y.reshape(*x.shape[:2], *y.shape[1:]) if self.op.space else y

    def _narrow(self, x: Tensor, narrow: Tensor, unit: float) -> Tensor:
        op, last = self.op, self.op.space
        sums = None
        if last:
            windows = op.stride[:last], op.padding[:last], op.dilation[:last]
            sums = byte_sums(narrow, self.kernel, *windows)
        form = self._form(narrow, of_bytes=sums is not None)
        if sums is None:
            with no_transform():
                sums = self._applied(narrow, self.kernel.float(), None)
        if form not in self.checked and self._check(x, sums, unit):
            self.checked.add(form)
        return in_units(sums, self.unit * unit, self.bias, self.op.space)

    def _check(self, x: Tensor, sums: Tensor, unit: float) -> bool:
        """Compare the row that hears most with float64; silence shows nothing, and is told."""
        heard = torch.linalg.vector_norm(x.flatten(1), 1, dim=1)
        row = int(heard.argmax())
        exact = self._applied(x[row : row + 1], self.kernel.double(), None)
        if not torch.equal(sums[row : row + 1].double() * unit, exact):
            raise MismatchError(f"{self.path}: PyTorch's float32 rounds what float64 does not")
        return bool(heard[row] > 0)

    def _form(self, x: Tensor, *, of_bytes: bool) -> Form:
        op, last = self.op, self.op.space
        windows = op.stride[:last], op.padding[:last], op.dilation[:last]
        return form_of(windows, op.groups, self.kernel, x, of_bytes=of_bytes)

    def _applied(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return applied(self.op, x, weight, bias)


def applied(op: program.Synapse, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Compute a linear map of rows (..., n), or a convolution of maps (N, C, ...)."""
    if not op.space:
        return functional.linear(x, weight, bias)
    last = op.space
    stride, padding, dilation = op.stride[:last], op.padding[:last], op.dilation[:last]
    convolve: Any = functional.conv1d if last == 1 else functional.conv2d
    y: Tensor = convolve(x, weight, bias, stride, padding, dilation, op.groups)
    return y
