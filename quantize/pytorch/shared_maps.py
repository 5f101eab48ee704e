"""Linear maps that two forwards share: computed once, in float32 where that rounds nothing.

A convolution is a function of its arguments: where two forwards give it the same bits, the second
takes the result of the first. So what is compared is the arguments, bit for bit, by a hash.
float64's convolution takes several times as long as float32's, and copies every window of all that
it is given; float32 holds every integer up to 2^24, and no sum of fewer units is rounded in it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from lapilli.ir.errors import MismatchError
from lapilli.model.capture.recalled import key_of
from lapilli.quantize.pytorch.byte_maps import byte_sums
from lapilli.quantize.pytorch.exact_map import Form, form_of, in_units, whole_numbers
from lapilli.quantize.pytorch.precision import no_transform

# What is shared, and over how many axes it runs behind samples and channels.
_MAPS: dict[Any, int] = {functional.linear: 0, torch.conv1d: 1, torch.conv2d: 2}


class SharedMaps(TorchFunctionMode):
    """Computes the linear maps of float64 that are called under it, each of two equal ones once.

    Attributes:
        multiple: all weights are multiples of it times a power of two, if any are of few bits.
        waiting: what one of the two has asked for; see `forget`.
        checked: forms of which float32's result was compared with float64's; see `exact_map`.
    """

    def __init__(self, multiple: int = 1, checked: set[Form] | None = None) -> None:
        super().__init__()
        self.multiple = multiple
        self.waiting: dict[bytes, Sums] = {}
        self.checked: set[Form] = set() if checked is None else checked

    def forget(self) -> None:
        """Let go of what was asked for once: both forwards are at the same place."""
        self.waiting.clear()

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any | None = None
    ) -> Any:
        space = _MAPS.get(func)
        if space is None or kwargs or not _is_batch(space, *args[:2]):
            return func(*args, **(kwargs or {}))
        x, weight, bias, *others = args if len(args) > 2 else (*args, None)
        rows = x if space else x.flatten(0, -2)
        key = key_of(func, (rows, weight, *others))
        sums = self.waiting.pop(key, None)
        if sums is None:
            made = sums_of(func, rows, weight, others, self.multiple, self.checked)
            self.waiting[key] = sums = made
        y = sums.with_bias(bias, space)
        return y if space else y.reshape(*x.shape[:-1], y.shape[-1])


def _is_batch(space: int, x: Tensor, weight: Tensor) -> bool:
    """Whether these are samples and weights of float64; a sample alone has an axis less."""
    several = x.ndim == space + 2 if space else x.ndim > 1
    return several and x.dtype is weight.dtype is torch.float64


@dataclass(frozen=True, slots=True, eq=False)
class Sums:
    """What a map gives without its bias: numbers in float32 or float64, times a unit."""

    numbers: Tensor
    unit: float = 1.0

    def with_bias(self, bias: Tensor | None, space: int) -> Tensor:
        """The result in float64, a tensor of its own: whoever asked for it may change it."""
        if bias is None:
            return self.numbers.to(torch.float64, copy=True).mul_(self.unit)
        return in_units(self.numbers, self.unit, bias, space)


def sums_of(
    func: Any,
    x: Tensor,
    weight: Tensor,
    others: Sequence[Any],
    multiple: int = 1,
    checked: set[Form] | None = None,
) -> Sums:
    """Compute a map of rows without its bias, in float32 if that rounds no sum.

    Args:
        func: one of PyTorch's; it is given rows, weights, no bias and the others.
        x: float64.
        weight: float64.
        others: stride, padding, dilation and groups.
        multiple: of which weights are multiples of few bits.
        checked: forms that need no comparison with float64; one that is compared is added.

    Raises:
        MismatchError: float32 rounds on this machine.
    """
    whole = whole_numbers(weight / multiple)
    found = whole.narrowed(x) if whole is not None else None
    if whole is None or found is None:
        return Sums(_one_by_one(func, x, weight, others))
    narrow, unit = found
    space = _MAPS.get(func, 0)
    windows = _windows(space, others)
    numbers = byte_sums(narrow, whole.kernel, *windows) if space and windows else None
    of_bytes = numbers is not None
    if numbers is None:
        with no_transform():
            numbers = func(narrow, whole.kernel, None, *others)
    sums = Sums(numbers, unit * whole.unit * multiple)
    groups = others[3] if len(others) > 3 else 1
    form = form_of(windows or (func, repr(others)), groups, weight, narrow, of_bytes=of_bytes)
    known = set() if checked is None else checked
    if form in known:
        return sums
    heard = torch.linalg.vector_norm(x.flatten(1), 1, dim=1)
    row = int(heard.argmax())
    exact = func(x[row : row + 1], weight, None, *others)
    if not torch.equal(numbers[row : row + 1].double() * sums.unit, exact):
        raise MismatchError("PyTorch's float32 rounds what float64 does not")
    if heard[row] > 0:
        known.add(form)
    return sums


def _windows(space: int, others: Sequence[Any]) -> tuple[tuple[int, ...], ...] | None:
    """Stride, padding and dilation of each axis; None where padding is a word."""
    given: list[Any] = [1, 0, 1, 1]
    given[: len(others)] = others
    stride, padding, dilation, _ = given
    if isinstance(padding, str):
        return None
    return tuple(
        (n,) * space if isinstance(n, int) else tuple(n) for n in (stride, padding, dilation)
    )


def _one_by_one(func: Any, x: Tensor, weight: Tensor, others: Sequence[Any]) -> Tensor:
    """A convolution in float64, row by row: it copies every window of all that it is given."""
    if func is not torch.conv2d:
        whole: Tensor = func(x, weight, None, *others)
        return whole
    results = (func(row, weight, None, *others) for row in x.split(1))
    first = next(results)
    whole = first.new_empty((len(x), *first.shape[1:]))
    for number, result in enumerate(itertools.chain([first], results)):
        whole[number : number + 1] = result
    return whole
