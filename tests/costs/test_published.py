"""What Spikingformer's authors logged comes out of the shapes and rates that they logged."""

from __future__ import annotations

import json
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from lapilli.costs.models.papers import AC, MAC, PAPERS, attended, fired
from lapilli.costs.prices import shipped
from lapilli.costs.shapes import conv_operations, linear_operations

FACTS = json.loads((Path(__file__).parent / "spikingformer_logs.json").read_text())
SIZES = sorted(FACTS["models"])


@dataclass(frozen=True)
class Layer:
    """A row of a log: a convolution of any kernel, or the head."""

    name: str
    features_in: int
    features_out: int
    kernel: int
    side: int
    steps: int
    bias: bool
    printed: int
    percent: float

    @property
    def operations(self) -> int:
        """Their dense count: all steps, windows at borders whole, a bias one for each output."""
        shape = (self.features_out, self.side, self.side)
        outputs = self.features_out * self.side**2
        if self.name == "head":
            made = linear_operations(1, self.features_in, self.features_out)
        else:
            made = conv_operations(shape, self.features_in, (self.kernel, self.kernel))
        return self.steps * (made + (outputs if self.bias else 0))


def _layers(size: str) -> list[Layer]:
    return [Layer(*row) for row in FACTS["models"][size]["layers"]]


@pytest.mark.parametrize("size", SIZES)
def test_all_dense_counts(size: str) -> None:
    layers = _layers(size)
    assert len(layers) == 54
    assert [layer.operations for layer in layers] == [layer.printed for layer in layers]


def _energy(size: str, scale: float = 1.0) -> tuple[float, float, float]:
    """Their rule: MAC and AC in units of 10^9, and mJ."""
    facts: dict[str, Any] = FACTS["models"][size]
    prices = next(t for t in shipped() if t.name == PAPERS.table).prices
    macs, acs = 0, Fraction(0)
    for layer in _layers(size):
        if layer.percent == 100:  # more than two values in its input
            macs += layer.operations
        else:
            acs += fired(layer.operations, Fraction(layer.percent * scale) / 100)
    width = facts["features"] // facts["heads"]
    base = FACTS["T"] * facts["heads"] * facts["tokens"] * width**2
    for q, k, v in facts["attention"]:
        acs += attended(base, Fraction(k), Fraction(v)) + fired(base, Fraction(q))
    cost = {key: price.picojoules for key, price in prices.items()}
    assert cost == {MAC: 4.6, AC: 0.9}
    return macs / 1e9, float(acs) / 1e9, (4.6 * macs + 0.9 * float(acs)) / 1e9


# 8-768: its rates are means of batches of which the last is smaller. Its README says 13.68 mJ.
@pytest.mark.parametrize(("size", "millijoules", "within"), [
    ("8-512", 7.463502601886196, 1e-9),
    ("8-768", 13.658864951845398, 1e-5),
])  # fmt: skip
def test_the_published_energy(size: str, millijoules: float, within: float) -> None:
    facts = FACTS["models"][size]
    assert facts["millijoules"] == millijoules
    macs, acs, energy = _energy(size)
    assert macs == pytest.approx(facts["gmac"], rel=1e-12)
    assert acs == pytest.approx(facts["gac"], rel=within)
    assert energy == pytest.approx(millijoules, rel=within)
    assert energy != pytest.approx(13.68, rel=1e-3)


def test_other_rates_would_be_seen() -> None:
    assert _energy("8-512", 1 + 1e-7)[2] != pytest.approx(7.463502601886196, rel=1e-9)
