"""Follow the time axis and the batch axis through every reshape.

A dimension is a product of factors, outermost first. Two factors have names, T and B; the
rest is anonymous. A reshape that would have to cut T or B, or an operator that would sum
or weigh across them, is an error: outside neurons and read-out they never mix.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Factor:
    """Part of a dimension: `name` is "T", "B" or "" for everything else."""

    name: str
    size: int

    def __str__(self) -> str:
        return self.name or str(self.size)


Dims: TypeAlias = tuple[tuple[Factor, ...], ...]


class MixError(ValueError):
    """Time or batch would mix with something; the capture adds the module path."""


def anonymous(*sizes: int) -> Dims:
    """Dimensions of which nothing is known but their size."""
    return tuple((Factor("", n),) if n != 1 else () for n in sizes)


def shape(dims: Dims) -> tuple[int, ...]:
    """Sizes of the dimensions."""
    return tuple(math.prod(f.size for f in dim) for dim in dims)


def show(dims: Dims) -> str:
    """For messages: `[T*B, 64, 4, 4]`."""
    return "[" + ", ".join("*".join(map(str, dim)) or "1" for dim in dims) + "]"


def has(dims: Sequence[tuple[Factor, ...]], name: str) -> bool:
    """Whether the factor `name` is in any of these dimensions."""
    return any(f.name == name for dim in dims for f in dim)


def reshape(dims: Dims, sizes: Sequence[int]) -> Dims:
    """Regroup the factors in row-major order, cutting only anonymous ones.

    >>> T, B = Factor("T", 4), Factor("B", 7)
    >>> show(reshape(((T, B), (Factor("", 12),)), (4, 7, 3, 4)))
    '[T, B, 3, 4]'

    Raises:
        MixError: the new shape would cut through T or B.
    """
    left = list(_merged([f for dim in dims for f in dim]))
    result = []
    for size in sizes:
        taken: list[Factor] = []
        need = size
        while need > 1:
            if not left:
                raise MixError(f"cannot reshape {show(dims)} to {_asked(dims, sizes)}")
            factor = left.pop(0)
            if need % factor.size == 0:
                taken.append(factor)
                need //= factor.size
            elif factor.size % need == 0 and not factor.name:
                taken.append(Factor("", need))
                left.insert(0, Factor("", factor.size // need))
                need = 1
            else:
                raise MixError(
                    f"reshaping {show(dims)} to {_asked(dims, sizes)} cuts through {factor}; "
                    "every step of every sample runs by itself"
                )
        result.append(_merged(taken))
    return tuple(result)


def _asked(dims: Dims, sizes: Sequence[int]) -> str:
    """The new shape, for messages; how many samples it was tried with is nobody's business."""
    batch = {f.size for dim in dims for f in dim if f.name == "B"}
    return "[" + ", ".join("B" if n in batch else str(n) for n in sizes) + "]"


def _merged(factors: list[Factor]) -> tuple[Factor, ...]:
    merged: list[Factor] = []
    for factor in factors:
        if merged and not factor.name and not merged[-1].name:
            factor = Factor("", merged.pop().size * factor.size)
        merged.append(factor)
    return tuple(merged)


def broadcast(a: Dims, b: Dims) -> Dims:
    """Dimensions of an elementwise result.

    Raises:
        MixError: T or B of one operand meets something else in the other.
    """
    rank = max(len(a), len(b))
    a, b = ((((),) * (rank - len(d)) + d) for d in (a, b))
    result = []
    for x, y in zip(a, b, strict=True):
        if x and y and (named(x) or named(y)) and x != y:
            raise MixError(f"{show((x,))} of {show(a)} meets {show((y,))} of {show(b)}")
        if bool(x) != bool(y) and named(x or y):
            raise MixError(f"{show(a)} and {show(b)} differ in time or batch")
        result.append(x or y)
    return tuple(result)


def named(dim: tuple[Factor, ...]) -> bool:
    """Whether T or B is in this dimension."""
    return any(f.name for f in dim)


def kept(dim: tuple[Factor, ...]) -> bool:
    """Whether anything of this dimension is left in one time step of one sample."""
    return not dim or any(not f.name for f in dim)


def step_shape(dims: Dims) -> tuple[int, ...]:
    """Shape of one time step of one sample: T and B taken out."""
    return tuple(math.prod(f.size for f in dim if not f.name) for dim in dims if kept(dim))


def step_axes(dims: Dims) -> list[int | None]:
    """For each dimension its axis in `step_shape`, None if it is T and B alone."""
    axes: list[int | None] = []
    count = 0
    for dim in dims:
        axes.append(count if kept(dim) else None)
        count += kept(dim)
    return axes


def to_steps(array: npt.NDArray[Any], dims: Dims, batch: int) -> npt.NDArray[Any]:
    """Bring an array of these dimensions into the order (T, B, *step_shape).

    `batch` replaces the size of B, which at capture was another. A T or B that is not there
    has length 1.
    """
    factors, order = _stepwise(dims)
    sizes = [batch if f.name == "B" else f.size for f in factors]
    moved = array.reshape(sizes).transpose(order)
    return np.asarray(moved.reshape(*moved.shape[:2], *step_shape(dims)))


def from_steps(array: npt.NDArray[Any], dims: Dims) -> npt.NDArray[Any]:
    """Undo `to_steps`: from (T, B, *step_shape) to these dimensions."""
    factors, order = _stepwise(dims)
    rest = [factors[i].size for i in order[2:]]
    moved = array.reshape(*array.shape[:2], *rest).transpose(np.argsort(order))
    by_factor = list(moved.shape)
    sizes = []
    first = len(factors) - sum(len(dim) for dim in dims)  # a T or B that is not there
    for dim in dims:
        sizes.append(math.prod(by_factor[first : first + len(dim)]))
        first += len(dim)
    return np.asarray(moved.reshape(sizes))


def _stepwise(dims: Dims) -> tuple[list[Factor], list[int]]:
    """All factors, T and B among them, and the order that brings T and B to the front."""
    factors = [f for dim in dims for f in dim]
    factors[:0] = [Factor(n, 1) for n in ("T", "B") if not has(dims, n)]
    named = [next(i for i, f in enumerate(factors) if f.name == n) for n in ("T", "B")]
    return factors, [*named, *(i for i in range(len(factors)) if i not in named)]
