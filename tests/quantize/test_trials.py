"""Choices that are tried: what a score says, scales that it prefers, bits that it shares out."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from networks.tiny import compare, images, tiny  # noqa: E402

from lapilli.deploy.cli import frame  # noqa: E402
from lapilli.deploy.cli.app import app  # noqa: E402
from lapilli.export.native import load_network  # noqa: E402
from lapilli.ir.errors import QuantizeError  # noqa: E402
from lapilli.ir.tensor import IntTensor  # noqa: E402
from lapilli.quantize import quantize  # noqa: E402
from lapilli.quantize.fit import Fitted, Scaling, _rounded_notes  # noqa: E402
from lapilli.quantize.frontier import WIDTHS, Point, choose, frontier  # noqa: E402
from lapilli.quantize.pipeline import begin  # noqa: E402
from lapilli.quantize.replay import reference_of  # noqa: E402
from lapilli.quantize.trials import Score, Trials, least_mismatch  # noqa: E402
from lapilli.quantize.weights import Folded, least_squares  # noqa: E402

pytestmark = pytest.mark.torch
_PATHS = {"conv", "fc", "a", "b", "head"}


@pytest.fixture(scope="module")
def trials() -> Trials:
    begun = begin(tiny(), images(), {"input_bits": 5})
    return Trials(begun.prepared, begun.source, begun.image, images())


def _fitted(trials: Trials, bits: int, scaling: Scaling | None = None) -> Fitted:
    each = dict.fromkeys(trials.prepared.plan.units, bits)
    return trials.fitted(each, scaling or Scaling(chosen=least_squares))


def test_a_score_counts_what_differs(trials: Trials) -> None:
    few, many = (trials.score(_fitted(trials, bits)) for bits in (2, 8))
    neurons, steps, shown = 64 + 8 + 8 + 8, 4, 24
    assert few.spikes == many.spikes == neurons * steps * shown
    assert few.differ > 2 * many.differ
    assert few.loss > many.loss > 0
    assert len(many.answers) == len(trials.answers) == len(trials.images) == shown
    fitted = _fitted(trials, 8)
    unit = next(n for n, u in trials.prepared.plan.units.items() if u.path == "fc")
    wrong = fitted.units[unit].weight.array.copy()
    wrong[0] = -wrong[0]
    units = {**fitted.units, unit: replace(fitted.units[unit], weight=IntTensor(wrong))}
    planted = trials.score(replace(fitted, units=units))
    assert planted.differ > many.differ + 20


@pytest.mark.parametrize("together", [0, 1])
def test_what_is_rounded_is_told_in_any_scale(trials: Trials, together: int) -> None:
    fitted = _fitted(trials, 8, Scaling(chosen=least_squares, together=together))
    plan, units = trials.prepared.plan, fitted.units
    assert any(unit.factors for unit in units.values()) is bool(together)
    exact = {name: Folded(unit.real_weight, unit.real_bias) for name, unit in units.items()}
    assert _rounded_notes(plan, exact, units) == []
    for name, unit in units.items():
        moved = {**exact, name: Folded(unit.real_weight * (1 + 2.0**-40), unit.real_bias)}
        (note,) = _rounded_notes(plan, moved, units)
        assert note.path == plan.units[name].path


@pytest.mark.parametrize(("together", "width"), [(0, 3), (1, 2)])
def test_scales_that_are_tried_are_no_worse(trials: Trials, together: int, width: int) -> None:
    start = Scaling(chosen=least_squares, together=together)
    bits = dict.fromkeys(trials.prepared.plan.units, width)
    found = least_mismatch(trials, bits, start)
    before, after = (trials.score(trials.fitted(bits, s)).loss for s in (start, found))
    assert after < before
    assert set(found.coarser.values()) <= {-1, 1}


@pytest.mark.parametrize("scales", ["tensor", "channel"])
def test_such_integers_are_exact_and_come_back(scales: str) -> None:
    made = quantize(tiny(), images(), weight_bits=3, weight_scale="spikes", scales=scales)
    plain = quantize(tiny(), images(), weight_bits=3, scales=scales)
    assert made.network.graph != plain.network.graph
    assert compare(made, images(40, seed=2)) > 1000
    again = replace(made, reference=reference_of(made.network, tiny()))
    assert compare(again, images(40, seed=2)) > 1000


@pytest.fixture(scope="module")
def points() -> list[Point]:
    told: list[tuple[int, int]] = []
    found = frontier(tiny(), images(), input_bits=5, progress=lambda *done: told.append(done))
    assert told[-1] == (51, 51)
    return found


def test_bits_are_given_up_one_layer_after_the_other(points: list[Point]) -> None:
    assert len(points) == 1 + 5 * len(_PATHS)
    assert points[0].bits == dict.fromkeys(_PATHS, 8)
    assert points[-1].bits == dict.fromkeys(_PATHS, 2)
    for more, fewer in pairwise(points):
        (changed,) = {p for p in _PATHS if more.bits[p] != fewer.bits[p]}
        assert WIDTHS.index(fewer.bits[changed]) == WIDTHS.index(more.bits[changed]) + 1
        assert fewer.weight_bytes < more.weight_bytes
    weights = 4 * 9 + 64 * 8 + 8 * 8 + 8 * 8 + 8 * 3
    assert points[0].weight_bytes == weights
    assert points[-1].weight_bytes == weights // 4
    assert points[-1].score.loss > points[0].score.loss


def test_a_point_is_chosen_by_size_and_by_drop(points: list[Point]) -> None:
    half = choose(points, most_bytes=points[0].weight_bytes // 2, most_drop=None)
    assert (
        half.weight_bytes
        <= points[0].weight_bytes // 2
        < points[points.index(half) - 1].weight_bytes
    )
    least = choose(points, most_bytes=None, most_drop=0.1)
    assert least.agree >= 0.9
    assert all(p.agree < 0.9 for p in points[points.index(least) + 1 :])
    with pytest.raises(QuantizeError, match="bytes of weights at two bits"):
        choose(points, most_bytes=10, most_drop=None)
    bad = Point({"a": 2}, 8, Score(1, 2, 1.0, (0,)), agree=0.5)
    with pytest.raises(QuantizeError, match=r"at best 50.0% of the images float's answer"):
        choose([bad], most_bytes=None, most_drop=0.1)


_NET = """
import sys
sys.path.insert(0, {tests!r})
from networks.tiny import tiny as Net
"""


def test_the_command_prints_the_way_and_takes_the_point(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "net.py").write_text(_NET.format(tests=str(Path(__file__).parents[1])))
    pixels = np.random.default_rng(0).integers(0, 256, (24, 1, 4, 4), np.uint8)
    np.savez(tmp_path / "images.npz", images=pixels)
    net = tmp_path / "net.lapilli"
    words = [
        "quantize",
        f"{tmp_path}/net.py:Net",
        "--calibration",
        f"{tmp_path}/images.npz",
        "--no-normalisation",
    ]
    assert frame.run(app, [*words, "-o", str(net), "--most-kib", "0.4"]) == 0
    assert "chosen" in capsys.readouterr().err
    recipe = load_network(net).recipe
    assert recipe is not None
    held = {record.path: record.bits for record in recipe.synapses}
    weights = {"conv": 36, "fc": 512, "a": 64, "b": 64, "head": 24}
    size = sum(weights[path] * bits for path, bits in held.items()) / 8
    assert 0.3 * 1024 < size <= 0.4 * 1024
    assert len(set(held.values())) > 1
    assert frame.run(app, [*words, "-o", str(net), "--most-kib", "0.01"]) == 2
    assert "bytes of weights at two bits" in capsys.readouterr().err
