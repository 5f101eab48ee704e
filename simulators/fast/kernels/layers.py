"""Whole layers, sample after sample: gather, add up, fire. A linear map is a kernel of 1 x 1."""

from __future__ import annotations

import numpy as np

from lapilli.simulators.fast.kernels.adding import move_events
from lapilli.simulators.fast.kernels.firing import fire
from lapilli.simulators.fast.kernels.jit import kernel, part
from lapilli.simulators.fast.kernels.rows import Array, add_events, list_events, multiply
from lapilli.simulators.fast.sizes import LANES

# Geometry: int64 [kernel height, width, stride down, right, padding top, left, H', W'].
# Rows of spikes, currents and membranes are flat, `width` wide, in the order (T, B, H', W').
TILE = 16  # outputs that are multiplied together


@kernel
def layer_of_events(
    x: Array, most: int, binary: bool, first: int, last: int, geometry: Array,
    table: Array, weight_bias: Array, fires: bool, keeps: bool,
    threshold: Array, bias: Array, rule: Array,
    spikes: Array, currents: Array, membranes: Array,
) -> None:  # fmt: skip
    """Samples first..last - 1 of a layer: each event adds its row of weights.

    Operands:
        x: (T, B, H, W, C) bytes; of at most `most` events each, 0 and 1 alone if `binary`.
        table: int8 (inputs, width) in panels, behind them the same negated if an event can be
            negative; inputs are ordered as kernel row, kernel column, channel.
        weight_bias: int32 (width,).
        fires, keeps: whether neurons stand behind it; whether currents and membranes are kept.
        threshold, bias, rule: see `firing.fire`; (width,) the first two.
        spikes, membranes: written if it fires; membranes and currents if it keeps.
    """
    T, B, H, W, C = x.shape
    kh, kw, sh, sw, ph, pw, OH, OW = geometry
    inputs, width = kh * kw * C, table.shape[1]
    flat = x.reshape(-1)
    room = C * most + LANES
    lists = np.empty(T * H * W * room, np.uint16)
    counts = np.empty((T, H * W), np.int64)
    events = np.empty(inputs * most + 2 * LANES, np.uint16)
    state, unseen = np.empty(width, np.int32), np.empty(width, np.int32)
    sums = currents if keeps else np.empty(width, np.int32)
    seen = membranes if keeps else unseen
    for b in range(first, last):
        for t in range(T):
            for p in range(H * W):
                at, to = ((t * B + b) * H * W + p) * C, (t * H * W + p) * room
                counts[t, p] = list_events(flat, at, C, inputs, binary, lists, to)
        for o in range(OH * OW):
            top, left = o // OW * sh - ph, o % OW * sw - pw
            state[:] = 0
            for t in range(T):
                n = 0
                for dy in range(max(0, -top), min(kh, H - top)):
                    for dx in range(max(0, -left), min(kw, W - left)):
                        p = (top + dy) * W + left + dx
                        found, offset = counts[t, p], (dy * kw + dx) * C
                        move_events(lists, (t * H * W + p) * room, found, offset, events, n)
                        n += found
                row = ((t * B + b) * OH * OW + o) * width
                at = row if keeps else 0
                add_events(table, events, n, weight_bias, sums, at)
                if fires:
                    fire(width, sums, at, state, threshold, bias, rule, spikes, row, seen, at)


@kernel
def layer_of_products(
    x: Array, zero: int, first: int, last: int, geometry: Array,
    packed: Array, weight_bias: Array, fires: bool, keeps: bool,
    threshold: Array, bias: Array, rule: Array,
    spikes: Array, currents: Array, membranes: Array,
) -> None:  # fmt: skip
    """Samples first..last - 1 of a layer: every input is multiplied, as an unsigned byte.

    Operands:
        x: (T, B, H, W, C) bytes, uint8 or int8.
        zero: added to each input, and to padding, so that none is negative; `weight_bias` has
            its product with the weights subtracted.
        packed: see `rows.multiply`; of inputs ordered as in `layer_of_events`.
        The rest is as there.
    """
    T, B = x.shape[:2]
    OH, OW = geometry[6], geometry[7]
    width = weight_bias.size
    pitch = 4 * packed.shape[1]
    rows = np.zeros((TILE, pitch), np.uint8)
    flat = rows.reshape(-1)
    states = np.empty((TILE, width), np.int32)
    unseen = np.empty(width, np.int32)
    sums = currents if keeps else np.empty(TILE * width, np.int32)
    seen = membranes if keeps else unseen
    for b in range(first, last):
        for start in range(0, OH * OW, TILE):
            count = min(TILE, OH * OW - start)
            states[:] = 0
            for t in range(T):
                for o in range(count):
                    _gather(x, t, b, start + o, zero, geometry, rows, o)
                row = ((t * B + b) * OH * OW + start) * width
                at = row if keeps else 0
                multiply(flat, 0, pitch, count, packed, weight_bias, sums, at)
                if fires:
                    for o in range(count):
                        step = o * width
                        fire(width, sums, at + step, states[o], threshold, bias, rule,
                             spikes, row + step, seen, row + step if keeps else 0)  # fmt: skip


@part
def _gather(
    x: Array, t: int, b: int, o: int, zero: int, geometry: Array, rows: Array, r: int
) -> None:
    """Write the inputs that output `o` sees, in the order of the weights, to `rows[r]`."""
    H, W, C = x.shape[2:]
    kh, kw, OW = geometry[0], geometry[1], geometry[7]
    top, left = o // OW * geometry[2] - geometry[4], o % OW * geometry[3] - geometry[5]
    for dy in range(kh):
        for dx in range(kw):
            y, z, at = top + dy, left + dx, (dy * kw + dx) * C
            if 0 <= y < H and 0 <= z < W:
                for c in range(C):
                    rows[r, at + c] = x[t, b, y, z, c] + zero
            else:
                for c in range(C):
                    rows[r, at + c] = zero


@kernel
def fire_rows(
    currents: Array, first: int, last: int, keeps: bool,
    threshold: Array, bias: Array, rule: Array, spikes: Array, membranes: Array,
) -> None:  # fmt: skip
    """Neurons of rows first..last - 1 behind currents (T, Q, N) that are there.

    Operands:
        threshold, bias, rule: see `firing.fire`; the first two `width` wide, at least N.
        spikes, membranes: flat rows of `width`; membranes are written if `keeps`.
    """
    T, Q, N = currents.shape
    width = threshold.size
    state, total = np.zeros(width, np.int32), np.zeros(width, np.int32)
    unseen = np.empty(width, np.int32)
    seen = membranes if keeps else unseen
    for q in range(first, last):
        state[:] = 0
        for t in range(T):
            for n in range(N):
                total[n] = currents[t, q, n]
            to = (t * Q + q) * width
            fire(width, total, 0, state, threshold, bias, rule, spikes, to, seen, to * keeps)
