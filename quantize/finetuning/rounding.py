"""The integers of one unit again and again, and what they are worth: all that depends on scales."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lapilli.quantize.plan import Unit
from lapilli.quantize.weights import (
    FloatArray,
    Folded,
    IntegerUnit,
    along_channels,
    round_unit,
)

_HALF = (1 + 2**-10) / 2  # of a step: what rounding moves a weight by, in floats


@dataclass(frozen=True, slots=True, eq=False)
class Rounded:
    """Real numbers that are integers times their scale.

    Attributes:
        weight, bias: float64.
        step: between two neighbouring weights; broadcasts against them.
        real: the weights before rounding.
    """

    weight: FloatArray
    bias: FloatArray
    step: FloatArray
    real: FloatArray

    @property
    def inside(self) -> npt.NDArray[np.bool_]:
        """Which weights the largest integer does not cut off."""
        inside: npt.NDArray[np.bool_] = np.abs(self.real - self.weight) <= self.step * _HALF
        return inside

    def slope(self) -> FloatArray:
        """By how much a weight grows when its step doubles, at the rate of now.

        A weight n * step, n the nearest integer to real / step, follows its step by n, and loses
        what real / step loses: straight through the rounding (Esser et al., "Learned Step Size
        Quantization", 2020). Beyond the largest integer n is fixed.
        """
        slope: FloatArray = np.log(2.0) * np.where(
            self.inside, self.weight - self.real, self.weight
        )
        return slope


def rounded(unit: Unit, folded: Folded, chosen: IntegerUnit) -> Rounded:
    """Round what a unit's parameters are now, on the scales that were chosen for it."""
    scales = chosen.weight_scale, chosen.output_scale
    made = round_unit(unit, folded, *scales, chosen.exponent, chosen.bits, chosen.factors)
    step = abs(float(made.weight_scale)) * 2**made.exponent
    each = along_channels(made.factors, made.weight.array.ndim)
    steps = np.asarray(each * step, np.float64)
    return Rounded(made.real_weight, made.real_bias, steps, folded.weight)
