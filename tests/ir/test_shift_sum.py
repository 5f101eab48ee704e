"""Shifts by data: the definition against the paper's formula in fractions, and its bounds."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapilli.ir import ops
from lapilli.ir.certificate import certify
from lapilli.ir.graph import Graph, Node
from lapilli.ir.semantics import evaluate
from lapilli.ir.tensor import IntTensor
from lapilli.ir.types import IntRange, Kind, TensorType
from lapilli.simulators.event_driven import EventDriven
from lapilli.simulators.reference import Reference


def in_fractions(op: ops.ShiftSum, scores: list[int], values: list[list[int]]) -> list[int]:
    """Equations 13 to 15 for one row, with the two constants and one truncation."""
    kept = [x for x in scores if x >= max(scores) - op.window]
    total = sum((Fraction(2) ** x for x in kept), Fraction(0))
    gamma = next(g for g in range(max(scores), max(scores) + 64) if Fraction(2) ** g >= total)
    weights = [Fraction(2) ** (x - gamma) for x in scores]
    weights = [w if w >= Fraction(1, 2**op.reach) else Fraction(0) for w in weights]
    assert sum(weights) <= 1
    columns = zip(*values, strict=True)
    return [math.trunc(sum(w * v for w, v in zip(weights, c, strict=True))) for c in columns]


@st.composite
def sums(draw: st.DrawFn) -> tuple[ops.ShiftSum, list[list[int]], list[list[int]]]:
    """Rows in which ties, and scores on either side of window and reach, are frequent."""
    window = draw(st.integers(0, 45))
    k, near = draw(st.integers(1, 9)), st.integers(-3, 3)
    edge = st.sampled_from([-window - 1, -window, 1 - window])
    score = st.one_of(near, edge, st.integers(-60, 60))
    row = st.lists(score, min_size=k, max_size=k)
    value = st.lists(st.integers(-(2**17), 2**17), min_size=2, max_size=2)
    return (
        ops.ShiftSum(window=window, reach=draw(st.integers(0, window))),
        draw(st.lists(row, min_size=1, max_size=3)),
        draw(st.lists(value, min_size=k, max_size=k)),
    )


def _graph(op: ops.ShiftSum, scores: TensorType, values: TensorType) -> Graph:
    nodes = (
        Node("x", ops.Input(type=scores)),
        Node("v", ops.Input(type=values)),
        Node("y", op, ("x", "v")),
        Node("s", ops.Neuron(threshold=IntTensor.of([65]), ternary=True), ("y",)),
    )
    return Graph(nodes, ("y", "s"), 1)


@given(sums())
def test_the_formula_in_fractions(
    given_: tuple[ops.ShiftSum, list[list[int]], list[list[int]]],
) -> None:
    op, scores, values = given_
    want = [in_fractions(op, row, values) for row in scores]
    x, v = np.array([scores]), np.array([values])

    assert evaluate(op, (x, v))[0].tolist() == want

    ends = IntRange(int(v.min()), int(v.max()))
    graph = _graph(
        op,
        TensorType(x.shape[1:], IntRange(-60, 60), Kind.GRADED),
        TensorType(v.shape[1:], ends, Kind.GRADED),
    )
    shown = {"x": x[None].clip(-60, 60), "v": v[None]}
    reference = Reference().compile(graph).run(shown)  # checks the proven range
    assert reference.values["y"][0, 0].tolist() == want
    assert EventDriven().compile(graph).run(shown).values["y"][0, 0].tolist() == want


@pytest.mark.parametrize("tokens", [1, 7, 4096])
def test_rows_of_equal_scores_average(tokens: int) -> None:
    """As wide as the powers' sum may be, and as long: nothing wraps."""
    op = ops.ShiftSum(window=41, reach=41)
    v = np.full((1, tokens, 1), (1 << 22) - 1)
    y = evaluate(op, (np.full((1, 1, tokens), 9), v))
    shift = (tokens - 1).bit_length()
    assert y.item() == tokens * ((1 << 22) - 1) >> shift


def test_the_proof_of_a_neuron_behind_it_is_tight() -> None:
    """A row with one score far above the others hands its value through, whole."""
    values = TensorType((2, 1), IntRange(-300, 500), Kind.GRADED)
    graph = _graph(
        ops.ShiftSum(window=8, reach=8), TensorType((2, 2), IntRange(-9, 9), Kind.GRADED), values
    )
    (bounds,) = certify(graph)
    assert bounds.current == IntRange(-300, 500)
    x, v = np.array([[[[9, -9], [-9, 9]]]]), np.array([[[[-300], [500]]]])
    got = Reference().compile(graph).run({"x": x, "v": v})
    assert got.values["y"].ravel().tolist() == [-300, 500]
