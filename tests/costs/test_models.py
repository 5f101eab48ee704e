"""Each model's energy of a small network, computed by hand; bounds, silence, and words."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from lapilli.costs import pages, words
from lapilli.costs.estimate import BreakEven, Estimate
from lapilli.costs.models.lemaire import accessed
from lapilli.costs.report import CostReport, bounded, measure
from lapilli.costs.traffic import Traffic, Widths, widths
from lapilli.ir import ops
from lapilli.ir.counts import Counts
from lapilli.ir.errors import InputError
from lapilli.ir.graph import Graph, Node
from lapilli.ir.tensor import IntArray, IntTensor
from lapilli.ir.types import TensorType
from lapilli.simulators.reference import Reference

# Two steps of four inputs, of which five are spikes.
X = np.array([[[1, 1, 0, 0]], [[0, 1, 1, 1]]], np.int64)


def _graph() -> Graph:
    """4 -> 3 neurons, all of which fire at the first step and rest at the second, -> 2."""
    none = [0, 0, 0]
    return Graph(
        (
            Node("x", ops.Input(type=TensorType.spikes(4))),
            Node(
                "fc1",
                ops.Linear(weight=IntTensor.of([[127, -1, 0, 1]] * 3), bias=IntTensor.of(none)),
                ("x",),
            ),
            Node("lif", ops.Neuron(threshold=IntTensor.of([65]), dv=2048), ("fc1",)),
            Node(
                "fc2",
                ops.Linear(weight=IntTensor.of([[64, 1, 1]] * 2), bias=IntTensor.of(none[:2])),
                ("lif",),
            ),
            Node("logits", ops.Readout(), ("fc2",)),
        ),
        ("logits",),
        2,
    )


@pytest.fixture(scope="module")
def report() -> CostReport:
    """Of three images that are the same, in two batches."""
    batches: list[dict[str, IntArray]] = [{"x": X}, {"x": np.repeat(X, 2, axis=1)}]
    return measure(_graph(), batches, Reference())


def _by(report: CostReport, table: str) -> Estimate:
    return next(one for one in report.estimates if one.table == table)


def test_the_counts(report: CostReport) -> None:
    one = Counts(
        events=5 + 3, accumulates=15 + 6, additions=4, compares=6, updates=6, sent=5 + 3
    )  # fmt: skip
    assert report.total == one.times(3)
    assert (report.parameters, report.operations, report.synaptic) == (12 + 6, 2 * 18, 3 * 21)
    assert report.input_rate == Fraction(12 * 5 * 6 + 6 * 3 * 8, 6 * 8 * 18)


def test_widths_are_those_that_are_proved(report: CostReport) -> None:
    """Membranes stay in [-96, 64]; the read-out adds up to 132; weights are 127 and 64."""
    assert widths(_graph())["lif"] == Widths(state=8)
    assert widths(_graph())["logits"] == Widths(state=9)
    assert [widths(_graph())[name].weight for name in ("fc1", "fc2")] == [8, 8]
    sums = 2 * (15 * 9 + 6 * 8)  # up to 129 and 66 in any order, and a sign
    assert report.traffic == Traffic(
        weights=3 * 21 * 8, sums=3 * sums, states=3 * 2 * (6 * 8 + 4 * 9)
    )


@pytest.mark.parametrize(
    ("table", "picojoules"),
    [
        ("papers-float32", 0.9 * (24 * 5 / 8 + 12 * 3 / 6)),
        ("spikingjelly-fp32", 0.9 * (15 + 6 + 4) + 24.96 * (21 + 12 + 9)),
        ("spikingjelly-int8", 0.03 * (15 + 6 + 4) + 24.96 * (21 + 12 + 9)),
        # Additions, products of decays, and words in FIFOs of 4000 bytes and smaller memories.
        (
            "lemaire-45nm",
            0.1 * (30 + 12 + 3) + 6 * (3.1 + 0.1)
            + 10 / 8192 * ((5 + 3 + 3) * 4000 + 15 * 48 + 30 * 12 + 6 * 24 + 12 * 8 + 12 * 12),
        ),
        ("loihi1-active", 23.6 * 21 + 81 * (6 + 4) + 1.7 * (5 + 3)),
        ("truenorth", 26.0 * 21),
    ],
)  # fmt: skip
def test_energy_by_hand(report: CostReport, table: str, picojoules: float) -> None:
    found = _by(report, table)
    assert found.picojoules == pytest.approx(picojoules, rel=1e-12)
    assert sum(found.by_node.values()) == pytest.approx(picojoules, rel=1e-12)


def test_what_nobody_prices_stays_unknown(report: CostReport) -> None:
    loihi2, odin = _by(report, "loihi2"), _by(report, "odin")
    assert loihi2.picojoules is odin.picojoules is None
    assert loihi2.unpriced == ("synaptic event", "neuron update", "spike")
    assert odin.unpriced == ("neuron update", "spike")
    assert odin.priced == pytest.approx(12.7 * 21)
    assert odin.by_node.keys() == {"fc1", "fc2"}
    assert not {"loihi2", "odin"} & {t for r in report.ranges for t in r.tables}
    assert words.told(loihi2) == "unknown: no price of synaptic event, neuron update, spike"
    assert words.told(odin) == "unknown: at least 266.7 pJ, no price of neuron update, spike"


def test_ranges_hold_every_table_of_a_grade(report: CostReport) -> None:
    for span in report.ranges:
        found = [_by(report, table).priced for table in span.tables]
        assert (span.lowest, span.highest) == (min(found), max(found))
        assert {_by(report, table).grade for table in span.tables} == {span.grade}
    assert sum(len(span.tables) for span in report.ranges) == len(
        [one for one in report.estimates if one.picojoules is not None]
    )


def test_break_even_by_hand(report: CostReport) -> None:
    """A dense layer multiplies once; its neurons' states cost at each step whatever is sent."""
    papers, moved = (_by(report, f"{name}-int8") for name in ("papers", "spikingjelly"))
    assert papers.break_even is not None
    _same(papers.layers["fc1"], BreakEven(0.23 / (2 * 0.03), 5 / 8, 1))
    _same(papers.break_even, BreakEven(0.23 / (2 * 0.03), 10.5 / 18, 2))
    left = 12 * (0.23 + 24.96) - 12 * 24.96  # a byte of state, read and written, six times
    rate = 5 / 8 * left / (15 * (0.03 + 24.96))
    _same(moved.layers["fc1"], BreakEven(rate, 5 / 8, 1))
    assert _by(report, "loihi1-active").break_even is None


