"""Sums of windows that overlap, as slices that are added: an exact integer for the map behind.

An average pool is a convolution of each channel with ones. Where that cannot be merged with the
map before or behind it, because one of them pads, the windows are summed instead: spikes become
counts, which a synapse takes, and currents stay currents.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from lapilli.model.capture import program
from lapilli.model.capture.axes import Dims, anonymous, shape, step_axes
from lapilli.model.capture.program import Call, Captured
from lapilli.quantize.merging.linear_map import LinearMap


def sums_windows(op: program.Synapse, form: LinearMap) -> bool:
    """Whether a linear map adds up windows of each channel, none of them all padding."""
    alone = form.groups == len(form.weight) and form.weight.shape[1] == 1
    ones = bool((form.weight == 1).all()) and not form.bias.any()
    small = all(2 * p <= k for p, k in zip(form.padding, form.weight.shape[2:], strict=True))
    return op.space > 0 and alone and ones and small and not form.pointwise


def padded_behind(captured: Captured, name: str) -> bool:
    """Whether a map that pads takes this value: none with a kernel can be merged with it."""
    for reader in captured.calls.values():
        if name not in reader.inputs:
            continue
        match reader.op:
            case program.Pad():
                return True
            case program.Synapse(padding=padding) if any(padding):
                return True
            case program.Scale() | program.Reshape() if padded_behind(captured, reader.name):
                return True
            case _:
                pass
    return False


def window_sums(call: Call, form: LinearMap, source: Call) -> list[Call]:
    """The same values as those of `call`, one axis after the other; the last has its name."""
    making = _Making(call, source)
    first = len(source.dims) - form.space
    for axis in reversed(range(form.space)):
        making.add_up(
            first + axis, form.weight.shape[2 + axis], form.stride[axis], form.padding[axis]
        )
    *before, last = making.calls
    return [*before, Call(call.name, last.op, last.inputs, call.path, call.dims)]


@dataclass(slots=True)
class _Making:
    """Calls in a row, the last of them on the value that has been reached."""

    call: Call
    value: Call
    calls: list[Call] = field(default_factory=list)

    def put(self, op: program.Operator, dims: Dims, *inputs: Call) -> Call:
        """One more call."""
        name = f"{self.call.name}.window.{len(self.calls)}"
        self.calls.append(Call(name, op, tuple(i.name for i in inputs), self.call.path, dims))
        return self.calls[-1]

    def add_up(self, axis: int, kernel: int, stride: int, padding: int) -> None:
        """Sums of the windows along one axis; those at the edges have fewer elements."""
        if (kernel, stride) == (1, 1):
            return
        x = self.value
        heard = {(tap - padding) % stride for tap in range(kernel)}
        phases = self._phases(x, axis, stride, sorted(heard))
        count = (shape(x.dims)[axis] + 2 * padding - kernel) // stride + 1
        parts = []
        for taps, first, size in _alike(count, shape(x.dims)[axis], kernel, stride, padding):
            elements = [divmod(tap - padding, stride) for tap in taps]
            terms = [self._part(phases[r], axis, first + q, size) for q, r in elements]
            parts.append(self._joined(program.Add(), axis, terms))
        self.value = self._joined(program.Concat(axis=_step(x, axis)), axis, parts)

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


def _alike(
    count: int, length: int, kernel: int, stride: int, padding: int
) -> Iterator[tuple[range, int, int]]:
    """Windows in a row that have the same taps: those taps, the first window, how many.

    >>> list(_alike(4, 8, 3, 2, 1))
    [(range(1, 3), 0, 1), (range(0, 3), 1, 3)]
    """

    def taps(window: int) -> range:
        start = window * stride - padding
        return range(max(0, -start), min(kernel, length - start))

    for inside, windows in groupby(range(count), taps):
        first, *more = windows
        yield inside, first, 1 + len(more)


def _resized(x: Call, axis: int, size: int) -> Dims:
    return (*x.dims[:axis], *anonymous(size), *x.dims[axis + 1 :])


def _step(x: Call, axis: int) -> int:
    """The axis of one time step."""
    own = step_axes(x.dims)[axis]
    if own is None:
        raise TypeError(f"{x.name} has time or batch in axis {axis}")
    return own
