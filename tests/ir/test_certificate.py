"""What is proved of a neuron before it runs holds when it runs; ties fall as in floats."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lapilli.ir import ops
from lapilli.ir.bounds import NeuronBounds, fraction_loss, neuron_bounds, trailing_zeros
from lapilli.ir.certificate import certify, check_target
from lapilli.ir.errors import RangeError
from lapilli.ir.graph import Graph, Node
from lapilli.ir.loihi import TIE, unsupported
from lapilli.ir.semantics import State, decay, integrate
from lapilli.ir.targets.lava import LAVA
from lapilli.ir.tensor import IntArray, IntTensor
from lapilli.ir.types import IntRange, Kind, TensorType
from lapilli.simulators.conformance import attention_block, neuron_case
from lapilli.simulators.reference import Reference

_HALF = ops.DECAY_ONE // 2
_WIDTH = 3

decays = st.one_of(
    st.sampled_from([0, 1, 1024, _HALF, 3072, 4095, ops.DECAY_ONE]), st.integers(0, ops.DECAY_ONE)
)


@st.composite
def neurons(draw: st.DrawFn) -> ops.Neuron:
    per_neuron = st.lists(st.integers(1, 400), min_size=_WIDTH, max_size=_WIDTH)
    return ops.Neuron(
        threshold=IntTensor.of(draw(st.one_of(per_neuron, st.integers(1, 400).map(lambda n: [n])))),
        dv=draw(decays),
        du=draw(decays),
        bias=IntTensor.of(draw(st.lists(st.integers(-60, 60), min_size=_WIDTH, max_size=_WIDTH))),
        reset=draw(st.sampled_from(ops.Reset)),
        reset_by=draw(st.integers(0, 500)),
        fraction_bits=draw(st.integers(0, 8)),
        ternary=draw(st.booleans()),
    )


def _drives(kind: IntRange, T: int, seed: int) -> IntArray:
    """(T, B, width): random, held at either end, alternating, and switched once."""
    rng = np.random.default_rng(seed)
    lo, hi = kind.lo, kind.hi
    steps = np.arange(T)
    patterns = [np.full(T, lo), np.full(T, hi), np.where(steps % 2, lo, hi)]
    patterns += [np.where(steps < k, a, b) for k in range(1, T) for a, b in ((lo, hi), (hi, lo))]
    held = np.repeat(np.stack(patterns, axis=1)[:, :, None], _WIDTH, axis=2)
    ends = rng.choice([lo, hi], (T, 8, _WIDTH))
    inside = rng.integers(lo, hi + 1, (T, 8, _WIDTH))
    return np.concatenate([held, ends, inside], axis=1).astype(np.int64)


def _states(op: ops.Neuron, drives: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """Current, membrane and spikes at each step."""
    state = State.zeros(drives.shape[1:])
    us, vs, spikes = [], [], []
    for x in drives:
        fired = integrate(op, x, state)
        state = fired.state
        us.append(state.u)
        vs.append(fired.membrane)
        spikes.append(fired.spikes)
    return np.stack(us), np.stack(vs), np.stack(spikes)


def _bounds(op: ops.Neuron, kind: IntRange, T: int) -> NeuronBounds:
    return neuron_bounds("n", op, TensorType((_WIDTH,), kind, Kind.GRADED), T)


ends = st.tuples(st.integers(-30, 30), st.integers(-30, 30)).map(lambda e: IntRange(min(e), max(e)))


@settings(max_examples=400)
@given(neurons(), ends, st.integers(1, 7), st.integers(0, 10**6))
def test_no_state_leaves_its_bounds(op: ops.Neuron, kind: IntRange, T: int, seed: int) -> None:
    bounds = _bounds(op, kind, T)

    u, v, _ = _states(op, _drives(kind, T, seed))

    assert bounds.u.lo <= u.min()
    assert u.max() <= bounds.u.hi
    assert bounds.v.lo <= v.min()
    assert v.max() <= bounds.v.hi


@settings(max_examples=200)
@given(neurons(), ends, st.integers(1, 7))
def test_bounds_without_reset_are_reached(op: ops.Neuron, kind: IntRange, T: int) -> None:
    op = replace(op, reset=ops.Reset.NONE, bias=IntTensor.of([op.bias.range.hi]))
    zero_inside = IntRange(min(0, kind.lo), max(0, kind.hi))
    bounds = _bounds(op, zero_inside, T)

    u, v, _ = _states(op, _drives(zero_inside, T, 0))

    assert IntRange(min(0, int(u.min())), max(0, int(u.max()))) == bounds.u
    assert IntRange(min(0, int(v.min())), max(0, int(v.max()))) == bounds.v


def _exact_decay(a: Fraction, d: int) -> Fraction:
    return a * (ops.DECAY_ONE - d) / ops.DECAY_ONE


def _never_truncated(op: ops.Neuron, drives: IntArray) -> bool:
    """Whether every decay on the way was exact, in rational arithmetic."""
    state = State.zeros(drives.shape[1:])
    for x in drives:
        for values, d in ((state.u, op.du), (state.v, op.dv)):
            kept = decay(values, d)
            if any(
                _exact_decay(Fraction(int(a)), d) != int(b)
                for a, b in zip(values.ravel(), kept.ravel(), strict=True)
            ):
                return False  # fmt: skip
        state = integrate(op, x, state).state
    return True


def test_no_truncation_is_promised_only_where_there_is_none() -> None:
    promised = refused = truncated = 0

    @settings(max_examples=600)
    @given(
        neurons(),
        st.sampled_from([0, 1024, _HALF, 3072, ops.DECAY_ONE]),
        st.sampled_from([_HALF, ops.DECAY_ONE]),
        st.integers(0, 8),
        st.integers(1, 4),
    )
    def promise(op: ops.Neuron, dv: int, du: int, zeros: int, T: int) -> None:
        nonlocal promised, refused, truncated
        op = replace(
            op, dv=dv, du=du, fraction_bits=8,
            bias=IntTensor(op.bias.array << zeros), reset_by=op.reset_by << zeros,
        )  # fmt: skip
        kind = IntRange(-5, 6)
        never = _never_truncated(op, _drives(kind, T, 1))
        if _bounds(op, kind, T).truncates:
            refused += 1
            truncated += not never
        else:
            promised += 1
            assert never

    promise()
    assert min(promised, refused, truncated) > 20, (promised, refused, truncated)


@pytest.mark.parametrize(
    ("d", "bits"),
    [(0, 0), (ops.DECAY_ONE, 0), (_HALF, 1), (1024, 2), (3072, 2), (1, 12), (4095, 12)],
)
def test_bits_that_one_decay_moves_below_the_unit(d: int, bits: int) -> None:
    assert fraction_loss(d) == bits


@pytest.mark.parametrize(("value", "zeros"), [(1, 0), (-8, 3), (12, 2), (-7, 0)])
def test_trailing_zeros(value: int, zeros: int) -> None:
    assert trailing_zeros(value) == zeros


@pytest.mark.parametrize(
    ("T", "fraction_bits", "changed", "truncates"),
    [
        (4, 3, {}, False),
        (5, 3, {}, True),
        (7, 6, {}, False),
        (8, 6, {}, True),
        (4, 3, {"bias": IntTensor.of([8, 0, -8])}, False),
        (4, 3, {"bias": IntTensor.of([8, 4, -8])}, True),
        (4, 3, {"reset_by": 1}, False),  # not used
        (4, 3, {"reset": ops.Reset.BY_SUBTRACTION, "reset_by": 1}, True),
        (4, 3, {"reset": ops.Reset.BY_SUBTRACTION, "reset_by": 16}, False),
        (99, 0, {"dv": 0}, False),
        (99, 0, {"dv": ops.DECAY_ONE}, False),
        (1, 0, {"dv": 7, "du": 7}, False),
        (4, 3, {"du": _HALF}, False),  # three decays in all, in u or in v
        (5, 3, {"du": _HALF}, True),
        (4, 3, {"du": 1024}, True),
    ],
)
def test_where_truncation_begins(
    T: int, fraction_bits: int, changed: dict[str, object], truncates: bool
) -> None:
    op = ops.Neuron(threshold=IntTensor.of([65]), dv=_HALF, fraction_bits=fraction_bits)
    op = replace(op, **changed)  # type: ignore[arg-type]
    assert _bounds(op, IntRange(-3, 3), T).truncates is truncates


def _driven(weight: int, **options: object) -> Graph:
    op = ops.Neuron(**{"threshold": IntTensor.of([65]), "dv": 0, "fraction_bits": 6, **options})  # type: ignore[arg-type]
    w = ops.Linear(weight=IntTensor.of([[weight]]), bias=IntTensor.of([0]))
    nodes = (
        Node("x", ops.Input(type=TensorType.spikes(1))),
        Node("w", w, ("x",)),
        Node("layer.lif", op, ("w",)),
    )
    return Graph(nodes, ("layer.lif",), 1)


@pytest.mark.parametrize(
    ("weight", "bits"),
    [
        (-(1 << 18) - 1, 26),
        (1 << 17, 25),
        (-(1 << 17), 25),
        (1 << 18, 26),
        ((1 << 17) - 1, None),
        (1 - (1 << 17), None),
    ],
)
def test_a_state_beyond_the_registers_is_refused(weight: int, bits: int | None) -> None:
    graph = _driven(weight)
    if bits is None:
        check_target(graph, LAVA)
        return
    with pytest.raises(RangeError, match=rf"layer\.lif.*needs {bits} bits.*have 24") as caught:
        check_target(graph, LAVA)
    assert caught.value.node == "layer.lif"
    assert str(weight << 6) in str(caught.value)


def test_a_current_beyond_the_registers_is_refused() -> None:
    graph = _driven(1 << 17, du=ops.DECAY_ONE, bias=IntTensor.of([-(1 << 22)]))
    (bounds,) = certify(graph)
    assert bounds.u.magnitude == 1 << 23
    assert bounds.v.magnitude < 1 << 23
    with pytest.raises(RangeError, match=r"layer\.lif"):
        check_target(graph, LAVA)


def test_a_graph_that_fits_is_certified_neuron_by_neuron() -> None:
    graph = attention_block()
    check_target(graph, LAVA)
    assert [b.name for b in certify(graph)] == list(graph.neurons)


_OK = ops.Neuron(threshold=IntTensor.of([65]), dv=_HALF)
_FITS = NeuronBounds("n", IntRange(0, 1), IntRange(0, 64), IntRange(0, 128), IntRange(0, 64), False)


@pytest.mark.parametrize(
    ("changed", "bounds", "reason"),
    [
        ({"threshold": IntTensor.of([65, 129])}, {}, "one threshold per neuron"),
        ({"threshold": IntTensor.of([64])}, {}, r"threshold 64 is not 64 \* vth \+ 1"),
        ({"threshold": IntTensor.of([(TIE << 17) + 1])}, {}, "vth 131072 needs more than 17"),
        ({"bias": IntTensor.of([4096])}, {}, "bias up to 4096 needs more than 13"),
        ({"bias": IntTensor.of([-4096])}, {}, "bias up to 4096 needs more than 13"),
        ({"fraction_bits": 5}, {}, "5 fraction bits"),
        ({}, {"v": IntRange(0, 1 << 23)}, "state needs 25 bits, there are 24"),
        ({}, {"u": IntRange(-(1 << 25), 0)}, "state needs 26 bits, there are 24"),
    ],
)
def test_why_stock_registers_cannot_hold_a_neuron(
    changed: dict[str, object], bounds: dict[str, IntRange], reason: str
) -> None:
    op = replace(_OK, **changed)  # type: ignore[arg-type]
    (found,) = unsupported(op, replace(_FITS, **bounds))  # type: ignore[arg-type]
    assert found.node == _FITS.name
    assert re.search(reason, found.reason)


@pytest.mark.parametrize(
    ("changed", "bounds"),
    [
        ({}, {}),
        ({"threshold": IntTensor.of([((1 << 17) - 1) * TIE + 1])}, {}),
        ({"bias": IntTensor.of([4095])}, {}),
        ({"bias": IntTensor.of([-4095])}, {}),
        ({"fraction_bits": 9}, {}),
        ({}, {"v": IntRange(1 - (1 << 23), (1 << 23) - 1)}),
    ],
)
def test_what_stock_registers_hold(changed: dict[str, object], bounds: dict[str, IntRange]) -> None:
    op = replace(_OK, **changed)  # type: ignore[arg-type]
    assert unsupported(op, replace(_FITS, **bounds)) == ()  # type: ignore[arg-type]


def test_every_fault_is_listed_at_once() -> None:
    bad = replace(_OK, threshold=IntTensor.of([64]), bias=IntTensor.of([9999]), fraction_bits=0)
    assert len(unsupported(bad, replace(_FITS, v=IntRange(0, 1 << 30)))) == 4


# ---- ties: design.md 3.2, statement 3 ---------------------------------------------------


def _exact_lif(drives: IntArray, v_threshold: Fraction) -> tuple[list[int], int]:
    """Spikes of h = v + (x - v) / 2, s = h >= v_threshold, v = 0 on a spike; and the ties."""
    spikes, ties = [], 0
    v = [Fraction(0)] * drives.shape[1]
    for xs in drives.tolist():
        for n, x in enumerate(xs):
            h = v[n] + (x - v[n]) / 2
            ties += h == v_threshold
            fired = h >= v_threshold
            spikes.append(int(fired))
            v[n] = Fraction(0) if fired else h
    return spikes, ties


def _integer_lif(drives: IntArray, theta: int, fraction_bits: int) -> list[int]:
    op = ops.Neuron(threshold=IntTensor.of([theta]), dv=_HALF, fraction_bits=fraction_bits)
    _, _, spikes = _states(op, drives)
    out: list[int] = spikes.ravel().tolist()
    return out


# State V = 2 h 2**f, so that the threshold is 2 v_threshold 2**f in state units.
@pytest.mark.parametrize("T", range(1, 9))
@pytest.mark.parametrize(
    ("v_threshold", "tied_from"), [(Fraction(3), 1), (Fraction(5, 2), 1), (Fraction(11, 4), 2)]
)
def test_the_tie_rule_is_the_exact_neuron(T: int, v_threshold: Fraction, tied_from: int) -> None:
    f = 6 + (T - 1)
    # The trained threshold may lie between two points of the grid: then the upper one.
    theta = 64 * (math.ceil(2 * v_threshold * 2**f / TIE) - 1) + 1
    drives = np.random.default_rng(T).integers(-4, 10, (T, 4000)).astype(np.int64)

    want, ties = _exact_lif(drives, v_threshold)

    assert (ties > 0) == (tied_from <= T)
    assert 0 < sum(want) < len(want)
    assert _integer_lif(drives, theta, f) == want
    if ties:  # vth one higher: > for >=
        assert _integer_lif(drives, theta + TIE, f) != want
    assert _integer_lif(drives, theta + TIE - 1, f) == want  # the grid has nothing in between


def test_the_mutant_differs_by_its_ties_alone() -> None:
    drives = np.random.default_rng(0).integers(-4, 10, (1, 5000)).astype(np.int64)
    want, ties = _exact_lif(drives, Fraction(3))
    mutant = _integer_lif(drives, 64 * (6 - 1) + 1 + TIE, 6)
    assert sum(a != b for a, b in zip(want, mutant, strict=True)) == ties > 100


def test_one_fraction_bit_too_few_is_caught() -> None:
    T = 4
    drives = np.random.default_rng(T).integers(-4, 10, (T, 4000)).astype(np.int64)
    want, _ = _exact_lif(drives, Fraction(3))
    f = 6 + (T - 1)
    assert _integer_lif(drives, 64 * ((6 << (T - 1)) - 1) + 1, f) == want
    assert _integer_lif(drives, 64 * ((6 << (T - 2)) - 1) + 1, f - 1) != want


def test_ternary_ties_are_symmetric() -> None:
    op = ops.Neuron(threshold=IntTensor.of([64 * 5 + 1]), dv=0, ternary=True)
    graph, given_ = neuron_case(op, [5, -5, 6, -6, -6])
    spikes = Reference().compile(graph).run(given_).values["s"]
    assert spikes.ravel().tolist() == [0, 0, 1, -1, -1]
