"""Sums of shifted values, BSA's Shiftmax: what each row shifts by, and the shifting.

What would take an AND for each shift and each bit of a value goes in steps, as in a barrel
shifter: a shift is a number of a few digits, and each digit moves the word that the digits
before it have moved. A bit that a digit of t moves is `bit AND (digit >= t)`; that it has left
its place is a synapse of -1. Shifts of 12 bits by 0..16, or by all, take 84 neurons, not 204.

The sums are added up in `carries`: none is ever whole.
"""

from __future__ import annotations

import math

import numpy as np

from lapilli.ir import ops
from lapilli.ir.passes.binary.building import Building
from lapilli.ir.passes.binary.carries import Carried, Digits, carried
from lapilli.ir.passes.binary.terms import Decomposition, Terms, value
from lapilli.ir.passes.binary.thresholds import AND, OR, planes, rectified
from lapilli.ir.tensor import IntArray, IntTensor


def shift_sum(
    build: Building, known: Decomposition, name: str, op: ops.ShiftSum, x: str, v: str
) -> None:
    """The sum of shifted values under this name; scores x (..., n, k), values v (..., k, m)."""
    *outer, n, k = build.types[x].shape
    shape = (*outer, n, k, build.types[v].shape[-1])
    bounds = build.graph.types[x].range
    largest = bounds.hi - bounds.lo
    below = _below(build, f"{name}.below", x, largest)
    more = _gamma(build, f"{name}.gamma", op.window, below, largest)
    shift = build.total(f"{name}.shift", [below, more])
    column = build.new(f"{name}.shift.column", ops.Reshape(shape=(*outer, n, k, 1)), shift)

    far = largest + (k - 1).bit_length()
    most = min(op.reach, far)
    word = _word(build, known, f"{name}.value", v)
    radices = cheapest_radices(most + 1, max(1, len(word.spikes)))
    digits = _digits(build, f"{name}.digit", column, radices)
    kept = build.scaled(f"{name}.kept.margin", column, -1, most + 1)
    if far > most:
        kept = build.new(f"{name}.kept", OR, kept)
    else:  # all are
        kept = build.scaled(f"{name}.kept", column, 0, 1)
    kept = build.new(f"{name}.kept.column", ops.Reshape(shape=(*outer, n, k, 1, 1)), kept)

    idle = math.prod(radices) - 1 - most  # by so much all bits end above their place
    sums = []
    if word.spikes:
        bits = _gathered(build, f"{name}.bits", word, shape)
        if far > most:
            bits = _both(build, f"{name}.bits.kept", bits, kept)
        bits = _moved(build, f"{name}.bits", bits, digits)
        counts = build.new(f"{name}.counts", ops.Sum(axes=(len(outer) + 1,)), bits)
        sums.append((counts, np.eye(build.types[counts].shape[-1], dtype=np.int64)[idle:]))
    if word.offset or not word.spikes:
        ones = _moved(build, f"{name}.ones", kept, digits)
        there = build.new(f"{name}.ones.counts", ops.Sum(axes=(len(outer) + 1,)), ones)
        there = build.new(f"{there}.all", ops.Expand(
            shape=(*outer, n, shape[-1], build.types[there].shape[-1])), there)  # fmt: skip
        sums.append((there, _times(word.offset, build.types[there].shape[-1])[idle:]))
    low = carried(build, f"{name}.sum", [Digits.of(s, m) for s, m in sums], most)
    whole = low.whole
    if build.graph.types[v].range.lo < 0 and low.rests:
        whole = _toward_zero(build, name, low)
    build.put(name, ops.Reshape(shape=(*outer, n, shape[-1])), whole)


