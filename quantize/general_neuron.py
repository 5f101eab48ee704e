"""From a general neuron's real constants to integers: 12 bits below one for what multiplies.

Decays and taps are multiples of 1/4096, on both sides if they have to be rounded. A gain that all
inputs share multiplies nothing: the state counts in units of it. Where no constant is rounded, and
no decay can truncate in T steps, floats compute the same; else the integer neuron takes the
float one's place. No register of Loihi's compares this state, so that its threshold is what it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from lapilli.ir import ops
from lapilli.ir.bounds import fraction_loss
from lapilli.ir.tensor import IntTensor
from lapilli.model.neurons.general_rule import Constants, GeneralRule
from lapilli.quantize.rounding import bits_below_one, register, rounds

LOWEST_BITS = -20  # of a fraction: the taps have 12 below one, and shifts are at most 32


@dataclass(frozen=True, slots=True)
class GeneralIntegers:
    """Integers for a general neuron.

    Attributes:
        op: for the graph.
        unit: real value of one synaptic unit of the state.
        why: floats cannot follow it; empty if they can.
    """

    op: ops.GeneralNeuron
    unit: Fraction
    why: str


def general_integers(
    rule: GeneralRule, scale: Fraction, T: int, bits: int | None, *, state_bits: int, most: int
) -> GeneralIntegers:
    """Integers for a general neuron.

    Args:
        rule: what it computes.
        scale: a real input is an integer times this.
        T: time steps.
        bits: below the synaptic unit, of its state; by default as many as it needs.
        state_bits: that a register has.
        most: bits below the unit that a register has room for.

    Raises:
        ValueError: constants for another number of steps.
    """
    if rule.steps not in (0, T):
        raise ValueError(f"has constants for {rule.steps} steps; the model runs {T}")
    gain = _shared_gain(rule)
    unit = scale * gain
    taps = rule.taps.array[:, :T] / gain
    needed = _bits_needed(rule, unit, T)
    why = _inexact(rule, scale, unit, taps, needed, state_bits, most)
    if not why and bits is not None and bits < needed:
        why = f"its state would need {needed} bits below the unit"
    if bits is None:
        bits = min(ops.DECAY_BITS, most) if why else needed
    whole, shift = _taps(taps, bits)
    fraction = Fraction(2) ** bits / unit
    op = ops.GeneralNeuron(
        taps=whole,
        threshold=_thresholds(rule, fraction),
        dv=_registers(rule.decay),
        du=_registers(rule.current_decay),
        bias=_rounded(rule.bias, fraction),
        reset=rule.reset,
        reset_by=_rounded(rule.reset_by, fraction),
        shift=shift,
        fraction_bits=bits,
        floored=rule.floored,
    )
    return GeneralIntegers(op, unit, why)


def _shared_gain(rule: GeneralRule) -> Fraction:
    """What every input is multiplied by, if there is one such number."""
    first = rule.taps.values[0]
    same = rule.taps.shape[1] == 1 and first > 0 and len(set(rule.taps.values)) == 1
    return first if same else Fraction(1)


def _bits_needed(rule: GeneralRule, unit: Fraction, T: int) -> int:
    """Bits below the unit with which nothing is lost; -1 if none suffice."""
    registers = [register(kept) for kept in (*rule.decay.values, *rule.current_decay.values)]
    lost = max(map(fraction_loss, registers)) * (T - 1)
    added = [*rule.bias.values]
    added += rule.reset_by.values if rule.reset is ops.Reset.BY_SUBTRACTION else ()
    below = [bits_below_one(value / unit) for value in added]
    return -1 if min(below) < 0 else lost + max(below)


def _inexact(
    rule: GeneralRule,
    scale: Fraction,
    unit: Fraction,
    taps: npt.NDArray[Any],
    needed: int,
    state_bits: int,
    most: int,
) -> str:
    """Why floats cannot follow this neuron exactly; empty if they can."""
    multipliers = [*rule.decay.values]
    if any(rule.current_decay.values):
        multipliers += rule.current_decay.values
    if taps.size > 1 or taps.ravel()[0] != 1:
        multipliers += taps.ravel().tolist()
    off = [m for m in multipliers if (m * ops.DECAY_ONE).denominator != 1]
    if off:
        return (
            f"{len(off)} of the {len(multipliers)} constants that multiply are rounded to "
            f"multiples of 1/{ops.DECAY_ONE}"
        )
    if taps.size > 1:
        return f"{taps.size} constants weigh its inputs"
    if needed < 0:
        return "a constant that it adds or takes lies off the grid of its state"
    if needed > most:
        return f"its state would need {needed} bits below the unit"
    return rounds(scale, state_bits) or rounds(unit, state_bits)


def _taps(taps: npt.NDArray[Any], bits: int) -> tuple[IntTensor, int]:
    """Taps, and the shift to the right behind them, for a state of so many bits below the unit."""
    if taps.size == 1 and taps.ravel()[0] == 1:
        return IntTensor.of(np.full(taps.shape, 1 << max(0, bits))), max(0, -bits)
    left = bits - ops.DECAY_BITS
    whole = [round(tap * ops.DECAY_ONE) << max(0, left) for tap in taps.ravel().tolist()]
    return IntTensor.of(np.reshape(whole, taps.shape)), max(0, -left)


def _thresholds(rule: GeneralRule, fraction: Fraction) -> IntTensor:
    """The least integer states that reach each level."""
    found = np.empty(rule.thresholds.shape, np.int64)
    for at, theta in np.ndenumerate(rule.thresholds.array * fraction):
        strict = rule.strict[at[1]]
        found[at] = math.floor(theta) + 1 if strict else math.ceil(theta)
    return IntTensor(found)


def _registers(kept: Constants) -> IntTensor:
    return IntTensor.of(np.reshape([register(value) for value in kept.values], kept.shape))


def _rounded(constants: Constants, fraction: Fraction) -> IntTensor:
    values = [round(value * fraction) for value in constants.values]
    return IntTensor.of(np.reshape(values, constants.shape))
