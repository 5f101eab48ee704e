"""What rounds: a decay in a register, a number in binary places, a scale in floats."""

from __future__ import annotations

from fractions import Fraction

from lapilli.ir import ops

FLOAT_BITS = 53  # of float64


def register(kept: Fraction) -> int:
    """What a decay register holds for a state that keeps this much of itself."""
    return ops.DECAY_ONE - round(kept * ops.DECAY_ONE)


def rounds(scale: Fraction, state_bits: int) -> str:
    """Why floats cannot hold multiples of `scale`; empty if they can."""
    if scale.denominator & (scale.denominator - 1):
        return f"its currents are multiples of 1/{scale.denominator}, which floats round"
    odd = scale.numerator // (scale.numerator & -scale.numerator)
    # A power of two rounds nothing, whatever it multiplies.
    if odd > 1 and odd.bit_length() + state_bits > FLOAT_BITS - ops.LOIHI_FRACTION_BITS:
        return f"its currents are multiples of {float(scale):.6g}, which floats round"
    return ""


def bits_below_one(value: Fraction) -> int:
    """Binary places of a value, or -1 if it has infinitely many."""
    bits = value.denominator.bit_length() - 1
    return bits if value.denominator == 1 << bits else -1