def _below(build: Building, name: str, x: str, largest: int) -> str:
    """How far each score is below its row's largest, which halves of the row find in turn."""
    best, axis = x, len(build.types[x].shape) - 1
    while (k := build.types[best].shape[axis]) > 1:
        half = (k + 1) // 2  # of an odd row, the middle is in both
        one, other = (
            build.new(
                f"{name}.{role}{k}", ops.Slice(axis=axis, start=start, stop=start + half), best
            )
            for role, start in (("left", 0), ("right", k - half))
        )
        less = build.scaled(f"{one}.less", one, -1)
        ahead = build.total(f"{name}.ahead{k}", [other, less])
        gained = Terms(rectified(build, f"{name}.{k}", ahead, largest))
        best = one
        if gained.spikes:
            gain = value(build, f"{name}.gain{k}", gained)
            best = build.total(f"{name}.best{k}", [one, gain])
    best = build.spread(f"{name}.largest", best, build.types[x].shape)
    return build.total(name, [best, build.scaled(f"{name}.less", x, -1)])


def _gamma(build: Building, name: str, window: int, below: str, largest: int) -> str:
    """How far each row's gamma is above its largest score, (..., n, k).

    In units of 2**(its largest score), the row's sum of powers lies in [1, k], and whether it
    is at most 2**g can be asked of the sum rounded up.
    """
    *_, k = shape = build.types[below].shape
    bits = (k - 1).bit_length()
    if not bits or not largest:  # one score, or all are equal
        return build.scaled(name, below, 0, bits)
    column = build.new(f"{name}.column", ops.Reshape(shape=(*shape, 1)), below)
    deepest = min(window, largest)
    steps = np.arange(1, min(window + 1, largest) + 1)
    reached = _reached(build, f"{name}.below", column, steps)
    counts = build.new(f"{name}.counts", ops.Sum(axes=(len(shape) - 1,)), reached)
    # Of the position p, 2**(p - deepest), there are as many as lie deepest - p below, no more.
    level = (deepest - np.arange(deepest + 1))[:, None]
    exactly = (steps == level).astype(np.int64) - (steps == level + 1)
    scores = Digits.of(counts, exactly, bias=k * (level[:, 0] == 0))
    total = carried(build, f"{name}.sum", [scores], deepest, up=True).whole
    powers = _reached(build, f"{name}.power", total, (1 << np.arange(bits)) + 1)
    gamma = _mapped(build, f"{name}.total", powers, np.ones((1, bits), np.int64))
    return build.new(name, ops.Expand(shape=shape), gamma)


def _reached(build: Building, name: str, x: str, levels: IntArray) -> str:
    """(..., 1) -> binary spikes (..., levels): x >= level. One threshold does for all."""
    margin = _mapped(build, f"{name}.margin", x, np.ones((len(levels), 1), np.int64), 1 - levels)
    return build.new(f"{name}.reached", OR, margin)


def _word(build: Building, known: Decomposition, name: str, v: str) -> Terms:
    """The terms 1, 2, 4, ... of a value, so that no two of its bits share a place."""
    terms = known.terms(v)
    if sorted(weight for weight, _ in terms.spikes) != [1 << b for b in range(len(terms.spikes))]:
        bounds = build.graph.types[v].range
        terms = Terms(planes(build, name, v, bounds), bounds.lo)
    return Terms(tuple(sorted(terms.spikes)), terms.offset)


