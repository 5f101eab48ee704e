"""From a neuron's real constants to Loihi's integers, with the tie rule.

The integer state counts 2**-f of a synaptic unit, V = (h - rest) / (gain * scale) * 2**f. If
no decay can truncate in T steps, V is a multiple of 2**(f - lost). With f so large that this
is 64, V >= Theta, V > 64 * vth and V >= 64 * vth + 1 say the same for
vth = ceil(Theta / 64) - 1: the trained threshold is kept exactly, whatever it is. A ternary
neuron fires -1 at V <= -Theta, which is V < -64 * vth by the same argument.

A soft reset subtracts R state units, and R must be a multiple of 64 * 2**lost as inputs are:
where the amount lies below the synaptic unit, f grows by that many bits.

A register that is too short for that takes a *coarse* state: fewer fraction bits, still none
lost, and the threshold rounded to 64 * vth + 1 on both sides before anything is compared. A
threshold of few units, where sums of spikes meet it exactly, keeps its value instead, with no
bit below the finest: a state that no stock register can compare, but the same spikes. With
a soft reset, whose amount is the threshold in most frameworks and would leave its grid, the
integer neuron itself takes the float one's place, with six fraction bits, on both sides.
Thresholds that differ from neuron to neuron are never rounded: their coarser state keeps them,
too. An integer neuron on both sides may lose
bits: it gives up one after the other, down to a shift of its input to the right, as long as
that moves the threshold less than 8-bit weights do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from lapilli.ir import ops
from lapilli.ir.bounds import fraction_loss
from lapilli.ir.loihi import TIE
from lapilli.ir.targets.lava import STATE
from lapilli.ir.tensor import IntTensor
from lapilli.model.neurons.general_rule import GeneralRule
from lapilli.model.neurons.rule import NeuronRule, Rule, StaircaseRule, Thresholds
from lapilli.quantize.general_neuron import LOWEST_BITS, general_integers
from lapilli.quantize.rounding import FLOAT_BITS, bits_below_one, register, rounds
from lapilli.quantize.staircase import staircase

INSTEAD = "the integer neuron also replaces the float neuron in the PyTorch reference"
_CURRENT_BITS = 15  # of a state, that a current needs at least: the others may be fraction bits
_MOST_FRACTION_BITS = 26  # beyond Loihi's 6: the graph's neuron takes 32
_ENOUGH_UNITS = 128  # of a threshold, so that Loihi's grid of 64 moves it by 0.4 % at most
_ENOUGH_STATE = 1024  # of a threshold, so that a bit lost at each step moves it less


@dataclass(frozen=True, slots=True)
class StateFormat:
    """How a state is kept, where it must be coarse.

    Attributes:
        fraction_bits: below the synaptic unit; a shift to the right where negative.
        loihi_threshold: whether the threshold is one of Loihi's, 64 * vth + 1.
    """

    fraction_bits: int
    loihi_threshold: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class IntegerNeuron:
    """A neuron in integers.

    Attributes:
        op: for the graph.
        scale: real current = integer * scale.
        unit: real value of one synaptic unit of the state, h - rest = V * unit * 2**-f.
        exact: the author's float neuron computes the same spikes; if not, this integer
            neuron takes its place on both sides.
        v_threshold: what the author's neuron must compare with, if it had to be rounded.
        format: of a state that had to be coarser; None if it keeps all that it needs.
        note: a sentence about what changed; empty if nothing did.
        factors: how many times as large `scale` and `unit` are for each channel, of a shape that
            broadcasts against the current; None if they are the same for all.
    """

    op: ops.Firing
    scale: Fraction
    unit: Fraction
    exact: bool = True
    v_threshold: Fraction | None = None
    format: StateFormat | None = None
    note: str = ""
    factors: IntTensor | None = None


def integer_neuron(
    rule: Rule,
    scale: Fraction,
    T: int,
    form: StateFormat | None = None,
    factors: IntTensor | None = None,
    *,
    state_bits: int = STATE.bits,
) -> IntegerNeuron:
    """Integers for a neuron.

    Args:
        rule: what it computes.
        scale: a real input is an integer times this, which is positive.
        T: time steps.
        form: for the state; by default as much as keeps the trained threshold exactly.
        factors: for each channel, how many times as large its scale is. Its state counts in units
            so much larger, and its threshold is so much smaller a number of them.
        state_bits: that a register has.
    """
    odd = _largest_odd(factors)
    if isinstance(rule, StaircaseRule):
        why = rounds(scale * odd, state_bits)
        note = f"{INSTEAD}: {why}" if why else ""
        made = IntegerNeuron(
            op=staircase(rule, scale, factors), scale=scale, unit=scale, exact=not why, note=note
        )
    elif isinstance(rule, GeneralRule):
        made = _general(rule, scale, T, form, state_bits)
    elif factors is not None and rule.reset is ops.Reset.BY_SUBTRACTION:
        made = _soft_in_channels(_in_channels(rule, factors), scale, T, form, factors, state_bits)
    else:
        made = _of_membrane(_in_channels(rule, factors), scale, T, form, odd, state_bits)
    return replace(made, factors=factors)


def with_threshold(neuron: IntegerNeuron, threshold: Fraction) -> IntegerNeuron:
    """Let the author's neuron compare with a threshold that a float holds and that was moved."""
    note = f"its threshold is {float(threshold):g}, by which it fires as often as in float"
    note = f"{note}; {neuron.note}" if neuron.note else note
    set_to = neuron.v_threshold if neuron.v_threshold is not None else threshold
    return replace(neuron, v_threshold=set_to if neuron.exact else None, note=note)


