"""Integer neurons against exact rational arithmetic: equal wherever they are said to be."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")

from lapilli.ir import ops
from lapilli.ir.semantics import State, integrate
from lapilli.model.neurons.rule import NeuronRule
from lapilli.quantize.neurons import IntegerNeuron, StateFormat, integer_neuron, next_coarser

pytestmark = pytest.mark.torch

HALF, ONE, TWO = Fraction(1, 2), Fraction(1), Fraction(2)
T = 4


def op_of(made: IntegerNeuron) -> ops.Neuron:
    assert isinstance(made.op, ops.Neuron)
    return made.op


def rational(rule: NeuronRule, currents: list[Fraction]) -> tuple[list[int], list[Fraction]]:
    """The rule as it is written, in fractions."""
    i, v, theta = Fraction(0), rule.v_rest, rule.v_rest + rule.thetas[0]
    spikes, membranes = [], []
    for x in currents:
        i = rule.current_decay * i + x
        h = rule.v_rest + rule.decay * (v - rule.v_rest) + rule.gain * i
        up = h > theta if rule.strict else h >= theta
        down = -h > theta if rule.strict else -h >= theta
        s = int(up) - int(rule.ternary and down)
        after = {
            ops.Reset.TO_ZERO: rule.v_rest,
            ops.Reset.BY_SUBTRACTION: h - s * rule.reset_by,
            ops.Reset.NONE: h,
        }
        v = after[rule.reset] if s else h
        spikes.append(s)
        membranes.append(h)
    return spikes, membranes


def integers(
    made: IntegerNeuron, rule: NeuronRule, n: list[int]
) -> tuple[list[int], list[Fraction]]:
    """The same by the integer neuron, its membranes in real units."""
    op = op_of(made)
    state = State.zeros((1,))
    spikes, membranes = [], []
    for current in n:
        fired = integrate(op, np.array([current]), state)
        state = fired.state
        spikes.append(int(fired.spikes[0]))
        unit = made.unit / TWO**op.fraction_bits
        membranes.append(int(fired.membrane[0]) * unit + rule.v_rest)
    return spikes, membranes


dyadic = st.builds(lambda n, d: Fraction(n, 2**d), st.integers(1, 40), st.integers(0, 5))
kept = st.sampled_from([Fraction(0), HALF, Fraction(1, 4), Fraction(3, 4), ONE, Fraction(1, 3)])


@st.composite
def rules(draw: st.DrawFn) -> NeuronRule:
    ternary = draw(st.booleans())
    rest = Fraction(0) if ternary else draw(st.sampled_from([Fraction(0), -HALF, Fraction(3, 8)]))
    return NeuronRule(
        decay=draw(kept),
        gain=draw(st.sampled_from([ONE, HALF, Fraction(1, 4)])),
        v_threshold=rest + draw(dyadic),
        strict=draw(st.booleans()),
        current_decay=draw(st.sampled_from([Fraction(0), Fraction(0), HALF, ONE])),
        reset=draw(st.sampled_from(list(ops.Reset))),
        reset_by=draw(dyadic),
        v_rest=rest,
        ternary=ternary,
    )


def test_exact_means_equal_in_rational_arithmetic() -> None:
    seen = {"exact": 0, "fired": 0, "ties": 0}
    scales = st.sampled_from([ONE, HALF, Fraction(1, 8)])
    currents = st.lists(st.integers(-60, 90), min_size=T, max_size=T)

    @settings(max_examples=1500)
    @given(rules(), scales, currents)
    def compare(rule: NeuronRule, scale: Fraction, n: list[int]) -> None:
        made = integer_neuron(rule, scale, T)
        if not made.exact:
            assert made.note
            return
        want, membranes = rational(rule, [i * scale for i in n])
        assert integers(made, rule, n) == (want, membranes)
        seen["exact"] += 1
        seen["fired"] += any(want)
        seen["ties"] += any(abs(h) == rule.v_rest + rule.thetas[0] for h in membranes)

    compare()
    assert seen["exact"] > 500
    assert seen["fired"] > 250
    assert seen["ties"] > 25


def rule_of(**given: object) -> NeuronRule:
    return NeuronRule(**{"decay": HALF, "gain": HALF, "v_threshold": ONE, **given})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rule", "vth", "reset_by", "bits"),
    [
        (rule_of(), 2 * 8 - 1, 0, 9),
        (rule_of(strict=True), 2 * 8, 0, 9),
        (rule_of(ternary=True), 15, 0, 9),
        (rule_of(v_threshold=ONE, v_rest=-HALF), 3 * 8 - 1, 0, 9),
        (rule_of(reset=ops.Reset.BY_SUBTRACTION, reset_by=ONE), 15, 2 << 9, 9),
        (rule_of(reset=ops.Reset.BY_SUBTRACTION, reset_by=TWO, strict=True), 16, 4 << 9, 9),
        # 3/4 of a synaptic unit: two bits more
        (rule_of(reset=ops.Reset.BY_SUBTRACTION, reset_by=Fraction(3, 8)), 63, 3 << 9, 11),
        (rule_of(current_decay=Fraction(3, 4)), 2 * 64 - 1, 0, 12),  # the finer of two decays
        (rule_of(decay=ONE, gain=ONE), 0, 0, 6),
        (rule_of(decay=Fraction(0), gain=ONE), 0, 0, 6),
    ],
)
def test_registers(rule: NeuronRule, vth: int, reset_by: int, bits: int) -> None:
    made = integer_neuron(rule, ONE, T)
    op = op_of(made)
    assert made.exact
    assert (op.threshold.array.tolist(), op.reset_by) == ([64 * vth + 1], reset_by)
    assert op.fraction_bits == bits
    assert (op.dv, op.du) == (
        ops.DECAY_ONE - int(rule.decay * ops.DECAY_ONE),
        ops.DECAY_ONE - int(rule.current_decay * ops.DECAY_ONE),
    )
    assert op.ternary is rule.ternary


@pytest.mark.parametrize(
    ("rule", "scale", "why"),
    [
        (rule_of(decay=Fraction(1, 3)), ONE, "decay 0.333333 is no multiple of 1/4096"),
        (rule_of(current_decay=Fraction(1, 3)), ONE, "current_decay 0.333333"),
        (rule_of(decay=Fraction(15, 16)), ONE, "moves 12 bits below the unit"),
        (rule_of(reset=ops.Reset.BY_SUBTRACTION, reset_by=Fraction(1, 3)), ONE, "off the grid"),
        (rule_of(reset=ops.Reset.BY_SUBTRACTION, reset_by=Fraction(1, 256)), ONE, "off the grid"),
        (rule_of(gain=Fraction(1, 3)), ONE, "is multiplied by 0.333333, which floats round"),
        (rule_of(), Fraction(1, 49), "multiples of 1/49, which floats round"),
        (rule_of(), Fraction(0.1), "which floats round"),
        (rule_of(v_rest=Fraction(1, 3)), ONE, "rests at 0.333333"),
        (rule_of(v_rest=Fraction(1, 1 << 40)), ONE, "rests at 9.09495e-13"),
    ],
)
def test_why_the_integer_neuron_stands_on_both_sides(
    rule: NeuronRule, scale: Fraction, why: str
) -> None:
    made = integer_neuron(rule, scale, T)
    assert not made.exact
    assert why in made.note
    assert op_of(made).fraction_bits == 6


def test_coarse_states() -> None:
    rule = rule_of(v_threshold=Fraction(1000, 7), strict=True)
    fine = integer_neuron(rule, ONE, T)
    assert next_coarser(fine, rule, T) == next_coarser(fine, rule, T, stock=True) == StateFormat(6)
    coarse = integer_neuron(rule, ONE, T, StateFormat(6))
    assert next_coarser(coarse, rule, T, stock=True) is None
    assert next_coarser(coarse, rule, T) == StateFormat(3, loihi_threshold=False)
    op = op_of(coarse)
    assert op.fraction_bits == 6
    # strict: the float neuron compares with 64 * vth itself, h > 64 vth is V >= 64 vth + 1
    (theta,) = op.threshold.array.tolist()
    assert coarse.v_threshold == (theta - 1) * HALF / 64
    assert "rounded by" in coarse.note
    soft = rule_of(reset=ops.Reset.BY_SUBTRACTION, reset_by=ONE)
    assert next_coarser(integer_neuron(soft, ONE, T), soft, T) == StateFormat(6)
    integer = integer_neuron(soft, ONE, T, StateFormat(6))
    assert (integer.exact, op_of(integer).fraction_bits) == (False, 6)
    whole = rule_of(decay=ONE, reset=ops.Reset.BY_SUBTRACTION, reset_by=ONE)
    assert next_coarser(integer_neuron(whole, ONE, T), whole, T) is None  # nothing to gain


@pytest.mark.parametrize("strict", [False, True])
def test_a_threshold_of_few_units_is_kept_exactly_in_a_small_state(strict: bool) -> None:
    rule = rule_of(v_threshold=Fraction(4), strict=strict)  # 8 units: ties happen all the time
    fine = integer_neuron(rule, ONE, T)
    assert next_coarser(fine, rule, T, stock=True) is None  # weights give up bits
    assert next_coarser(fine, rule, T) == StateFormat(3, loihi_threshold=False)
    small = integer_neuron(rule, ONE, T, StateFormat(3, loihi_threshold=False))
    assert small.exact
    assert small.v_threshold is None
    assert "no stock Loihi neuron" in small.note
    assert op_of(small).threshold.array.tolist() == [65 if strict else 64]
    tie = [8, 0, 4, 6]  # h = 4 at once, then 2, 3 or 2, 1 + 3
    assert (
        integers(small, rule, tie)
        == integers(fine, rule, tie)
        == rational(rule, list(map(Fraction, tie)))
    )


def test_an_integer_neuron_shifts_its_input_to_the_right_before_weights_lose_bits() -> None:
    rule = rule_of()
    made = integer_neuron(rule, Fraction(1, 49 << 10), T)  # theta: 100352 units, 23 bits of state
    bits = []
    while (room := next_coarser(made, rule, T)) is not None:
        made = integer_neuron(rule, made.scale, T, room)
        bits.append(room.fraction_bits)
    assert bits == [5, 4, 3, 2, 1, 0, -1, -2, -3, -4, -5, -6]
    assert op_of(made).threshold.array.tolist() == [round(100352 / 64)]
    spikes, membranes = integers(made, rule, [60000, 60000, 90000, -90000])
    assert spikes == rational(rule, [n * made.scale for n in (60000, 60000, 90000, -90000)])[0]
    assert membranes[0] == (60000 >> 6) * 64 * made.unit
