"""Maxima of windows: OR of spikes; of other integers a row of max(a, b) = a + max(b - a, 0).

The design eliminates candidates bit by bit, which takes planes of every candidate and 2 n + 1
neurons a bit for n of them. Rectified differences take n - 1 a bit, no planes first, and, as
rows and columns are independent, 2 + 2 times instead of 8 for a window of 3 x 3.
"""

from __future__ import annotations

import numpy as np

from lapilli.ir import ops
from lapilli.ir.passes.binary.building import Building
from lapilli.ir.passes.binary.terms import Terms, value
from lapilli.ir.passes.binary.thresholds import OR, rectified
from lapilli.ir.tensor import IntArray, IntTensor


def any_of(build: Building, name: str, op: ops.MaxPool2d, x: str) -> None:
    """Pool of binary spikes: how many of the window fired, and whether one did."""
    ones = np.ones((build.types[x].shape[0], 1, *op.kernel), np.int64)
    count = _depthwise(ones, op.stride, op.padding)
    build.put(name, OR, build.new(f"{name}.count", count, x))


def largest_of(build: Building, name: str, op: ops.MaxPool2d, x: str) -> None:
    """Pool of other integers: along rows, then along columns."""
    bounds = build.graph.types[x].range
    # A padded place brings 0, and must not win: count from the lowest value.
    lowest = min(0, bounds.lo) if max(op.padding) else bounds.lo
    shift = lowest if max(op.padding) else 0
    best = build.scaled(f"{name}.above", x, 1, -shift)
    for axis, role in ((1, "row"), (0, "column")):
        best = _along(build, f"{name}.{role}", op, axis, best, bounds.hi - lowest)
    build.named(name, build.scaled(f"{name}.below", best, 1, shift))


def _along(build: Building, name: str, op: ops.MaxPool2d, axis: int, x: str, rise: int) -> str:
    """Maximum over one axis of the window: of each candidate and the best so far."""
    size, stride, padding = (
        tuple(given[a] if a == axis else idle for a in (0, 1))
        for given, idle in ((op.kernel, 1), (op.stride, 1), (op.padding, 0))
    )
    best = ""
    for i in range(op.kernel[axis]):
        pick = np.zeros((build.types[x].shape[0], 1, *size), np.int64)
        pick.reshape(len(pick), -1)[:, i] = 1
        picked = _depthwise(pick, (stride[0], stride[1]), (padding[0], padding[1]))
        candidate = build.new(f"{name}{i}", picked, x)
        if i == 0:
            best = candidate
            continue
        less = build.scaled(f"{candidate}.less", best, -1)
        ahead = build.total(f"{candidate}.ahead", [candidate, less])
        gained = Terms(rectified(build, candidate, ahead, rise))
        if gained.spikes:
            gain = value(build, f"{candidate}.gain", gained)
            best = build.total(f"{candidate}.best", [best, gain])
    return best


def _depthwise(kernel: IntArray, stride: tuple[int, int], padding: tuple[int, int]) -> ops.Conv2d:
    return ops.Conv2d(
        weight=IntTensor.of(kernel),
        bias=IntTensor.of(np.zeros(len(kernel), np.int64)),
        stride=stride,
        padding=padding,
        groups=len(kernel),
        graded=True,
    )
