"""Where elements of a value lie: wiring moves no data, it says how to count through them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.lib.stride_tricks import as_strided
from typing_extensions import Self, assert_never

from lapilli.ir import ops
from lapilli.ir.tensor import IntArray


def contiguous(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides of a row-major array, in elements.

    >>> contiguous((2, 3, 4))
    (12, 4, 1)
    """
    return tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))


@dataclass(frozen=True, slots=True)
class View:
    """A value of one time step, as elements of a buffer.

    Attributes:
        buffer: the node whose value lies there as it was computed.
        shape: of the value.
        strides: elements of the buffer from one index to the next, of each axis.
        offset: of the first element.
    """

    buffer: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0

    @classmethod
    def whole(cls, buffer: str, shape: tuple[int, ...], order: Sequence[int] | None = None) -> Self:
        """A buffer of its own; `order` names the axes from the slowest to the fastest."""
        order = range(len(shape)) if order is None else order
        packed = contiguous([shape[a] for a in order])
        by_axis = dict(zip(order, packed, strict=True))
        return cls(buffer, shape, tuple(by_axis[a] for a in range(len(shape))))

    @property
    def order(self) -> tuple[int, ...]:
        """Axes from the slowest to the fastest; those that repeat come as they stand, first."""
        axes = range(len(self.shape))
        return tuple(sorted(axes, key=lambda a: -self.strides[a] if self.strides[a] else -math.inf))

    def of(self, flat: IntArray) -> IntArray:
        """The values (..., *shape) in buffers (..., elements), as a view of those."""
        size = flat.strides[-1]
        strides = (*flat.strides[:-1], *(s * size for s in self.strides))
        shape = (*flat.shape[:-1], *self.shape)
        return as_strided(flat[..., self.offset :], shape, strides, writeable=True)

    def as_lying(self, values: IntArray) -> IntArray:
        """Values (..., *shape) as (..., elements): how they lie in a buffer of their own."""
        lead = values.shape[: values.ndim - len(self.shape)]
        flat = np.zeros((*lead, math.prod(self.shape)), np.int64)
        self.of(flat)[...] = values
        return flat


def wired(op: ops.Wiring | ops.Delay, x: View) -> View | None:
    """Count through the same elements as wiring asks; None where they must be copied first."""
    match op:
        case ops.Delay():
            return x
        case ops.Permute(axes=axes):
            return View(x.buffer, _at(x.shape, axes), _at(x.strides, axes), x.offset)
        case ops.Expand(shape=shape):
            sizes = zip(x.shape, shape, x.strides, strict=True)
            return View(x.buffer, shape, tuple(s if n == m else 0 for n, m, s in sizes), x.offset)
        case ops.Slice(axis=axis, start=start, stop=stop):
            shape = (*x.shape[:axis], stop - start, *x.shape[axis + 1 :])
            return View(x.buffer, shape, x.strides, x.offset + start * x.strides[axis])
        case ops.Reshape(shape=shape):
            strides = _reshaped(x, shape)
            return None if strides is None else View(x.buffer, shape, strides, x.offset)
        case _:
            assert_never(op)


def _at(values: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(values[a] for a in axes)


def _reshaped(x: View, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Strides of another shape, where groups of axes merge into one and part again."""
    old = [(n, s) for n, s in zip(x.shape, x.strides, strict=True) if n != 1]
    new = [n for n in shape if n != 1]
    strides: list[int] = []
    i = j = 0
    while i < len(old) or j < len(new):
        merged, fresh, last_i, last_j = old[i][0], new[j], i + 1, j + 1
        while merged != fresh:
            if merged < fresh:
                merged *= old[last_i][0]
                last_i += 1
            else:
                fresh *= new[last_j]
                last_j += 1
        group = old[i:last_i]
        for (_, outer), (n, inner) in pairwise(group):
            if outer != n * inner:
                return None
        packed = contiguous(new[j:last_j])
        strides += [p * group[-1][1] for p in packed]
        i, j = last_i, last_j
    given = iter(strides)
    return tuple(next(given) if n != 1 else 0 for n in shape)


def broadcast(shape: tuple[int, ...], onto: tuple[int, ...]) -> tuple[int, ...]:
    """Strides with which the elements of a constant repeat over a value.

    >>> broadcast((3, 1), (2, 3, 4))
    (0, 1, 0)
    """
    padded = ((1,) * len(onto) + shape)[-len(onto) :] if onto else ()
    packed = contiguous(padded)
    return tuple(0 if n == 1 else s for n, s in zip(padded, packed, strict=True))
