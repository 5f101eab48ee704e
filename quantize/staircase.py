"""Thresholds that reproduce a rounding: integer spikes of integer currents."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from lapilli.ir import ops
from lapilli.ir.tensor import IntTensor
from lapilli.model.neurons.rule import StaircaseRule


def staircase(
    rule: StaircaseRule, scale: Fraction, factors: IntTensor | None = None
) -> ops.Staircase:
    """The op that counts round(clamp(n * scale, 0, levels)), half to even, for integers n.

    Where there are factors, the scale of each channel is so many times as large.

    Level k is reached above the edge k - 1/2, and on the edge where k is even, or `half_up`.

    >>> rule = StaircaseRule(levels=4, norm=4)
    >>> staircase(rule, Fraction(1, 2)).thresholds.array.tolist()  # edges at n = 1, 3, 5, 7
    [2, 3, 6, 7]
    """
    each = factors.array if factors else np.ones((), np.int64)
    steps = {m: _thresholds(rule, scale * m) for m in np.unique(each).tolist()}
    rows = np.array([steps[m] for m in each.ravel().tolist()])  # (channels, levels)
    return ops.Staircase(thresholds=IntTensor.of(rows.T.reshape(-1, *each.shape)))


def _thresholds(rule: StaircaseRule, scale: Fraction) -> list[int]:
    edges = [(level, (level - Fraction(1, 2)) / scale) for level in range(1, rule.levels + 1)]
    return [
        math.floor(edge) + 1 if level % 2 and not rule.half_up else math.ceil(edge)
        for level, edge in edges
    ]
