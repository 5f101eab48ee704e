"""Sums of windows that overlap, as slices that are added: an exact integer for the map behind.

An average pool is a convolution of each channel with ones. Where that cannot be merged with the
map before or behind it, because one of them pads, the windows are summed instead: spikes become
counts, which a synapse takes, and currents stay currents.

A pool that leaves its padding out of the average divides by fewer elements at the edges. Along an
axis, each sum is then taken as many times as makes one divisor of all: (a + b) / 2 and
(a + b + c) / 3 are 3 (a + b) and 2 (a + b + c), over 6.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from lapilli.model.capture import program
from lapilli.model.capture.axes import Dims, anonymous, shape, step_axes
from lapilli.model.capture.program import Call


@dataclass(frozen=True, slots=True)
class Windows:
    """Of a pool, one number for each of the last axes.

    Attributes:
        average: whether sums of fewer elements are taken more often; then `divisor` makes averages
            of them.
    """

    kernel: Sequence[int]
    stride: Sequence[int]
    padding: Sequence[int]
    average: bool = False

    def divisor(self, sizes: Sequence[int]) -> int:
        """Of all sums over axes of these lengths."""
        return math.prod(self.common(axis, length) for axis, length in enumerate(sizes))

    def common(self, axis: int, length: int) -> int:
        """A multiple of how many elements each window along an axis has."""
        return math.lcm(*(len(taps) for taps, *_ in self.alike(axis, length)))

    def alike(self, axis: int, length: int) -> Iterator[tuple[range, int, int]]:
        """Windows in a row that have the same taps: those taps, the first window, how many.

        >>> list(Windows([3], [2], [1]).alike(0, 8))
        [(range(1, 3), 0, 1), (range(0, 3), 1, 3)]
        """
        kernel, stride, padding = self.kernel[axis], self.stride[axis], self.padding[axis]

        def taps(window: int) -> range:
            start = window * stride - padding
            return range(max(0, -start), min(kernel, length - start))

        count = (length + 2 * padding - kernel) // stride + 1
        for inside, windows in groupby(range(count), taps):
            first, *more = windows
            yield inside, first, 1 + len(more)


def window_sums(name: str, path: str, windows: Windows, source: Call) -> list[Call]:
    """Calls that add up windows of `source`, one axis after the other; the last has the name."""
    making = _Making(name, path, windows, source)
    for axis in reversed(range(len(windows.kernel))):
        making.add_up(axis)
    *before, last = making.calls
    return [*before, Call(name, last.op, last.inputs, path, last.dims)]


@dataclass(slots=True)
class _Making:
    """Calls in a row, the last of them on the value that has been reached."""

    name: str
    path: str
    windows: Windows
    value: Call
    calls: list[Call] = field(default_factory=list)

    def put(self, op: program.Operator, dims: Dims, *inputs: Call) -> Call:
        """One more call."""
        name = f"{self.name}.window.{len(self.calls)}"
        self.calls.append(Call(name, op, tuple(i.name for i in inputs), self.path, dims))
        return self.calls[-1]

    def add_up(self, number: int) -> None:
        """Sums of the windows along one of the last axes; at the edges of fewer elements."""
        windows = self.windows
        kernel, stride, padding = (
            v[number] for v in (windows.kernel, windows.stride, windows.padding)
        )
        if (kernel, stride) == (1, 1):
            return
        x = self.value
        axis = len(x.dims) - len(windows.kernel) + number
        length = shape(x.dims)[axis]
        heard = {(tap - padding) % stride for tap in range(kernel)}
        phases = self._phases(x, axis, stride, sorted(heard))
        common = windows.common(number, length)
        parts = []
        for taps, first, size in windows.alike(number, length):
            elements = [divmod(tap - padding, stride) for tap in taps]
            terms = [self._part(phases[r], axis, first + q, size) for q, r in elements]
            part = self._joined(program.Add(), axis, terms)
            parts.append(self._times(part, common // len(taps)) if windows.average else part)
        self.value = self._joined(program.Concat(axis=_step(x, axis)), axis, parts)

    def _times(self, x: Call, factor: int) -> Call:
        """A value that many times, by doubling."""
        if factor == 1:
            return x
        half = self._times(x, factor // 2)
        double = self.put(program.Add(), x.dims, half, half)
        return self.put(program.Add(), x.dims, double, x) if factor % 2 else double

    def _phases(self, x: Call, axis: int, stride: int, heard: Sequence[int]) -> Mapping[int, Call]:
        """Every `stride`-th element from each of these on; none where there is none."""
        if stride == 1:
            return {0: x}
        whole, rest = divmod(shape(x.dims)[axis], stride)
        parts: dict[int, list[Call]] = {phase: [] for phase in heard}
        if whole:
            body = self._part(x, axis, 0, whole * stride)
            split = (*x.dims[:axis], *anonymous(whole, stride), *x.dims[axis + 1 :])
            body = self.put(program.Reshape(), split, body)
            for phase, found in parts.items():
                own = self._part(body, axis + 1, phase, 1)
                found.append(self.put(program.Reshape(), _resized(x, axis, whole), own))
        for phase, found in parts.items():
            if phase < rest:
                found.append(self._part(x, axis, whole * stride + phase, 1))
        behind = program.Concat(axis=_step(x, axis))
        return {r: self._joined(behind, axis, found) for r, found in parts.items() if found}

    def _part(self, x: Call, axis: int, start: int, size: int) -> Call:
        if size == shape(x.dims)[axis]:
            return x
        op = program.Slice(axis=_step(x, axis), start=start, stop=start + size)
        return self.put(op, _resized(x, axis, size), x)

    def _joined(self, op: program.Add | program.Concat, axis: int, parts: Sequence[Call]) -> Call:
        """All parts, added or one behind the other."""
        whole = parts[0]
        for part in parts[1:]:
            size = shape(whole.dims)[axis]
            if isinstance(op, program.Concat):
                size += shape(part.dims)[axis]
            whole = self.put(op, _resized(whole, axis, size), whole, part)
        return whole


def _resized(x: Call, axis: int, size: int) -> Dims:
    return (*x.dims[:axis], *anonymous(size), *x.dims[axis + 1 :])


def _step(x: Call, axis: int) -> int:
    """The axis of one time step."""
    own = step_axes(x.dims)[axis]
    if own is None:
        raise TypeError(f"{x.name} has time or batch in axis {axis}")
    return own
