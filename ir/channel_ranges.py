"""Ranges of the elements of a value, as far as they are told apart: one for each channel, mostly.

What the weights of one output channel can sum up to is known of that channel alone. Where currents
of several synapses are added, the largest sum of one channel is less than the sum of all largest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lapilli.ir.types import IntRange

IntArray = npt.NDArray[np.int64]
_MOST = 1 << 20  # ranges of a value; where more would be told apart, axes are taken together


@dataclass(frozen=True, slots=True, eq=False)
class ChannelRanges:
    """The closed intervals [lo, hi] of the elements of a value.

    Both arrays have an axis for each of the value's, of its length, or of length 1 where all
    elements along it have one range. They are as wide as the value's own range allows: whoever
    makes them has seen that it leaves no 63 bits.
    """

    lo: IntArray
    hi: IntArray

    @classmethod
    def of(cls, whole: IntRange, axes: int) -> ChannelRanges:
        """One range for all elements of a value of so many axes."""
        shape = (1,) * axes
        return cls(np.full(shape, whole.lo, np.int64), np.full(shape, whole.hi, np.int64))

    @property
    def whole(self) -> IntRange:
        """The smallest range that holds all."""
        return IntRange(int(self.lo.min()), int(self.hi.max()))

    @property
    def magnitude(self) -> IntArray:
        """Largest absolute value of each."""
        return np.maximum(np.abs(self.lo), np.abs(self.hi))

    def __add__(self, other: ChannelRanges) -> ChannelRanges:
        """Ranges of an elementwise sum of two values of one shape."""
        return ChannelRanges(self.lo + other.lo, self.hi + other.hi)

    def __mul__(self, other: ChannelRanges) -> ChannelRanges:
        """Ranges of an elementwise product of two independent values of one shape."""
        corners = [a * b for a in (self.lo, self.hi) for b in (other.lo, other.hi)]
        return ChannelRanges(np.minimum.reduce(corners), np.maximum.reduce(corners))

    def __or__(self, other: ChannelRanges) -> ChannelRanges:
        """Smallest ranges that hold both."""
        return ChannelRanges(np.minimum(self.lo, other.lo), np.maximum(self.hi, other.hi))

    def times(self, count: int) -> ChannelRanges:
        """Ranges of sums of so many such values."""
        return ChannelRanges(self.lo * count, self.hi * count)

    def shifted(self, bits: int) -> ChannelRanges:
        """Ranges of x << bits, or of x >> -bits, rounded down, where bits are negative."""
        if bits >= 0:
            return ChannelRanges(self.lo << bits, self.hi << bits)
        return ChannelRanges(self.lo >> -bits, self.hi >> -bits)

    def clipped(self, least: int) -> ChannelRanges:
        """Ranges of the larger of x and a number."""
        return ChannelRanges(np.maximum(self.lo, least), np.maximum(self.hi, least))

    def together(self, axes: Sequence[int]) -> ChannelRanges:
        """Take all elements along some axes together; the axes stay, with length 1."""
        over = tuple(axes)
        return ChannelRanges(self.lo.min(over, keepdims=True), self.hi.max(over, keepdims=True))

    def summed(
        self, shape: tuple[int, ...], axes: tuple[int, ...], keepdims: bool
    ) -> ChannelRanges:
        """Ranges of sums over axes of a value of this shape."""
        alike = math.prod(n for a, n in enumerate(shape) if a in axes and self.lo.shape[a] == 1)
        lo, hi = (np.asarray(r.sum(axes, keepdims=keepdims)) * alike for r in (self.lo, self.hi))
        return ChannelRanges(lo, hi)

    def permuted(self, axes: tuple[int, ...]) -> ChannelRanges:
        """Ranges of a value whose axes are put into another order."""
        return ChannelRanges(self.lo.transpose(axes), self.hi.transpose(axes))

    def cut(self, axis: int, start: int, stop: int) -> ChannelRanges:
        """Ranges of elements start..stop - 1 along an axis."""
        if self.lo.shape[axis] == 1:
            return self
        at = (slice(None),) * axis + (slice(start, stop),)
        return ChannelRanges(self.lo[at], self.hi[at])

    def reshaped(self, shape: tuple[int, ...], other: tuple[int, ...]) -> ChannelRanges:
        """Ranges of a value of this shape when it has the other, with as many elements.

        Axes that become others together stay without distinction where they had none.
        """
        made, lengths = self, list(self.lo.shape)
        sizes: list[int] = []
        for mine, new in _groups(shape, other):
            told = math.prod(shape[a] for a in mine)
            if all(lengths[a] == 1 for a in mine):
                sizes += [1] * len(new)
                continue
            others = math.prod(n for a, n in enumerate(lengths) if a not in mine)
            if told * others > _MOST:
                made = made.together(mine)
                sizes += [1] * len(new)
            else:
                sizes += [other[a] for a in new]
                full = [shape[a] if a in mine else n for a, n in enumerate(made.lo.shape)]
                made = ChannelRanges(*(np.broadcast_to(r, full) for r in (made.lo, made.hi)))
            lengths = list(made.lo.shape)
        return ChannelRanges(made.lo.reshape(sizes), made.hi.reshape(sizes))


def joined(
    a: ChannelRanges, b: ChannelRanges, axis: int, lengths: tuple[int, int]
) -> ChannelRanges:
    """Ranges of two values, one behind the other along an axis where they have these lengths."""

    def put(first: IntArray, second: IntArray) -> IntArray:
        common = np.broadcast_shapes(*(_but(r.shape, axis, 1) for r in (first, second)))
        wide = [
            np.broadcast_to(r, _but(common, axis, n))
            for r, n in zip((first, second), lengths, strict=True)
        ]
        return np.concatenate(wide, axis)

    return ChannelRanges(put(a.lo, b.lo), put(a.hi, b.hi))


def _but(shape: Sequence[int], axis: int, length: int) -> tuple[int, ...]:
    """The shape with another length of one axis."""
    return (*shape[:axis], length, *shape[axis + 1 :])


def _groups(
    shape: tuple[int, ...], other: tuple[int, ...]
) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The fewest axes of two shapes that hold the same elements, from the first to the last."""
    found, i, j = [], 0, 0
    while i < len(shape) or j < len(other):
        start = i, j
        mine = new = 1
        while True:
            if mine <= new and i < len(shape):
                mine *= shape[i]
                i += 1
            elif j < len(other):
                new *= other[j]
                j += 1
            else:
                mine *= shape[i]
                i += 1
            if mine == new and (i, j) != start:
                break
        found.append((tuple(range(start[0], i)), tuple(range(start[1], j))))
    return found
