"""Sums of powers of two that are longer than registers: added a few positions at a time.

From the lowest up, what lies within some positions is added, with what the positions below
carried, and only the carry of that becomes bit planes. How many positions at a time follows from
what the sum is proven to reach.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lapilli.ir import ops
from lapilli.ir.passes.binary.building import Building
from lapilli.ir.passes.binary.terms import Terms, value
from lapilli.ir.passes.binary.thresholds import OR, rectified
from lapilli.ir.tensor import IntArray, IntTensor

_MOST = 1 << 16  # reached by a sum: with a sign and 6 fraction bits, Loihi's 24


@dataclass(frozen=True, slots=True)
class Digits:
    """What positions hold, the lowest first: a static map of a value (..., entries).

    Attributes:
        weight: (positions, entries)
        bias: (positions,)
    """

    source: str
    weight: IntArray
    bias: IntArray

    @classmethod
    def of(cls, source: str, weight: IntArray, bias: IntArray | None = None) -> Digits:
        """Without a bias, zeros."""
        zeros = np.zeros(len(weight), np.int64)
        return cls(source, weight, zeros if bias is None else np.asarray(bias, np.int64))


@dataclass(frozen=True, slots=True)
class Carried:
    """A sum without its low positions.

    Attributes:
        whole: (..., 1), the sum of the rest, with what was carried.
        rests: binary spikes (..., 1); one of them fires where rounding down lost something.
        top: (..., 1), a sum of fewer positions still, which fits a register: it is negative
            where the whole is.
    """

    whole: str
    rests: tuple[str, ...]
    top: str


def carried(
    build: Building, name: str, parts: list[Digits], low: int, *, up: bool = False
) -> Carried:
    """floor(sum of 2**p * digit_p / 2**low), or with `up` the integer not below it.

    Rounding step by step is rounding once, because each carry is whole.
    """
    end = max(len(part.weight) for part in parts)
    start, carry, rests = 0, list[str](), list[str]()

    def at_once(stop: int) -> int:
        fits = (
            n
            for n in range(stop - start, 1, -1)
            if _partial_sum_bound(build, parts, carry, start, n) < _MOST
        )
        return next(fits, 1)

    def total(role: str, start: int, stop: int) -> str:
        own = f"{name}.{role}"
        return build.total(own, [*_positions(build, own, parts, start, stop), *carry])

    while start < low:
        width = at_once(low)
        here = total(f"from{start}", start, start + width)
        if up:
            here = build.scaled(f"{here}.up", here, 1, (1 << width) - 1)
        carry, rest = _carry(build, here, width)
        rests.append(build.new(f"{here}.rest", OR, rest))
        start += width
    whole = total("whole", low, end)
    while (width := at_once(end)) < end - start:
        carry, _ = _carry(build, total(f"from{start}", start, start + width), width)
        start += width
    return Carried(whole, tuple(rests), total("top", start, end))


def _carry(build: Building, total: str, width: int) -> tuple[list[str], str]:
    """floor(total / 2**width), and what is left of the total."""
    bounds = build.types[total].range
    base = bounds.lo >> width
    rest = build.scaled(f"{total}.above", total, 1, -(base << width))
    taken = rectified(build, total, rest, bounds.hi - (base << width), lowest=width)
    if not taken:
        return [build.scaled(f"{total}.carry", total, 0, base)], rest
    terms = Terms(tuple((weight >> width, plane) for weight, plane in taken), base)
    gone = value(build, f"{total}.gone", Terms(tuple((-w, plane) for w, plane in taken)))
    return [value(build, f"{total}.carry", terms)], build.total(f"{total}.left", [rest, gone])


def _positions(build: Building, name: str, parts: list[Digits], start: int, stop: int) -> list[str]:
    """The sum of some positions of each part, in units of the lowest of them: (..., 1)."""
    made = []
    for i, part in enumerate(parts):
        weight, bias = part.weight[start:stop], part.bias[start:stop]
        powers = 1 << np.arange(len(weight))
        layer = ops.Linear(
            weight=IntTensor.of((powers @ weight)[None]),
            bias=IntTensor.of([int(powers @ bias)]),
            graded=True,
        )
        made.append(build.new(f"{name}.part{i}", layer, part.source))
    return made


def _partial_sum_bound(
    build: Building, parts: list[Digits], carry: list[str], start: int, width: int
) -> int:
    """Bound the magnitude of a sum of some positions, its carry and its rounding up included."""
    bound = 1 << width
    for part in parts:
        powers = 1 << np.arange(width)[: len(part.weight[start : start + width])]
        weight = powers @ part.weight[start : start + width]
        entry = build.types[part.source].range.magnitude
        bound += int(np.abs(weight).sum()) * entry
        bound += abs(int(powers @ part.bias[start : start + width]))
    return bound + sum(build.types[c].range.magnitude for c in carry)
