"""Sums of shifted values as binary neurons: exact, small, and mutants that must be caught."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lapilli.ir import ops
from lapilli.ir.certificate import certify
from lapilli.ir.errors import UnsupportedError
from lapilli.ir.graph import Graph, Node
from lapilli.ir.loihi import unsupported
from lapilli.ir.passes.binary import carries, shifts, size, to_binary_neurons
from lapilli.ir.passes.binary.thresholds import OR
from lapilli.ir.semantics import evaluate
from lapilli.ir.tensor import IntArray
from lapilli.ir.types import BINARY, TERNARY, IntRange, Kind, TensorType
from lapilli.simulators.conformance import CASES
from lapilli.simulators.reference import Reference


@dataclass(frozen=True)
class Tried:
    """A sum of shifted values: scores (..., n, k) and values (..., k, m) of these ranges."""

    op: ops.ShiftSum
    scores: IntRange
    values: IntRange
    n: int = 2
    k: int = 5
    m: int = 2
    outer: tuple[int, ...] = ()
    kind: Kind = Kind.GRADED

    @property
    def graph(self) -> Graph:
        scores = TensorType((*self.outer, self.n, self.k), self.scores, Kind.GRADED)
        values = TensorType((*self.outer, self.k, self.m), self.values, self.kind)
        nodes = (
            Node("x", ops.Input(type=scores)),
            Node("v", ops.Input(type=values)),
            Node("y", self.op, ("x", "v")),
        )
        return Graph(nodes, ("y",), 1)

    def drawn(self, count: int, seed: int = 0) -> tuple[IntArray, IntArray]:
        """Rows of ties, rows at both edges of the window and of the reach, and any rows."""
        rng, (lo, hi) = np.random.default_rng(seed), (self.scores.lo, self.scores.hi)
        row = (count, *self.outer, self.n, self.k)
        top = rng.integers(lo, hi + 1, (*row[:-1], 1))
        near = top - rng.integers(0, 3, row)
        edges = [0, self.op.window, self.op.window + 1, self.op.reach, self.op.reach + 1]
        edge = hi - rng.choice(edges, row)
        low = np.where(rng.random(row) < 0.7, hi - self.op.window + rng.integers(-1, 2, row), hi)
        kinds = [rng.integers(lo, hi + 1, row), near, edge, low]
        x = np.choose(rng.integers(0, 4, (*row[:-1], 1)), kinds).clip(lo, hi)
        place = (count, *self.outer, self.k, self.m)
        v = rng.integers(self.values.lo, self.values.hi + 1, place)
        ends = rng.choice([self.values.lo, self.values.hi], place)
        return x, np.where(rng.random(place) < 0.3, ends, v)


def differences(tried: Tried, count: int = 400, seed: int = 0) -> tuple[int, IntArray]:
    """How many sums the neurons get wrong, and what the sums are."""
    x, v = tried.drawn(count, seed)
    lowered = to_binary_neurons(tried.graph)
    assert all(
        op.reset is ops.Reset.TO_ZERO and not op.ternary
        for node in lowered.nodes
        if isinstance(op := node.op, ops.Neuron)
    )
    want = evaluate(tried.op, (x, v))
    have = Reference().compile(lowered).run({"x": x[None], "v": v[None]}).values["y"][0]
    assert want.size == have.size >= count
    return int((want != have).sum()), want


def shift(window: int, reach: int) -> ops.ShiftSum:
    return ops.ShiftSum(window=window, reach=reach)


_SIGNED = IntRange(-1237, 1191)
TRIED = {
    "all within the window": Tried(shift(40, 16), IntRange(-8, 8), _SIGNED, k=16),
    "a window smaller than the range": Tried(shift(6, 6), IntRange(-9, 9), _SIGNED),
    "a reach smaller than the window": Tried(shift(9, 4), IntRange(-4, 12), _SIGNED),
    "a reach of nothing": Tried(shift(9, 0), IntRange(0, 3), IntRange(-9, 9)),
    "a window of nothing": Tried(shift(0, 0), IntRange(-2, 3), IntRange(-9, 9), k=2),
    "negative values": Tried(shift(8, 8), IntRange(-2, 9), IntRange(-99, -3)),
    "positive values": Tried(shift(8, 8), IntRange(-2, 9), IntRange(3, 99)),
    "digits of two": Tried(shift(20, 7), IntRange(-9, 9), BINARY, kind=Kind.SPIKES),
    "one score": Tried(shift(8, 8), IntRange(-2, 9), _SIGNED, k=1),
    "one column": Tried(shift(8, 8), IntRange(-2, 9), _SIGNED, m=1, n=1),
    "equal scores": Tried(shift(8, 8), IntRange(4, 4), _SIGNED, k=7),
    "equal values": Tried(shift(8, 8), IntRange(-3, 4), IntRange(-77, -77)),
    "ternary values": Tried(shift(4, 4), IntRange(-3, 4), TERNARY, kind=Kind.SPIKES),
    "spikes": Tried(shift(4, 4), IntRange(-3, 4), BINARY, kind=Kind.SPIKES),
    "longer than a register": Tried(shift(45, 38), IntRange(-60, 9), _SIGNED, k=9, outer=(2,)),
    "scores far apart": Tried(shift(20, 12), IntRange(-5000, 5000), _SIGNED, outer=(2, 1)),
}


@pytest.mark.parametrize("name", TRIED)
def test_the_sums_are_exact(name: str) -> None:
    wrong, sums = differences(TRIED[name])
    assert wrong == 0
    assert len(np.unique(sums)) > 1 or name == "a reach of nothing"


@st.composite
def any_sum(draw: st.DrawFn) -> Tried:
    window = draw(st.integers(0, 45))
    lo, low = draw(st.integers(-60, 10)), draw(st.sampled_from([-2000, -5, -1, 0, 3]))
    return Tried(
        shift(window, draw(st.integers(0, window))),
        IntRange(lo, lo + draw(st.sampled_from([0, 1, 3, 9, 30, 70, 200]))),
        IntRange(low, low + draw(st.sampled_from([0, 1, 2, 7, 3000, 1 << 17]))),
        n=draw(st.integers(1, 3)),
        k=draw(st.integers(1, 9)),
        m=draw(st.integers(1, 3)),
        outer=tuple(draw(st.lists(st.integers(1, 2), max_size=1))),
    )


@settings(max_examples=40, deadline=None)
@given(any_sum(), st.integers(0, 2**32 - 1))
def test_any_sum_is_exact(tried: Tried, seed: int) -> None:
    assert differences(tried, 60, seed)[0] == 0


_SHIFT_SUMS = [case for case in CASES if case.name.startswith("shift-sum")]


@pytest.mark.parametrize("case", _SHIFT_SUMS, ids=str)
def test_the_conformance_cases(case: Any) -> None:
    lowered = to_binary_neurons(case.graph)
    got = Reference().compile(lowered).run(case.inputs).values["y"]
    assert tuple(got.ravel().tolist()) == case.by_hand


def test_nothing_outgrows_a_chip() -> None:
    """Sums of 12 bits shifted by up to 38: 55 bits, in registers of 24 and with one threshold."""
    lowered = to_binary_neurons(TRIED["longer than a register"].graph)
    neurons = {node.name: node.op for node in lowered.nodes if isinstance(node.op, ops.Neuron)}
    found = [unsupported(neurons[bounds.name], bounds) for bounds in certify(lowered)]
    assert len(found) > 20
    assert not any(found)


# ---- mutants ---------------------------------------------------------------------------------


def _first(change: Callable[..., Any]) -> Callable[..., Any]:
    """Change the arguments of a function."""
    return lambda function: lambda *args, **options: function(*change(*args), **options)


_ALL = "all within the window"
MUTANTS: dict[str, tuple[Any, str, Callable[..., Any], str]] = {
    "rounds down": (
        shifts, "_toward_zero", lambda f: lambda build, name, low: low.whole, _ALL,
    ),
    "rounds away from zero where nothing is left": (
        shifts, "_toward_zero", lambda f: lambda build, name, low: build.total(
            f"{name}.up", [low.whole, build.new(
                f"{name}.minus", OR, build.scaled(f"{name}.m", low.whole, -1))]), _ALL,
    ),
    "loses the last rest": (
        shifts, "_toward_zero", _first(lambda build, name, low: (
            build, name, replace(low, rests=low.rests[:-1]))), "negative values",
    ),
    "a window of one more": (
        shifts, "_gamma", _first(lambda build, name, window, *rest: (
            build, name, window + 1, *rest)), "a window smaller than the range",
    ),
    "gamma of a sum below a power": (
        shifts, "_gamma", lambda f: lambda build, name, window, below, largest: build.scaled(
            f"{name}.none", f(build, name, window, below, largest), 1, 1), _ALL,
    ),
    "the sum of powers rounded down": (
        shifts, "carried", lambda f: lambda build, name, parts, low, up=False: f(
            build, name, parts, low), _ALL,
    ),
    "digits in the wrong order": (
        shifts, "_digits", lambda f: lambda *args: [
            (step, digit) for (step, _), (_, digit)
            in zip(f(*args), f(*args)[::-1], strict=True)], "digits of two",
    ),
    "shifts and powers compare by >": (
        shifts, "_reached", _first(lambda build, name, x, levels: (
            build, name, x, levels + 1)), _ALL,
    ),
    "a maximum without its lowest bit": (
        shifts, "rectified", lambda f: lambda *args, **options: f(*args, **options)[:-1], _ALL,
    ),
    "a carry without its lowest bit": (
        carries, "rectified", lambda f: lambda *args, **options: f(*args, **options)[:-1], _ALL,
    ),
    "a sign of one more": (
        shifts, "_toward_zero", _first(lambda build, name, low: (
            build, name, replace(low, top=build.scaled(f"{name}.mutant", low.top, 1, 1)))),
        "longer than a register",
    ),
    "an offset with the other sign": (
        shifts, "_times", _first(lambda factor, entries: (-factor, entries)), "positive values",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mutant_is_caught(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, function, fault, name = MUTANTS[mutant]
    monkeypatch.setattr(module, function, fault(getattr(module, function)))
    assert differences(TRIED[name])[0] > 0


# ---- how many, and what is refused -----------------------------------------------------------


def _ands(radices: tuple[int, ...], bits: int) -> int:
    total, step = 0, 1
    for radix in radices:
        total += (radix - 1) * bits
        bits, step = bits + (radix - 1) * step, step * radix
    return total


@pytest.mark.parametrize(("levels", "bits"), [(1, 3), (2, 1), (5, 4), (9, 2), (13, 7), (17, 12)])
def test_no_other_radices_take_fewer(levels: int, bits: int) -> None:
    found = shifts.cheapest_radices(levels, bits)
    assert math.prod(found) >= levels
    others = (
        radices
        for count in range(5)
        for radices in itertools.product(range(2, levels + 1), repeat=count)
        if math.prod(radices) >= levels
    )
    assert _ands(found, bits) == min(_ands(radices, bits) for radices in others)


def test_size_is_known_first() -> None:
    """Of each value in each row 12 ANDs with whether it is within reach, and 72 to move it."""
    tried = Tried(shift(40, 16), IntRange(-16, 16), _SIGNED, n=16, k=16, m=16, outer=(2,))
    larger = replace(tried, m=17)
    one_more = size(larger.graph).neurons - size(tried.graph).neurons
    products = 2 * 16 * 16 * (12 + _ands((2, 3, 3), 12))
    assert products == 2 * 16 * 16 * 84
    assert products < one_more < products * 1.05
    assert size(replace(tried, n=4096, k=4096, m=1024, outer=()).graph).neurons > 10**12


def test_what_is_too_wide_is_refused_by_name() -> None:
    tried = replace(TRIED["one column"], scores=IntRange(-(1 << 50), 9))
    with pytest.raises(UnsupportedError) as caught:
        to_binary_neurons(tried.graph)
    assert str(caught.value) == (
        "a graph of binary neurons cannot take this graph:\n"
        "  y: its state can grow to 58 bits; 64-bit arithmetic takes 52: take fewer bits"
    )
    for widest in (
        replace(TRIED["one column"], scores=IntRange(-(1 << 41), (1 << 41) - 1)),
        replace(TRIED["one column"], values=IntRange(-(1 << 38), (1 << 38) - 1)),
    ):
        assert differences(widest)[0] == 0