def _largest_odd(factors: IntTensor | None) -> int:
    """Of the factors, without their powers of two: what they add to the bits of a scale."""
    return max((m // (m & -m) for m in factors.array.ravel().tolist()), default=1) if factors else 1


def _in_channels(rule: NeuronRule, factors: IntTensor | None) -> NeuronRule:
    """The same neuron, its thresholds in numbers of units that differ from channel to channel.

    Raises:
        ValueError: it rests where no channel's unit has a number for it.
    """
    if factors is None:
        return rule
    if rule.v_rest:
        raise ValueError("has a resting potential: one scale for all channels")
    thetas = np.array(rule.thetas, object).reshape(rule.shape) / factors.array.astype(object)
    return replace(rule, v_threshold=Thresholds(tuple(thetas.ravel().tolist()), thetas.shape))


def _soft_in_channels(
    rule: NeuronRule,
    scale: Fraction,
    T: int,
    form: StateFormat | None,
    factors: IntTensor,
    state_bits: int,
) -> IntegerNeuron:
    """A soft reset whose amount, as its threshold, is another number of units in each channel.

    A `GeneralNeuron` holds one for each. Few of them are whole numbers of state units, so that the
    integer neuron stands on both sides.

    Raises:
        ValueError: it fires with either sign, which such a neuron does not.
    """
    if rule.ternary:
        raise ValueError("fires with either sign and a soft reset: one scale for all channels")
    dv, du = register(rule.decay), register(rule.current_decay)
    lost = max(fraction_loss(dv), fraction_loss(du)) * (T - 1)
    most = min(state_bits - _CURRENT_BITS, _MOST_FRACTION_BITS)
    bits = form.fraction_bits if form else min(ops.LOIHI_FRACTION_BITS + lost, most)
    unit = rule.gain * scale
    in_state = [_in_state(theta, unit, bits) for theta in rule.thetas]
    reached = [max(1, math.floor(t) + 1 if rule.strict else math.ceil(t)) for t in in_state]
    taken = [
        round(_in_state(rule.reset_by / m, unit, bits)) for m in factors.array.ravel().tolist()
    ]
    op = ops.GeneralNeuron(
        taps=IntTensor.of([[[1 << max(0, bits)]]]),
        threshold=IntTensor.of(np.reshape(reached, (1, 1, *rule.shape))),
        dv=IntTensor.of([[dv]]),
        du=IntTensor.of([[du]]),
        reset=rule.reset,
        reset_by=IntTensor.of(np.reshape(taken, (1, *factors.shape))),
        shift=max(0, -bits),
        fraction_bits=bits,
    )
    note = f"{INSTEAD}: its soft reset takes another number of units in each channel"
    return IntegerNeuron(op=op, scale=scale, unit=unit, exact=False, format=form, note=note)


def _of_membrane(
    rule: NeuronRule,
    scale: Fraction,
    T: int,
    form: StateFormat | None,
    odd: int,
    state_bits: int,
) -> IntegerNeuron:
    given = form
    dv, du = register(rule.decay), register(rule.current_decay)
    lost = max(fraction_loss(dv), fraction_loss(du)) * (T - 1)
    unit = rule.gain * scale
    below = bits_below_one(rule.reset_by / unit)
    why = _inexact(rule, scale, lost, below, odd, state_bits)
    if form and not why and rule.reset is ops.Reset.BY_SUBTRACTION:
        why = f"its soft reset would need {lost + below} bits below Loihi's in its state"
    if form and form.loihi_threshold and not why and len(rule.thetas) != 1:
        why = f"its thresholds differ, and its state would need {lost + below} bits below Loihi's"
    if form and not why and form.fraction_bits < lost:
        why = f"its decay moves {lost} bits below the unit"
    if why:
        form = form or StateFormat(ops.LOIHI_FRACTION_BITS)
        bits, in_state = (
            form.fraction_bits,
            [_in_state(t, unit, form.fraction_bits) for t in rule.thetas],
        )
        thresholds = [
            _tie(round(t / TIE)) if form.loihi_threshold else max(1, round(t)) for t in in_state
        ]
        note = f"{INSTEAD}: {why}"
        if bits < ops.LOIHI_FRACTION_BITS:
            note += f"; to fit, its state has {bits} fraction bits"
        op = _neuron(rule, thresholds, unit, bits)
        return IntegerNeuron(op=op, scale=scale, unit=unit, exact=False, format=given, note=note)
    if form is None:
        bits = ops.LOIHI_FRACTION_BITS + lost + below
        thetas = [_in_state(theta, unit, bits) / TIE for theta in rule.thetas]
        vth = [math.floor(t) if rule.strict else math.ceil(t) - 1 for t in thetas]
        op = _neuron(rule, list(map(_tie, vth)), unit, bits)
        return IntegerNeuron(op=op, scale=scale, unit=unit)
    bits = form.fraction_bits
    if not form.loihi_threshold:
        kept = [_in_state(theta, unit, bits) for theta in rule.thetas]
        reached = [max(1, math.floor(k) + 1 if rule.strict else math.ceil(k)) for k in kept]
        note = f"{bits} fraction bits: exact, but no stock Loihi neuron, which shifts by 6"
        op = _neuron(rule, reached, unit, bits)
        return IntegerNeuron(op=op, scale=scale, unit=unit, format=given, note=note)
    (theta,) = rule.thetas
    rounded = max(0, round(_in_state(theta, unit, bits) / TIE))
    v_threshold = rule.v_rest + (rounded * TIE + (0 if rule.strict else 1)) * unit / 2**bits
    change = float((v_threshold - rule.v_rest) / theta - 1)
    was = float(theta + rule.v_rest)
    note = f"v_threshold {was:g} rounded by {change:+.2e}, in the PyTorch reference too"
    return IntegerNeuron(
        op=_neuron(rule, [_tie(rounded)], unit, bits),
        scale=scale,
        unit=unit,
        v_threshold=v_threshold,
        format=given,
        note=note,
    )


def _general(
    rule: GeneralRule, scale: Fraction, T: int, form: StateFormat | None, state_bits: int
) -> IntegerNeuron:
    most = min(state_bits - _CURRENT_BITS, _MOST_FRACTION_BITS)
    bits = form.fraction_bits if form else None
    made = general_integers(rule, scale, T, bits, state_bits=state_bits, most=most)
    note = f"{INSTEAD}: {made.why}" if made.why else ""
    return IntegerNeuron(
        op=made.op, scale=scale, unit=made.unit, exact=not made.why, format=form, note=note
    )


def next_coarser(
    neuron: IntegerNeuron, rule: Rule, T: int, *, stock: bool = False, lowest: int = -32
) -> StateFormat | None:
    """The next smaller state, or None if this is the smallest.

    Args:
        neuron: as it is.
        rule: what it was made from.
        T: time steps.
        stock: only states that stock neurons of Loihi have, as long as floats follow them.
        lowest: fraction bits that it must keep.
    """
    op = neuron.op
    if isinstance(op, ops.GeneralNeuron):
        tall = int(np.abs(op.threshold.array).max()) >= 2 * _ENOUGH_STATE
        few = StateFormat(op.fraction_bits - 1, loihi_threshold=False)
        return few if tall and op.fraction_bits > max(lowest, LOWEST_BITS) else None
    if not isinstance(op, ops.Neuron) or not isinstance(rule, NeuronRule):
        return None
    forms = _exact_forms(neuron, rule, T, stock=stock) if neuron.exact else []
    later = forms[forms.index(neuron.format) + 1 :] if neuron.format in forms else forms
    for form in later:
        if form.fraction_bits < op.fraction_bits:
            return form
    if neuron.exact and stock:
        return None
    enough = int(op.threshold.array.min()) >= 2 * _ENOUGH_STATE and op.fraction_bits > lowest
    return StateFormat(op.fraction_bits - 1, loihi_threshold=False) if enough else None


def _exact_forms(
    neuron: IntegerNeuron, rule: NeuronRule, T: int, *, stock: bool
) -> list[StateFormat]:
    """Coarser states that lose no bit, the larger first."""
    dv, du = register(rule.decay), register(rule.current_decay)
    lost = max(fraction_loss(dv), fraction_loss(du)) * (T - 1)
    many = neuron.factors is not None or len(rule.thetas) != 1
    if rule.reset is ops.Reset.BY_SUBTRACTION or (many and stock):
        return [StateFormat(ops.LOIHI_FRACTION_BITS)]
    coarse = StateFormat(max(ops.LOIHI_FRACTION_BITS, lost))
    small = StateFormat(lost, loihi_threshold=False)
    tall = not many and rule.thetas[0] > _ENOUGH_UNITS * neuron.unit
    return [*([coarse] if tall else []), *([] if stock else [small])]


def _tie(vth: int) -> int:
    """The threshold of Loihi's comparison v > vth * 64."""
    return max(0, vth) * TIE + 1


def _neuron(
    rule: NeuronRule, thresholds: Sequence[int], unit: Fraction, fraction_bits: int
) -> ops.Neuron:
    return ops.Neuron(
        threshold=IntTensor.of(np.reshape(thresholds, rule.shape)),
        dv=register(rule.decay),
        du=register(rule.current_decay),
        reset=rule.reset,
        reset_by=round(_in_state(rule.reset_by, unit, fraction_bits)),
        fraction_bits=fraction_bits,
        ternary=rule.ternary,
    )


def _in_state(value: Fraction, unit: Fraction, bits: int) -> Fraction:
    """A real value in state units."""
    scaled: Fraction = value / unit * Fraction(2) ** bits
    return scaled


def _inexact(
    rule: NeuronRule, scale: Fraction, lost: int, below: int, odd: int, state_bits: int
) -> str:
    """Why floats, or so many bits, cannot follow this neuron exactly; empty if they can."""
    most = min(state_bits - _CURRENT_BITS, _MOST_FRACTION_BITS)
    for name, kept in (("decay", rule.decay), ("current_decay", rule.current_decay)):
        if (kept * ops.DECAY_ONE).denominator != 1:
            return f"{name} {float(kept):.6g} is no multiple of 1/{ops.DECAY_ONE}"
    if lost > most:
        return f"its decay moves {lost} bits below the unit"
    if below < 0 or lost + below > most:
        return f"a spike subtracts {float(rule.reset_by):g}, off the grid of its state"
    if why := rounds(scale * odd, state_bits):
        return why
    if why := rounds(rule.gain * scale * odd, state_bits):
        return f"its input is multiplied by {float(rule.gain):g}, which floats round"
    bits = ops.LOIHI_FRACTION_BITS + lost + below
    if _span(rule, rule.gain * scale, bits, state_bits) > FLOAT_BITS:
        return f"it rests at {float(rule.v_rest):g}, and floats round what is added to that"
    return ""


def _span(rule: NeuronRule, unit: Fraction, bits: int, state_bits: int) -> int:
    """Bits from the largest membrane, the resting potential in it, down to its finest step."""
    step = unit / 2**bits
    if rule.v_rest.denominator & (rule.v_rest.denominator - 1):
        return FLOAT_BITS + 1
    finest = Fraction(1, max(step.denominator, rule.v_rest.denominator))
    return int((abs(rule.v_rest) + step * 2**state_bits) / finest).bit_length()