def cheapest_radices(levels: int, bits: int) -> tuple[int, ...]:
    """Radices of the digits of 0..levels - 1, the lowest first, that take the fewest neurons."""

    def best(levels: int, bits: int, step: int) -> tuple[int, tuple[int, ...]]:
        if levels == 1:
            return 0, ()
        choices = []
        for radix in range(2, levels + 1):
            then = best(-(-levels // radix), bits + (radix - 1) * step, radix * step)
            choices.append(((radix - 1) * bits + then[0], (radix, *then[1])))
        return min(choices)

    return best(levels, bits, 1)[1]


def _digits(
    build: Building, name: str, column: str, radices: tuple[int, ...]
) -> list[tuple[int, str]]:
    """(step, digit >= 1, 2, ... as spikes (..., radix - 1)) of each digit, the lowest first."""
    digits: list[tuple[int, str]] = []
    rest = column
    for i in reversed(range(len(radices))):
        step = math.prod(radices[:i])
        digit = _reached(build, f"{name}{i}", rest, step * np.arange(1, radices[i]))
        digits.insert(0, (step, digit))
        if i:
            taken = np.full((1, radices[i] - 1), -step, np.int64)
            rest = build.total(
                f"{name}{i}.rest", [rest, _mapped(build, f"{name}{i}.taken", digit, taken)]
            )
    return digits


def _gathered(build: Building, name: str, word: Terms, shape: tuple[int, ...]) -> str:
    """The bits of values (..., k, m), for each row: (..., n, k, m, bits)."""
    *outer, _, k, m = shape
    words = [
        build.new(f"{name}{i}", ops.Reshape(shape=(*outer, 1, k, m, 1)), spike)
        for i, (_, spike) in enumerate(word.spikes)
    ]
    joined = words[0]
    for i, other in enumerate(words[1:], start=1):
        joined = build.new(f"{name}.to{i}", ops.Concat(axis=len(shape)), joined, other)
    return build.new(f"{name}.all", ops.Expand(shape=(*shape, len(words))), joined)


def _moved(build: Building, name: str, bits: str, digits: list[tuple[int, str]]) -> str:
    """Words (..., n, k, m, bits), moved; a digit of 0 moves them up most, the largest not."""
    for i, (step, digit) in enumerate(digits):
        own, count = f"{name}.move{i}", build.types[bits].shape[-1]
        steps = build.types[digit].shape[-1]
        blocks = np.eye(count, dtype=np.int64)
        asked = _mapped(build, f"{own}.asked", bits, np.tile(blocks, (steps, 1)))
        gates = np.repeat(np.eye(steps, dtype=np.int64), count, axis=0)
        gate = _mapped(build, f"{own}.gates", digit, gates)
        row = build.types[gate].shape
        gate = build.new(f"{own}.gate", ops.Reshape(shape=(*row[:-1], 1, row[-1])), gate)
        moving = _both(build, own, asked, gate)
        ends = [
            np.pad(blocks, ((up * step, (steps - up) * step), (0, 0))) for up in range(steps + 1)
        ]  # ends[u]: each bit u steps above its place
        arrivals = np.hstack([ends[steps - t] - ends[steps - t + 1] for t in range(1, steps + 1)])
        there = _mapped(build, f"{own}.there", moving, arrivals)
        stayed = _mapped(build, f"{own}.stayed", bits, ends[steps])
        bits = build.total(f"{own}.word", [stayed, there])
    return bits


def _both(build: Building, name: str, bits: str, gate: str) -> str:
    """AND of bits with a gate, which is repeated over their shape."""
    gate = build.new(f"{name}.gates", ops.Expand(shape=build.types[bits].shape), gate)
    return build.new(name, AND, build.total(f"{name}.sum", [bits, gate]))


def _times(factor: int, entries: int) -> IntArray:
    """Powers of two (entries,) -> digits of their multiple, in -1, 0, 1: (digits, entries)."""
    made = np.zeros((entries + abs(factor).bit_length(), entries), np.int64)
    for bit in range(abs(factor).bit_length()):
        if abs(factor) >> bit & 1:
            made[bit : bit + entries] += int(np.sign(factor)) * np.eye(entries, dtype=np.int64)
    return made


def _toward_zero(build: Building, name: str, low: Carried) -> str:
    """One more where the sum is negative and something is left of its fraction."""
    under = build.new(f"{name}.negative", OR, build.scaled(f"{name}.minus", low.top, -1))
    weighed = build.scaled(f"{name}.negative.weighed", under, len(low.rests))
    asked = build.total(f"{name}.up.asked", [weighed, *low.rests])
    up = _reached(build, f"{name}.up", asked, np.array([len(low.rests) + 1]))
    return build.total(f"{name}.truncated", [low.whole, up])


def _mapped(
    build: Building, name: str, x: str, weight: IntArray, bias: IntArray | None = None
) -> str:
    biases = np.zeros(len(weight), np.int64) if bias is None else bias
    layer = ops.Linear(weight=IntTensor.of(weight), bias=IntTensor.of(biases), graded=True)
    return build.new(name, layer, x)
