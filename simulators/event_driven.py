"""Only spikes cause work: an independent implementation that counts synaptic operations.

It shares wiring with the definition, nothing that computes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from typing_extensions import assert_never

from lapilli.ir import ops
from lapilli.ir.graph import Graph, Node
from lapilli.ir.recording import Recording
from lapilli.ir.semantics import wire
from lapilli.ir.tensor import IntArray, IntTensor
from lapilli.ir.types import Kind


@dataclass(frozen=True, slots=True)
class EventDriven:
    """Adds one weight column, or one row of values, for every event.

    SynOps: one for each spike (or unit of a count) and synapse that it reaches; a graded
    input counts as many events as its magnitude has set bits (shift-and-add).
    """

    name: str = "event-driven"

    def compile(self, graph: Graph) -> _EventDrivenExecutable:
        """Every graph that can be built is accumulate-only, so every graph runs."""
        return _EventDrivenExecutable(graph)


@dataclass(frozen=True, slots=True)
class _EventDrivenExecutable:
    graph: Graph

    def run(self, inputs: Mapping[str, IntArray]) -> Recording:
        types, T = self.graph.types, self.graph.T
        batch = next(iter(inputs.values())).shape[1]
        values = {
            n.name: np.zeros((T, batch, *types[n.name].shape), np.int64) for n in self.graph.nodes
        }
        membranes = {name: np.zeros_like(values[name]) for name in self.graph.neurons}
        memory = {n.name: _Membrane(values[n.name][0]) for n in self.graph.nodes}
        synops = 0
        for t in range(T):
            for node in self.graph.nodes:
                args = tuple(values[i][t] for i in node.inputs)
                out = values[node.name][t]
                match node.op:
                    case ops.Input():
                        out[...] = inputs[node.name][t]
                    case ops.Neuron() as neuron:
                        membranes[node.name][t] = memory[node.name].step(neuron, args[0], out)
                    case ops.GeneralNeuron() as general:
                        membranes[node.name][t] = memory[node.name].general(
                            general, t, args[0], out
                        )
                    case ops.Membrane(neuron=neuron) as op:
                        own = memory[node.name]
                        before = own.step(neuron, args[0], np.zeros_like(out))
                        out[...] = own.v if op.after_reset else before
                    case ops.Readout():
                        memory[node.name].v += args[0]
                        out[...] = memory[node.name].v
                    case op:
                        synops += self._accumulate(node, op, args, out)
        currents = {name: values[self.graph[name].inputs[0]] for name in self.graph.firing}
        return Recording(values, membranes, currents, synops=synops)

    def _accumulate(
        self, node: Node, op: ops.Stateless, args: tuple[IntArray, ...], out: IntArray
    ) -> int:
        """Add into `out` what each event brings; return the number of additions."""
        match op:
            case ops.Linear():
                return _linear(op, args[0], out)
            case ops.Conv2d():
                return _conv(op, args[0], out)
            case ops.SpikeMatmul():
                a, b = args
                if self._gate_comes_first(node):
                    return _gated_rows(a, b, out)
                return _gated_rows(b.swapaxes(-1, -2), a.swapaxes(-1, -2), out.swapaxes(-1, -2))
            case ops.Gate():
                gate, value = args if self._gate_comes_first(node) else args[::-1]
                for events in range(1, int(np.abs(gate).max(initial=0)) + 1):
                    out[gate >= events] += value[gate >= events]
                    out[gate <= -events] -= value[gate <= -events]
                return int(np.abs(gate).sum())
            case ops.ShiftSum():
                return _shifted_rows(op, args[0], args[1], out)
            case ops.Add():
                out[...] = args[0] + args[1]
                return int(np.count_nonzero(args[1]))
            case ops.Concat(axis=axis):
                first, second = np.split(out, [args[0].shape[axis + 1]], axis=axis + 1)
                first[...], second[...] = args
                return 0
            case ops.Sum(axes=axes, keepdims=keep):
                total = args[0]
                for axis in sorted(axes, reverse=True):
                    total = np.sum(total, axis=axis + 1, keepdims=keep)
                out[...] = total
                return int(np.count_nonzero(args[0]))
            case ops.MaxPool2d():
                _max_pool(op, args[0], out)
                return 0
            case ops.Staircase(thresholds=thresholds):
                for step in range(len(thresholds.array)):  # a neuron for each, firing or not
                    out[np.greater(args[0], thresholds.array[step] - 1)] += 1
                return 0
            case ops.Relu():
                positive = np.nonzero(args[0] > 0)
                out[positive] = args[0][positive]
                return 0
            case ops.Reshape() | ops.Permute() | ops.Expand() | ops.Slice() | ops.Delay():
                out[...] = wire(op, args[0])
                return 0
            case _:
                assert_never(op)

    def _gate_comes_first(self, node: Node) -> bool:
        """Which operand of a product says how often the other is added: spikes, else counts."""
        a, b = (self.graph.types[name] for name in node.inputs)
        if Kind.SPIKES in (a.kind, b.kind):
            return a.kind is Kind.SPIKES
        return a.kind is Kind.COUNTS and (b.kind is not Kind.COUNTS or a.range.hi <= b.range.hi)


def _bits_set(x: IntArray) -> IntArray:
    """Events of graded values: the set bits of their magnitudes."""
    bits = np.unpackbits(np.abs(x).astype("<i8").view(np.uint8).reshape(*x.shape, 8), axis=-1)
    return np.asarray(bits.sum(axis=-1), np.int64)


def _events(x: IntArray, graded: bool) -> int:
    return int(_bits_set(x).sum()) if graded else int(np.abs(x).sum())


def _scatter(total: IntArray, rows: IntArray, contributions: IntArray) -> None:
    """total[rows[i]] += contributions[i]; `rows` is sorted, with repetitions."""
    if rows.size:
        first = np.flatnonzero(np.diff(rows, prepend=-1))
        total[rows[first]] += np.add.reduceat(contributions, first, axis=0)


def _linear(op: ops.Linear, x: IntArray, out: IntArray) -> int:
    out += op.bias.array
    flat = x.reshape(-1, x.shape[-1])
    rows, columns = np.nonzero(flat)
    sizes = flat[rows, columns][:, None]
    _scatter(out.reshape(len(flat), -1), rows, sizes * op.weight.array.T[columns])
    return _events(x, op.graded) * op.weight.shape[0]


def _conv(op: ops.Conv2d, x: IntArray, out: IntArray) -> int:
    """Each event adds the kernel, turned round, to the outputs that see it."""
    out += op.bias.array[:, None, None]
    channels_out, per_group, kh, kw = op.weight.shape
    out_per_group = channels_out // op.groups
    H, W = out.shape[2:]
    b, c, y, z = np.nonzero(x)
    size = x[b, c, y, z]
    events = np.abs(size) if not op.graded else _bits_set(size)
    synops = 0
    for dy in range(kh):
        for dz in range(kw):
            oy, ry = np.divmod(y + op.padding[0] - dy, op.stride[0])
            oz, rz = np.divmod(z + op.padding[1] - dz, op.stride[1])
            seen = (ry == 0) & (rz == 0) & (oy >= 0) & (oy < H) & (oz >= 0) & (oz < W)
            synops += int(events[seen].sum()) * out_per_group
            for g in range(op.groups):
                mine = np.flatnonzero(seen & (c // per_group == g))
                weights = op.weight.array[g * out_per_group : (g + 1) * out_per_group, :, dy, dz]
                row = (b[mine] * H + oy[mine]) * W + oz[mine]
                mine = mine[np.argsort(row, kind="stable")]
                brought = size[mine, None] * weights.T[c[mine] % per_group]
                channels = out[:, g * out_per_group : (g + 1) * out_per_group]
                total = np.zeros((len(out) * H * W, out_per_group), np.int64)
                _scatter(total, np.sort(row), brought)
                channels += total.reshape(len(out), H, W, -1).transpose(0, 3, 1, 2)
    return synops


def _gated_rows(spikes: IntArray, values: IntArray, out: IntArray) -> int:
    """Add row k of `values` to row n of `out` for every event at (n, k)."""
    for index in map(tuple, np.argwhere(spikes)):
        batch, (n, k) = index[:-2], index[-2:]
        out[batch][n] += spikes[index] * values[batch][k]
    return int(np.abs(spikes).sum() * values.shape[-1])


def _shifted_rows(op: ops.ShiftSum, scores: IntArray, values: IntArray, out: IntArray) -> int:
    """Add row k of `values`, shifted, to row n of `out`; one score after the other.

    An addition for each power of two in a row's sum, and for each element of a shifted row.
    """
    additions = 0
    for row in np.ndindex(scores.shape[:-1]):
        batch = row[:-1]
        numbers = [int(score) for score in scores[row]]  # Python's, of any length
        lowest = max(numbers) - op.window
        kept = [1 << (score - lowest) for score in numbers if score >= lowest]
        gamma = lowest + (sum(kept) - 1).bit_length()
        additions += len(kept)
        total = np.zeros_like(out[row])
        for k, score in enumerate(numbers):
            if (left := op.reach - (gamma - score)) >= 0:
                total += values[batch][k] << left
                additions += total.size
        total[total < 0] += (1 << op.reach) - 1  # so that the floor below rounds toward zero
        out[row] = total >> op.reach
    return additions


def _max_pool(op: ops.MaxPool2d, x: IntArray, out: IntArray) -> None:
    """Largest value of each window, one kernel offset after the other."""
    out[...] = np.iinfo(np.int64).min
    H, W = x.shape[2:]
    for dy in range(op.kernel[0]):
        for dz in range(op.kernel[1]):
            for oy in range(out.shape[2]):
                for oz in range(out.shape[3]):
                    y = oy * op.stride[0] - op.padding[0] + dy
                    z = oz * op.stride[1] - op.padding[1] + dz
                    if 0 <= y < H and 0 <= z < W:
                        np.maximum(out[:, :, oy, oz], x[:, :, y, z], out=out[:, :, oy, oz])


class _Membrane:
    """Synaptic current and membrane of one node; written without the definition's helpers."""

    def __init__(self, like: IntArray) -> None:
        self.u = np.zeros_like(like)
        self.v = np.zeros_like(like)
        self.seen: list[IntArray] = []  # earlier inputs of a general neuron, the latest first

    def step(self, neuron: ops.Neuron, x: IntArray, out: IntArray) -> IntArray:
        """Write spikes into `out`, update the state, return the membrane before reset."""
        for state, d in ((self.u, neuron.du), (self.v, neuron.dv)):
            _leak(state, d)
        bits = neuron.fraction_bits
        self.u += x * 2**bits if bits >= 0 else np.floor_divide(x, 2**-bits)
        self.v += self.u + neuron.bias.array
        membrane: IntArray = self.v.copy()
        above = np.greater(membrane, neuron.threshold.array - 1)
        below = np.less(membrane, 1 - neuron.threshold.array) & neuron.ternary
        out[above], out[below] = 1, -1
        if neuron.reset is ops.Reset.TO_ZERO:
            self.v[above | below] = 0
        elif neuron.reset is ops.Reset.BY_SUBTRACTION:
            self.v[above] -= neuron.reset_by
            self.v[below] += neuron.reset_by
        return membrane

    def general(self, op: ops.GeneralNeuron, t: int, x: IntArray, out: IntArray) -> IntArray:
        """The same for step t of a general neuron, each of whose events is a comparison."""

        def now(constant: IntTensor) -> IntArray:
            row: IntArray = constant.array[t % len(constant.array)]
            return row

        self.seen.insert(0, x.copy())
        _leak(self.u, now(op.du))
        _leak(self.v, now(op.dv))
        driven = np.zeros_like(self.u)
        for earlier, tap in zip(self.seen, now(op.taps), strict=False):
            driven += tap * earlier
        self.u += np.floor_divide(driven, 2**op.shift)
        self.v += self.u + now(op.bias)
        if op.floored:
            self.v[self.v < 0] = 0
        membrane: IntArray = self.v.copy()
        for level in now(op.threshold):
            out[np.greater(membrane, level - 1)] += 1
        if op.reset is ops.Reset.TO_ZERO:
            self.v[out > 0] = 0
        elif op.reset is ops.Reset.BY_SUBTRACTION:
            self.v -= out * now(op.reset_by)
        return membrane


def _leak(state: IntArray, d: int | IntArray) -> None:
    """Keep (4096 - d) / 4096 of a state, in place, rounded toward zero."""
    negative = state < 0
    np.multiply(state, 4096 - d, out=state)
    state[negative] += 4095  # so that the floor below rounds toward zero
    np.floor_divide(state, 4096, out=state)
