"""What ops make of the ranges of single elements: the rules behind types and partial sums."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from typing_extensions import assert_never

from lapilli.ir import ops
from lapilli.ir.channel_ranges import ChannelRanges, joined
from lapilli.ir.tensor import IntArray
from lapilli.ir.types import IntRange

Shape: TypeAlias = tuple[int, ...]
Carrying: TypeAlias = (
    ops.Sum | ops.MaxPool2d | ops.Relu | ops.Gate | ops.Add | ops.Concat | ops.Wiring
)


def carried(
    op: Carrying, shapes: Sequence[Shape], operands: Sequence[ChannelRanges]
) -> ChannelRanges:
    """Ranges of the elements that `op` makes of operands of these shapes and ranges."""
    (x, *more), (shape, *others) = operands, shapes
    match op:
        case ops.Sum(axes=axes, keepdims=keepdims):
            return x.summed(shape, axes, keepdims)
        case ops.MaxPool2d():
            return x.together((1, 2))
        case ops.Relu():
            return x.clipped(0)
        case ops.Gate():
            return x * more[0]
        case ops.Add():
            return x + more[0]
        case ops.Concat(axis=axis):
            return joined(x, more[0], axis, (shape[axis], others[0][axis]))
        case ops.Reshape(shape=other):
            return x.reshaped(shape, other)
        case ops.Permute(axes=axes):
            return x.permuted(axes)
        case ops.Slice(axis=axis, start=start, stop=stop):
            return x.cut(axis, start, stop)
        case ops.Expand():
            return x
        case _:
            assert_never(op)


def weighted(op: ops.Weighted, x: IntRange, axes: int) -> ChannelRanges:
    """Sums of each output channel's weights times inputs of this range, without its bias.

    A padded or silent synapse brings 0, whatever the range says. In Python's integers, as these
    products may be longer than 64 bits.

    Args:
        op: has the weights.
        x: range of all inputs.
        axes: of the value that the op makes.
    """
    lo, hi = min(0, x.lo), max(0, x.hi)
    negative, positive = (along_channels(op, sums, axes) for sums in op.weight.row_sums)
    return ChannelRanges(lo * positive + hi * negative, hi * positive + lo * negative)


def along_channels(op: ops.Weighted, each: IntArray, axes: int) -> IntArray:
    """A Python integer for each output channel, on that axis of a value of so many axes.

    It is the last behind a linear map, the first behind a convolution.
    """
    shape = [1] * (axes - 1) + [-1] if isinstance(op, ops.Linear) else [-1, 1, 1]
    return each.astype(object).reshape(shape)
