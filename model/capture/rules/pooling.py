"""Translate pooling: maxima stay maxima, averages become sums with a constant."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import groupby
from typing import Any

import numpy as np
import torch

from lapilli.model.capture import axes, program
from lapilli.model.capture.program import Call
from lapilli.model.capture.rules.elementwise import reduced
from lapilli.model.capture.rules.enlarging import taken
from lapilli.model.capture.rules.slicing import joined, part
from lapilli.model.capture.rules.wiring import inserted
from lapilli.model.capture.translation import OperatorRule, Translation, pair, sizes, untouched
from lapilli.model.capture.windows import Windows, window_sums

aten = torch.ops.aten


# ---- maxima ----------------------------------------------------------------------------------


def _max_pool2d(t: Translation) -> Call:
    kernel = t.argument(1)
    stride = t.argument(2) or kernel
    _check(t, t.argument(4, 1), ceil=t.argument(5, False))
    return _maximum(t, pair(kernel), pair(stride), pair(t.argument(3, 0)))


def _max_pool3d(t: Translation) -> Call:
    """Over the last two axes, and one long in the axis before: Erode of Spike-driven v1."""
    kernel = _triple(t.argument(1))
    stride, padding = _triple(t.argument(2) or kernel), _triple(t.argument(3, 0))
    _check(t, t.argument(4, 1), ceil=t.argument(5, False))
    if kernel[0] != 1 or stride[0] != 1 or padding[0] != 0:
        raise t.error(f"max_pool3d with window {list(kernel)}; its first number must be 1")
    return _maximum(t, pair(kernel[1:]), pair(stride[1:]), pair(padding[1:]))


def _maximum(
    t: Translation, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
) -> Call:
    x = t.call(t.argument(0))
    untouched(x, (-1, -2))
    op = program.MaxPool(kernel=kernel, stride=stride, padding=padding)
    return t.step(op, (*x.dims[:-2], *axes.anonymous(*t.shape[-2:])), x)


def _max_pool1d(t: Translation) -> Call:
    x = t.call(t.argument(0))
    untouched(x, (-1,))
    (kernel, _), (padding, _) = pair(t.argument(1)), pair(t.argument(3, 0))
    stride, _ = pair(t.argument(2) or kernel)
    _check(t, t.argument(4, 1), ceil=t.argument(5, False))
    x = inserted(t, x, len(x.dims))
    op = program.MaxPool(kernel=(kernel, 1), stride=(stride, 1), padding=(padding, 0))
    x = t.step(op, (*x.dims[:-2], *axes.anonymous(t.shape[-1], 1)), x)
    return t.reshaped(x, t.shape)


def _check(t: Translation, dilation: Any, *, ceil: bool) -> None:
    if set(pair(dilation)) != {1} or ceil:
        raise t.error("max-pool with dilation or ceil_mode is not supported")


def _triple(value: Any) -> tuple[int, ...]:
    numbers = list(value) if isinstance(value, list | tuple) else [value]
    return tuple(numbers * 3 if len(numbers) == 1 else numbers)


# ---- averages --------------------------------------------------------------------------------


def _avg_pool(space: int) -> OperatorRule:
    def rule(t: Translation) -> Call:
        x = t.call(t.argument(0))
        kernel = _several(t.argument(1), space)
        stride = _several(t.argument(2) or kernel, space)
        padding = _several(t.argument(3, 0), space)
        if t.argument(4, False):
            raise t.error("average pooling with ceil_mode is not supported")
        count = t.argument(6) or math.prod(kernel)
        untouched(x, range(-space, 0))
        if any(padding) and not t.argument(5, True) and not t.argument(6):
            return _without_padding(t, x, Windows(kernel, stride, padding, average=True))
        if stride == kernel and not any(padding):
            return t.scaled(_tiles(t, x, kernel), Fraction(1, count))
        return t.scaled(_overlapping(t, x, kernel, stride, padding), Fraction(1, count))

    return rule


def _tiles(t: Translation, x: Call, kernel: Sequence[int]) -> Call:
    """Sum of each of the windows that lie side by side."""
    split: list[int] = []
    first = len(x.dims) - len(kernel)
    for axis, k in enumerate(kernel, first):
        x = part(t, x, axis, 0, sizes(x)[axis] // k * k)
        split += [sizes(x)[axis] // k, k]
    x = t.reshaped(x, (*sizes(x)[:first], *split))
    within = [first + 2 * i + 1 for i in range(len(kernel))]
    return reduced(t, x, within, keepdims=False, mean=False)


def _overlapping(
    t: Translation,
    x: Call,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
) -> Call:
    """Sum of each window: a convolution of each channel with ones."""
    space = len(kernel)
    if len(x.dims) != space + 2:
        raise t.error("is an average pool of images without a batch axis")
    untouched(x, (1,))
    channels = sizes(x)[1]
    idle = (1,) * (2 - space)
    op = program.Synapse(
        weight=t.kept(np.ones((channels, 1, *kernel)), f"{t.node.name}.ones"),
        bias=None,
        space=space,
        stride=pair((*stride, *idle)),
        padding=pair((*padding, *(0 for _ in idle))),
        groups=channels,
    )
    return t.step(op, (x.dims[0], *axes.anonymous(*t.shape[1:])), x)


def _without_padding(t: Translation, x: Call, windows: Windows) -> Call:
    """Averages of what lies inside: sums over one divisor."""
    calls = window_sums(f"{t.node.name}.sums", t.path, windows, x)
    for call in calls:
        t.reader.add(call)
    lengths = sizes(x)[-len(windows.kernel) :]
    return t.step(
        program.Scale(factor=Fraction(1, windows.divisor(lengths))), calls[-1].dims, calls[-1]
    )


def _adaptive(space: int) -> OperatorRule:
    def rule(t: Translation) -> Call:
        x = t.call(t.argument(0))
        untouched(x, range(-space, 0))
        wanted = _several(t.argument(1), space)
        has = sizes(x)[-space:]
        if any(n % m for n, m in zip(has, wanted, strict=True)):
            return _uneven(t, x, len(x.dims) - space, wanted)
        kernel = [n // m for n, m in zip(has, wanted, strict=True)]
        return t.scaled(_tiles(t, x, kernel), Fraction(1, math.prod(kernel)))

    return rule


def _uneven(t: Translation, x: Call, first: int, wanted: Sequence[int]) -> Call:
    """Averages of windows of several sizes: sums, taken whole times, over one divisor.

    Window i of m over n elements has those from i * n / m, rounded down, to (i + 1) * n / m, up.
    """
    along = {}
    for axis, m in enumerate(wanted, first):
        n = sizes(x)[axis]
        along[axis] = [range(i * n // m, -(-(i + 1) * n // m)) for i in range(m)]
    common = {axis: math.lcm(*map(len, windows)) for axis, windows in along.items()}
    # First, so that a linear map before it can take the divisor up if it is no power of two.
    x = t.scaled(x, Fraction(1, math.prod(common.values())))
    for axis, windows in along.items():
        if any(len(w) > 1 for w in windows) or len(windows) != sizes(x)[axis]:
            x = _averaged(t, x, axis, windows, common[axis])
    return x


def _averaged(t: Translation, x: Call, axis: int, windows: Sequence[range], common: int) -> Call:
    """Sums of the windows, each taken `common` by its length times; neighbours alike at once."""
    parts = []
    for (size, _), alike in groupby(enumerate(windows), lambda w: (len(w[1]), w[1].start - w[0])):
        row = [window for _, window in alike]
        terms = [part(t, x, axis, row[0].start + tap, len(row)) for tap in range(size)]
        total = terms[0]
        for term in terms[1:]:
            total = t.step(program.Add(), total.dims, total, term)
        parts.append(taken(t, total, common // size))
    return joined(t, parts, axis)


def _several(value: Any, count: int) -> list[int]:
    numbers = list(value) if isinstance(value, list | tuple) else [value]
    return numbers * count if len(numbers) == 1 else numbers


POOLING: Mapping[Any, OperatorRule] = {
    aten.max_pool1d.default: _max_pool1d,
    aten.max_pool2d.default: _max_pool2d,
    aten.max_pool3d.default: _max_pool3d,
    aten.avg_pool1d.default: _avg_pool(1),
    aten.avg_pool2d.default: _avg_pool(2),
    aten.adaptive_avg_pool1d.default: _adaptive(1),
    aten.adaptive_avg_pool2d.default: _adaptive(2),
}
