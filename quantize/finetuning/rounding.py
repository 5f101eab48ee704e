"""The integers of one unit again and again, and what they are worth: all that depends on scales."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lapilli.quantize.plan import Unit
from lapilli.quantize.weights import FloatArray, Folded, IntegerUnit, round_unit


@dataclass(frozen=True, slots=True, eq=False)
class Rounded:
    """Real numbers that are integers times their scale.

    Attributes:
        weight, bias: float64.
        step: between two neighbouring weights; broadcasts against them.
    """

    weight: FloatArray
    bias: FloatArray
    step: FloatArray


def rounded(unit: Unit, folded: Folded, chosen: IntegerUnit) -> Rounded:
    """Round what a unit's parameters are now, on the scales that were chosen for it."""
    scales = chosen.weight_scale, chosen.output_scale
    made = round_unit(unit, folded, *scales, chosen.exponent, chosen.bits)
    return Rounded(
        np.asarray(made.weight.array * float(made.weight_scale), np.float64),
        np.asarray(made.bias.array * float(made.output_scale), np.float64),
        np.array(abs(float(made.weight_scale)) * 2**made.exponent, np.float64),
    )