def _same(found: BreakEven | None, expected: BreakEven) -> None:
    assert found is not None
    assert found.rate == pytest.approx(expected.rate, rel=1e-9)
    assert found.here == pytest.approx(expected.here, rel=1e-12)
    assert found.layers == expected.layers


@pytest.mark.parametrize(
    ("capacity", "picojoules"),
    [
        (0, 0),
        (4096, 5),
        (8192, 10),
        (20 << 10, 15),
        (32 << 10, 20),
        (528 << 10, 60),
        (9 << 20, 100),
    ],
)
def test_sram_is_linear_between_its_sizes(capacity: int, picojoules: float) -> None:
    prices = {"access of 8 KiB": 10, "access of 32 KiB": 20, "access of 1024 KiB": 100}
    assert sum(prices[key] * share for key, share in accessed(7, capacity)) == 7 * picojoules


def test_silence_is_refused() -> None:
    silent = {"x": np.zeros_like(X)}
    with pytest.raises(InputError, match="no neuron fired on 1 images"):
        measure(_graph(), [silent], Reference())
    with pytest.raises(InputError, match="at least one image"):
        measure(_graph(), [], Reference())


def test_without_a_run_there_are_bounds(report: CostReport) -> None:
    found = bounded(_graph())
    assert (found.images, found.estimates) == (0, ())
    least, most = next(row.bounds for row in found.rows if row.node == "fc1")
    assert (least.accumulates, most.accumulates) == (0, 2 * 12)
    assert "0 to 24" in pages.text(found)
    assert "unknown" in pages.latex(found)
    assert len(pages.as_csv(found).splitlines()) == 1 + len(_graph().nodes)
    assert found.operations == report.operations


def test_the_pages_say_the_same(report: CostReport) -> None:
    facts = json.loads(json.dumps(pages.facts(report), allow_nan=False))
    assert facts["total"]["accumulates"] == 63
    assert facts["prices"]["loihi2"]["spike"]["picojoules"] is None
    rows = list(csv.DictReader(io.StringIO(pages.as_csv(report))))
    assert [row["node"] for row in rows] == [node.name for node in _graph().nodes]
    assert [int(row["accumulates"]) for row in rows] == [0, 45, 0, 18, 0]
    assert [row["loihi2_pJ"] for row in rows] == ["", "", "", "", ""]
    energies = sum(float(row["papers-float32_pJ"] or 0) for row in rows)
    assert energies == pytest.approx(_by(report, "papers-float32").priced)
    text = pages.text(report)
    assert "papers: 18.9 pJ by papers-float32" in text
    assert "costs less than a quantized dense network at any firing rate" in text
    assert "estimates, no measurements" in text
    assert all(model.name in text for model in report.models)
    table = pages.latex(report)
    assert r"18.9 pJ" in table
    assert r"58.33\%" in table
    assert table.count("&") % 8 == 0


def test_docs_name_every_model_price_and_omission() -> None:
    """docs/cost.md says each equation, each omission and each table."""
    from lapilli.costs.models.table import MODELS
    from lapilli.costs.prices import shipped

    page = " ".join((Path(__file__).resolve().parents[2] / "docs" / "cost.md").read_text().split())
    for model in MODELS:
        assert model.equation in page, model.name
        for omission in model.omits:
            assert omission in page, omission
    for table in shipped():
        assert f"`{table.name}`" in page, table.name


_Words = Callable[[float], str]


@pytest.mark.parametrize(
    ("write", "number", "expected"),
    [
        (words.energy, 0.0, "0 pJ"),
        (words.energy, 999.0, "999 pJ"),
        (words.energy, 1.2e12, "1.2 J"),
        (words.count, 12, "12"),
        (words.count, 1_500_000, "1.5 M"),
    ],
)
def test_words(write: _Words, number: float, expected: str) -> None:
    assert write(number) == expected
