"""Thresholds that reproduce a rounding: integer spikes of integer currents."""

from __future__ import annotations

import math
from fractions import Fraction

from lapilli.ir import ops
from lapilli.ir.tensor import IntTensor
from lapilli.model.neurons.rule import StaircaseRule


def staircase(rule: StaircaseRule, scale: Fraction) -> ops.Staircase:
    """The op that counts round(clamp(n * scale, 0, levels)), half to even, for integers n.

    Level k is reached above the edge k - 1/2, and on the edge where k is even, or `half_up`.

    >>> rule = StaircaseRule(levels=4, norm=4)
    >>> staircase(rule, Fraction(1, 2)).thresholds.array.tolist()  # edges at n = 1, 3, 5, 7
    [2, 3, 6, 7]
    """
    thresholds = []
    for level in range(1, rule.levels + 1):
        edge = (level - Fraction(1, 2)) / scale
        thresholds.append(
            math.floor(edge) + 1 if level % 2 and not rule.half_up else math.ceil(edge)
        )
    return ops.Staircase(thresholds=IntTensor.of(thresholds))
