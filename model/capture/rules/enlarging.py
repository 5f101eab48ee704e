"""Translate what makes maps larger: interpolation, and transposed convolutions.

A nearest neighbour is wiring: each element is repeated. Between two neighbours, as bilinear
interpolation takes it, values are added whole times. A transposed convolution of stride s is one
convolution with s * s times as many channels, one for each place that an element of the result
may have between two elements of the operand, and wiring that lays them side by side: no zero is
put between elements, and every tap is one weight.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch

from lapilli.model.capture import axes, program
from lapilli.model.capture.program import Call, FloatArray
from lapilli.model.capture.rules.slicing import joined, part
from lapilli.model.capture.rules.wiring import inserted, repeated
from lapilli.model.capture.translation import OperatorRule, Translation, pair, sizes, untouched

aten = torch.ops.aten


def _nearest(space: int) -> OperatorRule:
    def rule(t: Translation) -> Call:
        x = t.call(t.argument(0))
        has, wanted = sizes(x)[-space:], t.shape[-space:]
        if has == wanted:
            return x
        untouched(x, range(-space, 0))
        _check_multiples(t, has, wanted)
        first = len(x.dims) - space
        apart, times = list(sizes(x)[:first]), list(sizes(x)[:first])
        for n, m in zip(has, wanted, strict=True):
            apart += [n, 1]
            times += [n, m // n]
        return t.reshaped(repeated(t, t.reshaped(x, apart), times), t.shape)

    return rule


def _check_multiples(t: Translation, has: Sequence[int], wanted: Sequence[int]) -> None:
    if any(m % n for n, m in zip(has, wanted, strict=True)):
        raise t.error(
            f"interpolates {list(has)} to {list(wanted)}, so that some elements are repeated "
            "more often than others; whole multiples are supported"
        )


# ---- means of two neighbours -----------------------------------------------------------------


def _bilinear(space: int) -> OperatorRule:
    """Sums of neighbours, each taken whole times, over one divisor; elements at the edge repeat."""

    def rule(t: Translation) -> Call:
        x = t.call(t.argument(0))
        has, wanted = sizes(x)[-space:], t.shape[-space:]
        if has == wanted:
            return x
        untouched(x, range(-space, 0))
        if t.argument(2):
            raise t.error("interpolates with align_corners=True, whose weights differ everywhere")
        _check_multiples(t, has, wanted)
        along = {
            axis: m // n
            for axis, (n, m) in enumerate(zip(has, wanted, strict=True), len(x.dims) - space)
            if m > n
        }
        # First, so that a linear map before it can take the divisor up if it is no power of two.
        x = t.scaled(x, Fraction(1, math.prod(2 * times for times in along.values())))
        for axis, times in along.items():
            x = _between(t, x, axis, times)
        return x

    return rule


def _between(t: Translation, x: Call, axis: int, times: int) -> Call:
    """2 * times the value of `times` elements for each: element q, and its nearer neighbour.

    The middle of part j lies (2 j + 1 - times) / (2 times) elements beyond that of element q.
    """
    n = sizes(x)[axis]
    before, after = x, x
    if n > 1:
        ends = part(t, x, axis, 0, 1), part(t, x, axis, n - 1, 1)
        before = joined(t, [ends[0], part(t, x, axis, 0, n - 1)], axis)
        after = joined(t, [part(t, x, axis, 1, n - 1), ends[1]], axis)
    parts = []
    for j in range(times):
        beyond = 2 * j + 1 - times
        y = taken(t, x, 2 * times - abs(beyond))
        if beyond:
            neighbour = taken(t, before if beyond < 0 else after, abs(beyond))
            y = t.step(program.Add(), x.dims, neighbour, y)
        parts.append(inserted(t, y, axis + 1))
    shape = list(sizes(x))
    shape[axis] = n * times
    return t.reshaped(joined(t, parts, axis + 1), shape)


def taken(t: Translation, x: Call, times: int) -> Call:
    """A value that many times, by doubling."""
    if times == 1:
        return x
    half = taken(t, x, times // 2)
    double = t.step(program.Add(), x.dims, half, half)
    return t.step(program.Add(), x.dims, double, x) if times % 2 else double


# ---- transposed convolutions -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Places:
    """One axis of a transposed convolution, told by the places between two elements.

    Element s * q + r of the result is at place r; it hears element q + m of the operand through
    tap k where m = (r + padding - k * dilation) / s is whole.
    """

    operand: int
    result: int
    taps: int
    stride: int
    padding: int
    dilation: int

    def heard(self) -> Iterator[tuple[int, int, int]]:
        """Place, tap, and how far ahead of q that tap hears."""
        for place, tap in itertools.product(range(self.stride), range(self.taps)):
            ahead, apart = divmod(place + self.padding - tap * self.dilation, self.stride)
            if not apart:
                yield place, tap, ahead

    @property
    def count(self) -> int:
        """How many q there are; the last may have fewer places."""
        return -(-self.result // self.stride)

    @property
    def margin(self) -> int:
        """Zeros around the operand, so that there are `count` windows, the first at q = 0."""
        ahead = [m for _, _, m in self.heard()]
        return max(0, -min(ahead), self.count + max(ahead) - self.operand)

    @property
    def window(self) -> int:
        """Elements of the operand that a window hears."""
        return self.operand + 2 * self.margin + 1 - self.count


def _transposed(space: int) -> OperatorRule:
    def rule(t: Translation) -> Call:
        x = t.call(t.argument(0))
        if len(x.dims) != space + 2:
            raise t.error("is a convolution of images without a batch axis")
        untouched(x, range(1, space + 2))
        weight, groups = t.constant(t.argument(1)).numpy(), t.argument(6, 1)
        stride, padding = (_several(t.argument(i, d), space) for i, d in ((3, 1), (4, 0)))
        dilation = _several(t.argument(7, 1), space)
        along = zip(
            sizes(x)[2:], t.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True
        )
        axes_ = [_Places(*numbers) for numbers in along]
        each = weight.reshape(groups, -1, *weight.shape[1:]).swapaxes(1, 2)
        by_output = each.reshape(-1, *each.shape[2:])  # (out, in / groups, taps)
        channels = len(by_output)
        kernel = _in_places(by_output, axes_)
        bias = t.argument(2)
        idle = (1,) * (2 - space)
        op = program.Synapse(
            weight=t.kept(kernel.reshape(-1, *kernel.shape[1 + space :]), f"{t.node.name}.weight"),
            bias=None
            if bias is None
            else t.kept(_repeated(t, bias, stride), f"{t.node.name}.bias"),
            space=space,
            padding=pair((*(a.margin for a in axes_), *(0 for _ in idle))),
            groups=groups,
        )
        counts = [a.count for a in axes_]
        places = len(kernel.reshape(-1, *kernel.shape[1 + space :]))
        y = t.step(op, (x.dims[0], *axes.anonymous(places, *counts)), x)
        return _side_by_side(t, y, channels, axes_)

    return rule


def _in_places(weight: FloatArray, along: Sequence[_Places]) -> FloatArray:
    """(out, in / groups, taps) as (out, places, in / groups, windows); places and so on by axis."""
    out, fan_in = weight.shape[:2]
    places, windows = [a.stride for a in along], [a.window for a in along]
    made = np.zeros((out, *places, fan_in, *windows))
    all_ = slice(None)
    for heard in itertools.product(*(a.heard() for a in along)):
        where = tuple(place for place, _, _ in heard)
        taps = tuple(tap for _, tap, _ in heard)
        at = tuple(m + a.margin for (_, _, m), a in zip(heard, along, strict=True))
        to: tuple[int | slice, ...] = (all_, *where, all_, *at)
        taken: tuple[int | slice, ...] = (all_, all_, *taps)
        made[to] = weight[taken]
    return made


def _repeated(t: Translation, bias: Any, stride: Sequence[int]) -> FloatArray:
    """A bias for every place."""
    return np.repeat(t.constant(bias).numpy(), math.prod(stride))


def _side_by_side(t: Translation, y: Call, channels: int, along: Sequence[_Places]) -> Call:
    """Channels of places as places of the map, cut to its length."""
    space = len(along)
    places, counts = [a.stride for a in along], [a.count for a in along]
    first = sizes(y)[0]
    y = t.reshaped(y, (first, channels, *places, *counts))
    order = [n for i in range(space) for n in (2 + space + i, 2 + i)]
    y = t.permuted(y, [0, 1, *order])
    y = t.reshaped(y, (first, channels, *(a.stride * a.count for a in along)))
    for axis, a in enumerate(along, 2):
        y = part(t, y, axis, 0, a.result)
    return y


def _several(value: Any, count: int) -> list[int]:
    numbers = list(value) if isinstance(value, list | tuple) else [value]
    return numbers * count if len(numbers) == 1 else numbers


ENLARGING: Mapping[Any, OperatorRule] = {
    aten.upsample_nearest1d.vec: _nearest(1),
    aten.upsample_nearest2d.vec: _nearest(2),
    aten.upsample_nearest3d.vec: _nearest(3),
    aten._upsample_nearest_exact1d.vec: _nearest(1),  # noqa: SLF001
    aten._upsample_nearest_exact2d.vec: _nearest(2),  # noqa: SLF001
    aten._upsample_nearest_exact3d.vec: _nearest(3),  # noqa: SLF001
    aten.upsample_linear1d.vec: _bilinear(1),
    aten.upsample_bilinear2d.vec: _bilinear(2),
    aten.conv_transpose1d.default: _transposed(1),
    aten.conv_transpose2d.input: _transposed(2),
}
