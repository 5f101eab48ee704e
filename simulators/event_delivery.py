"""What each event does where it arrives, and the count of it; used by `event_driven` alone."""

from __future__ import annotations

from collections import Counter
from typing import TypeAlias

import numpy as np

from lapilli.ir import ops
from lapilli.ir.tensor import IntArray, IntTensor

Tally: TypeAlias = "Counter[str]"  # what becomes the fields of `ir.counts.Counts`


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


def linear(op: ops.Linear, x: IntArray, out: IntArray, tally: Tally) -> int:
    """Add the weight column of each event, as often as it says; return the additions."""
    out += op.bias.array
    tally["additions"] += int(np.count_nonzero(np.broadcast_to(op.bias.array, out.shape)))
    flat = x.reshape(-1, x.shape[-1])
    rows, columns = np.nonzero(flat)
    sizes = flat[rows, columns][:, None]
    brought = sizes * op.weight.array.T[columns]
    _scatter(out.reshape(len(flat), -1), rows, brought)
    if op.graded:
        tally["multiplies"] += brought.size
    else:
        tally["accumulates"] += int(np.broadcast_to(np.abs(sizes), brought.shape).sum())
    return _events(x, op.graded) * op.weight.shape[0]


def conv(op: ops.Conv2d, x: IntArray, out: IntArray, tally: Tally) -> int:
    """Each event adds the kernel, turned round, to the outputs that see it."""
    bias = op.bias.array[:, None, None]
    out += bias
    tally["additions"] += int(np.count_nonzero(np.broadcast_to(bias, out.shape)))
    channels_out, per_group, kh, kw = op.weight.shape
    out_per_group = channels_out // op.groups
    H, W = out.shape[2:]
    b, c, y, z = np.nonzero(x)
    size = x[b, c, y, z]
    events = np.abs(size) if not op.graded else _bits_set(size)
    synops, every = 0, op.weight.array
    for dy in range(kh):
        for dz in range(kw):
            oy, ry = np.divmod(y + op.padding[0] - dy, op.stride[0])
            oz, rz = np.divmod(z + op.padding[1] - dz, op.stride[1])
            seen = (ry == 0) & (rz == 0) & (oy >= 0) & (oy < H) & (oz >= 0) & (oz < W)
            synops += int(events[seen].sum()) * out_per_group
            for g in range(op.groups):
                mine = np.flatnonzero(seen & (c // per_group == g))
                weights = every[g * out_per_group : (g + 1) * out_per_group, :, dy, dz]
                row = (b[mine] * H + oy[mine]) * W + oz[mine]
                mine = mine[np.argsort(row, kind="stable")]
                brought = size[mine, None] * weights.T[c[mine] % per_group]
                if op.graded:
                    tally["multiplies"] += brought.size
                else:
                    tally["accumulates"] += int(np.abs(size[mine]).sum()) * len(weights)
                channels = out[:, g * out_per_group : (g + 1) * out_per_group]
                total = np.zeros((len(out) * H * W, out_per_group), np.int64)
                _scatter(total, np.sort(row), brought)
                channels += total.reshape(len(out), H, W, -1).transpose(0, 3, 1, 2)
    return synops


def gated_rows(spikes: IntArray, values: IntArray, out: IntArray, tally: Tally) -> int:
    """Add row k of `values` to row n of `out` for every event at (n, k)."""
    for index in map(tuple, np.argwhere(spikes)):
        batch, (n, k) = index[:-2], index[-2:]
        row, events = values[batch][k], abs(int(spikes[index]))
        out[batch][n] += spikes[index] * row
        tally["accumulates"] += events * row.size
        tally["coincidences"] += events * int(np.count_nonzero(row))
    return int(np.abs(spikes).sum() * values.shape[-1])


def shifted_rows(
    op: ops.ShiftSum, scores: IntArray, values: IntArray, out: IntArray, tally: Tally
) -> int:
    """Add row k of `values`, shifted, to row n of `out`; one score after the other.

    An addition for each power of two in a row's sum, and for each element of a shifted row.
    """
    additions = 0
    for row in np.ndindex(scores.shape[:-1]):
        batch = row[:-1]
        numbers = [int(score) for score in scores[row]]  # Python's, of any length
        lowest = max(numbers) - op.window
        tally["compares"] += len(numbers) - 1
        kept = [1 << (score - lowest) for score in numbers if score >= lowest]
        gamma = lowest + (sum(kept) - 1).bit_length()
        additions += len(kept)
        total = np.zeros_like(out[row])
        for k, score in enumerate(numbers):
            if (left := op.reach - (gamma - score)) >= 0:
                total += values[batch][k] << left
                additions += total.size
                tally["shifts"] += total.size
        total[total < 0] += (1 << op.reach) - 1  # so that the floor below rounds toward zero
        out[row] = total >> op.reach
    tally["accumulates"] += additions
    return additions


def max_pool(op: ops.MaxPool2d, x: IntArray, out: IntArray, tally: Tally) -> None:
    """Largest value of each window, one kernel offset after the other."""
    out[...] = np.iinfo(np.int64).min
    H, W = x.shape[2:]
    met = np.zeros(out.shape[2:], np.bool_)  # windows that hold a value already
    for dy in range(op.kernel[0]):
        for dz in range(op.kernel[1]):
            for oy in range(out.shape[2]):
                for oz in range(out.shape[3]):
                    y = oy * op.stride[0] - op.padding[0] + dy
                    z = oz * op.stride[1] - op.padding[1] + dz
                    if 0 <= y < H and 0 <= z < W:
                        np.maximum(out[:, :, oy, oz], x[:, :, y, z], out=out[:, :, oy, oz])
                        tally["compares"] += out[:, :, oy, oz].size * bool(met[oy, oz])
                        met[oy, oz] = True


class Membrane:
    """Synaptic current and membrane of one node; written without the definition's helpers."""

    def __init__(self, like: IntArray) -> None:
        self.u = np.zeros_like(like)
        self.v = np.zeros_like(like)
        self.seen: list[IntArray] = []  # earlier inputs of a general neuron, the latest first

    def step(self, neuron: ops.Neuron, x: IntArray, out: IntArray, tally: Tally) -> IntArray:
        """Write spikes into `out`, update the state, return the membrane before reset."""
        biases = np.broadcast_to(neuron.bias.array, x.shape)
        tally["additions"] += int(np.count_nonzero(biases))
        tally["updates"] += x.size
        tally["compares"] += x.size + x.size * neuron.ternary
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

    def general(
        self, op: ops.GeneralNeuron, t: int, x: IntArray, out: IntArray, tally: Tally
    ) -> IntArray:
        """The same for step t of a general neuron, each of whose events is a comparison."""

        def now(constant: IntTensor) -> IntArray:
            row: IntArray = constant.array[t % len(constant.array)]
            return row

        self.seen.insert(0, x.copy())
        _leak(self.u, now(op.du))
        _leak(self.v, now(op.dv))
        driven, terms = np.zeros_like(self.u), np.zeros_like(self.u)
        for earlier, tap in zip(self.seen, now(op.taps), strict=False):
            driven += tap * earlier
            terms += tap != 0
            shifts = np.bitwise_and(np.abs(tap), np.abs(tap) - 1) == 0  # 0 and powers of two
            tally["multiplies"] += int(np.count_nonzero(~np.broadcast_to(shifts, x.shape)))
        self.u += np.floor_divide(driven, 2**op.shift)
        self.v += self.u + now(op.bias)
        tally["additions"] += int(np.maximum(terms - 1, 0).sum())
        tally["additions"] += int(np.count_nonzero(np.broadcast_to(now(op.bias), x.shape)))
        tally["updates"] += x.size
        if op.floored:
            self.v[self.v < op.floor] = op.floor
            tally["compares"] += x.size
        membrane: IntArray = self.v.copy()
        for level in now(op.threshold):
            out[np.greater(membrane, level - 1)] += 1
            tally["compares"] += x.size
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
