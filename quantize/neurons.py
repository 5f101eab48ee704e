"""From a neuron's real constants to Loihi's integers, with the tie rule.

The integer state counts 2**-f of a synaptic unit, V = h / (gain * scale) * 2**f. If no decay
can truncate in T steps, V is a multiple of 2**(f - loss * (T - 1)). With f so large that
this is 64, V >= Theta, V > 64 * vth and V >= 64 * vth + 1 say the same for
vth = ceil(Theta / 64) - 1: the trained threshold is kept exactly, whatever it is.

A register that is too short for that takes a *coarse* state: fewer fraction bits, still none
lost, and the threshold rounded to 64 * vth + 1 on both sides before anything is compared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from lapilli.ir.certificate import TIE, fraction_loss
from lapilli.ir.ops import DECAY_ONE, LOIHI_FRACTION_BITS, Neuron
from lapilli.ir.tensor import IntTensor
from lapilli.model.adapters import NeuronRule

_MOST_FRACTION_BITS = 9  # beyond, 24-bit registers have no room for the current itself
_ENOUGH_UNITS = 128


@dataclass(frozen=True, slots=True)
class IntegerNeuron:
    """A neuron in integers.

    Attributes:
        op: for the graph.
        unit: real value of one synaptic unit of the state, h = V * unit * 2**-f.
        exact: the author's float neuron computes the same spikes; if not, this integer
            neuron takes its place on both sides.
        v_threshold: what the author's neuron must compare with, if it had to be rounded.
        note: a sentence about either; empty if nothing changed.
    """

    op: Neuron
    unit: Fraction
    exact: bool = True
    v_threshold: Fraction | None = None
    note: str = ""


def integer_neuron(
    rule: NeuronRule, scale: Fraction, T: int, *, coarse: bool = False
) -> IntegerNeuron:
    """Integers for a neuron whose real input is an integer times `scale`."""
    kept = rule.decay * DECAY_ONE
    dv = DECAY_ONE - round(kept)
    unit = rule.gain * scale
    lost = fraction_loss(dv) * (T - 1)
    if why := _inexact(rule, scale, lost):
        bits = LOIHI_FRACTION_BITS
        vth = max(0, round(_theta(rule, unit, bits) / TIE))
        note = f"the integer neuron stands on both sides: {why}"
        return IntegerNeuron(_neuron(vth, dv, bits), unit, exact=False, note=note)
    if not coarse:
        bits = LOIHI_FRACTION_BITS + lost
        theta = _theta(rule, unit, bits) / TIE
        vth = math.floor(theta) if rule.strict else math.ceil(theta) - 1
        return IntegerNeuron(_neuron(max(0, vth), dv, bits), unit)
    bits = max(LOIHI_FRACTION_BITS, lost)
    vth = max(0, round(_theta(rule, unit, bits) / TIE))
    v_threshold = (vth * TIE + 1) * unit / 2**bits
    change = float(v_threshold / rule.v_threshold - 1)
    note = f"v_threshold {float(rule.v_threshold):g} rounded by {change:+.2e} on both sides"
    return IntegerNeuron(_neuron(vth, dv, bits), unit, v_threshold=v_threshold, note=note)


def can_be_coarse(neuron: IntegerNeuron) -> bool:
    """Whether rounding this threshold changes it by less than rounding a weight to 8 bits."""
    theta = int(neuron.op.threshold.array.max()) >> neuron.op.fraction_bits
    return neuron.exact and neuron.v_threshold is None and theta >= _ENOUGH_UNITS


def _neuron(vth: int, dv: int, fraction_bits: int) -> Neuron:
    threshold = IntTensor.of([vth * TIE + 1])
    return Neuron(threshold=threshold, dv=dv, fraction_bits=fraction_bits)


def _theta(rule: NeuronRule, unit: Fraction, bits: int) -> Fraction:
    """The trained threshold in state units."""
    theta: Fraction = rule.v_threshold / unit * 2**bits
    return theta


def _inexact(rule: NeuronRule, scale: Fraction, lost: int) -> str:
    """Why floats, or 24 bits, cannot follow this neuron exactly; empty if they can."""
    if (rule.decay * DECAY_ONE).denominator != 1:
        return f"decay {float(rule.decay):.6g} is no multiple of 1/{DECAY_ONE}"
    if lost > _MOST_FRACTION_BITS:
        return f"its decay moves {lost} bits below the unit"
    if scale.denominator & (scale.denominator - 1):
        return f"its currents are multiples of 1/{scale.denominator}, which floats round"
    return ""
