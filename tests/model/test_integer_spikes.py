"""Neurons that fire several times in a step: a staircase of thresholds."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

torch = pytest.importorskip("torch")


from lapilli.ir import ops  # noqa: E402
from lapilli.model.neurons.rule import StaircaseRule  # noqa: E402
from lapilli.model.neurons.simulate import simulate  # noqa: E402
from lapilli.quantize.neurons import integer_neuron  # noqa: E402
from lapilli.quantize.staircase import staircase  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("levels", [1, 2, 4, 7])
@pytest.mark.parametrize(
    "scale", [Fraction(1), Fraction(1, 2), Fraction(1, 32), Fraction(3, 8), Fraction(5)]
)
def test_a_staircase_rounds_half_to_even(levels: int, scale: Fraction) -> None:
    n = np.arange(-40, 300)
    got = ops.Staircase(
        thresholds=staircase(StaircaseRule(levels=levels, norm=1), scale).thresholds
    )
    want = [min(max(round(Fraction(int(i)) * scale), 0), levels) for i in n]
    # round(clamp(x)): the clamp comes first, and its ends are integers
    counts = (n[:, None] >= got.thresholds.array).sum(axis=1)
    assert counts.tolist() == want


@pytest.mark.parametrize("scale", [Fraction(1, 2), Fraction(3, 8), Fraction(5)])
def test_a_staircase_rounds_half_up_where_its_author_adds_a_half(scale: Fraction) -> None:
    rule = StaircaseRule(levels=4, norm=1, half_up=True)
    n = np.arange(-40, 300)
    want = simulate(rule, torch.from_numpy(n * float(scale)))[0]
    got = (n[:, None] >= staircase(rule, scale).thresholds.array).sum(axis=1)
    assert got.tolist() == want.tolist()
    even = simulate(replace(rule, half_up=False), torch.from_numpy(n * float(scale)))[0]
    assert (got != even.numpy()).any() == (scale == Fraction(1, 2))  # only at 1/2 and 5/2


def test_a_staircase_of_a_scale_that_floats_round_stands_on_both_sides() -> None:
    made = integer_neuron(StaircaseRule(levels=4, norm=4), Fraction(1, 49), 4)
    assert not made.exact
    assert "multiples of 1/49" in made.note
