"""The integers of one unit again and again, and what they are worth: all that depends on scales."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lapilli.quantize.plan import Unit
from lapilli.quantize.weights import (
    FloatArray,
    Folded,
    IntegerUnit,
    along_channels,
    round_unit,
)


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
    made = round_unit(unit, folded, *scales, chosen.exponent, chosen.bits, chosen.factors)
    step = abs(float(made.weight_scale)) * 2**made.exponent
    each = along_channels(made.factors, made.weight.array.ndim)
    return Rounded(made.real_weight, made.real_bias, np.asarray(each * step, np.float64))
