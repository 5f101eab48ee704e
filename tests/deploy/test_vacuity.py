"""A comparison that shows nothing is no success: silent, saturated, at rest, or empty."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from lapilli.deploy.cli.app import app
from lapilli.deploy.comparison.compare import (
    Comparison,
    Preprocessed,
    compare,
    compare_recordings,
)
from lapilli.deploy.comparison.golden import write_golden
from lapilli.export.native import save_network
from lapilli.ir import ops
from lapilli.ir.errors import MismatchError
from lapilli.ir.graph import Graph, Node
from lapilli.ir.network import InputQuantizer, Network
from lapilli.ir.tensor import IntTensor
from lapilli.ir.types import IntRange, Kind, TensorType
from lapilli.simulators.event_driven import EventDriven
from lapilli.simulators.reference import Reference

_PIXELS = np.random.default_rng(0).integers(0, 256, (5, 1, 2, 2)).astype(np.uint8)


def net(threshold: int, *, membrane: bool = False) -> Network:
    """A living neuron beside one of a given threshold, on currents 0 to 255 a step.

    Currents enter with six fraction bits: a threshold of 1 is reached by any pixel but 0 within
    a step, one of 2**21 by none in four.
    """
    image = TensorType((1, 2, 2), IntRange(0, 255), Kind.GRADED)
    weight = IntTensor.of(np.eye(4, dtype=np.int64))
    always = ops.Neuron(threshold=IntTensor.of([threshold]), bias=IntTensor.of([64]))
    nodes = [
        Node("x", ops.Input(type=image)),
        Node("flat", ops.Reshape(shape=(4,)), ("x",)),
        Node("fc", ops.Linear(weight=weight, bias=IntTensor.of([0] * 4), graded=True), ("flat",)),
        Node("alive", ops.Neuron(threshold=IntTensor.of([128 * 64 + 1])), ("fc",)),
        Node("second", always, ("fc",)),
        Node("logits", ops.Readout(), ("alive",)),
    ]
    if membrane:
        still = ops.Membrane(neuron=ops.Neuron(threshold=IntTensor.of([1 << 20])))
        nodes[-1:] = [
            Node("nothing", ops.Slice(axis=0, start=0, stop=1), ("second",)),
            Node("logits", still, ("nothing",)),
        ]
    source = InputQuantizer(mean=(Fraction(0),), std=(Fraction(1, 255),), exponent=0, lo=0, hi=255)
    return Network(
        graph=Graph(tuple(nodes), ("logits",), 4),
        input=source,
        logit_scale=Fraction(1),
        classes=("0",) if membrane else ("0", "1", "2", "3"),
    )


ALIVE, SILENT, SATURATED = net(200 * 64), net(1 << 21), net(1)
CASES = [
    pytest.param(SILENT, id="silent"),
    pytest.param(SATURATED, id="saturated"),
]


def against_reference(network: Network) -> Comparison:
    graph = network.graph
    runs = Reference().compile(graph), EventDriven().compile(graph)
    return compare(network, *runs, _PIXELS, names=("reference", "event-driven"))


def test_a_living_network_is_exact() -> None:
    found = against_reference(ALIVE)
    assert (found.mismatches, found.vacuous, found.exact) == (0, (), True)
    assert found.compared > 100
    found.require()


def test_the_rates_are_what_they_are_called() -> None:
    assert against_reference(SILENT).rates["second"] == 0.0
    assert against_reference(SATURATED).rates["second"] == 1.0


@pytest.mark.parametrize("network", CASES)
def test_equality_that_shows_nothing_is_not_exact(network: Network) -> None:
    found = against_reference(network)
    assert found.mismatches == 0
    assert found.vacuous == ("second",)
    assert not found.exact
    assert "shows nothing about second: silent or saturated" in str(found)
    with pytest.raises(MismatchError, match="shows nothing about second"):
        found.require()


def test_a_membrane_that_never_moves_shows_nothing() -> None:
    found = against_reference(net(1 << 21, membrane=True))
    assert found.mismatches == 0
    assert "logits" in found.vacuous
    assert not found.exact


def test_nothing_compared_is_not_exact() -> None:
    nothing = Comparison(
        expected="a", got="b", images=0, compared=0, mismatches=0, rates={"lif": 0.5}
    )
    assert not nothing.exact
    with pytest.raises(MismatchError):
        nothing.require()


@pytest.mark.parametrize(
    ("classes", "renamed"),
    [
        (("0", "1", "2", "3"), ()),
        ((), ()),
        (("3", "2", "1", "0"), (("3", "0"), ("2", "1"), ("1", "2"), ("0", "3"))),
        (("0", "1", "2"), (("(none)", "3"),)),
    ],
)
def test_classes_that_are_called_otherwise_are_not_exact(
    classes: tuple[str, ...], renamed: tuple[tuple[str, str], ...]
) -> None:
    graph = ALIVE.graph
    runs = Reference().compile(graph), EventDriven().compile(graph)
    found = compare(ALIVE, *runs, _PIXELS, preprocessing=Preprocessed(ALIVE.input, classes))
    assert (found.mismatches, found.renamed, found.exact) == (0, renamed, not renamed)
    if renamed:
        with pytest.raises(MismatchError, match="class names differ: expected"):
            found.require()


def test_images_that_are_prepared_otherwise_are_not_exact() -> None:
    graph = ALIVE.graph
    runs = Reference().compile(graph), EventDriven().compile(graph)
    other = replace(ALIVE.input, mean=(Fraction(1, 10),))
    found = compare(ALIVE, *runs, _PIXELS, preprocessing=Preprocessed(other))
    assert not found.exact
    assert found.first is not None
    assert (found.first.node, found.first.kind, found.first.t) == ("x", "input", 0)
    assert "prepare images differently" in str(found)


@pytest.mark.parametrize(
    ("rate", "vacuous"), [(0.0, True), (1.0, True), (1e-9, False), (1 - 1e-9, False), (0.5, False)]
)
def test_silent_and_saturated_are_0_and_1(rate: float, vacuous: bool) -> None:
    found = Comparison(
        expected="a", got="b", images=1, compared=9, mismatches=0, rates={"lif": rate}
    )
    assert found.vacuous == (("lif",) if vacuous else ())
    assert found.exact != vacuous


def test_what_was_not_recorded_is_no_success() -> None:
    graph = ALIVE.graph
    recording = Reference().compile(graph).run(ALIVE.encode(_PIXELS))
    for name in graph.recorded:
        values = {n: v for n, v in recording.values.items() if n != name}
        part = type(recording)(values)
        with pytest.raises(MismatchError, match=f"nothing was recorded of '{name}'"):
            compare_recordings(graph, recording, part)
        with pytest.raises(MismatchError, match=f"nothing was recorded of '{name}'"):
            compare_recordings(graph, part, recording)


@pytest.mark.parametrize("network", CASES)
def test_the_command_line_says_status_1(network: Network, tmp_path: Path) -> None:
    save_network(network, tmp_path / "net.lapilli")
    np.savez(tmp_path / "images.npz", images=_PIXELS)
    done = _compared(tmp_path, "--json")
    assert done.exit_code == 1
    (told,) = json.loads(done.stdout)["comparisons"]
    assert (told["mismatches"], told["exact"], told["vacuous"]) == (0, False, ["second"])
    assert "vacuous" in _compared(tmp_path).stdout


def test_the_command_line_says_status_0_of_a_living_one(tmp_path: Path) -> None:
    save_network(ALIVE, tmp_path / "net.lapilli")
    np.savez(tmp_path / "images.npz", images=_PIXELS)
    done = _compared(tmp_path, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["comparisons"][0]["exact"]


def _compared(folder: Path, *more: str) -> Any:
    given = ["--images", str(folder / "images.npz"), *more]
    return CliRunner().invoke(app, ["compare", str(folder / "net.lapilli"), *given])


@pytest.mark.parametrize(
    ("network", "when"),
    [(ALIVE, ""), (SILENT, "never"), (SATURATED, "always")],
    ids=["alive", "silent", "saturated"],
)
def test_golden_vectors_that_show_nothing(network: Network, when: str, tmp_path: Path) -> None:
    made = write_golden(network, _PIXELS, tmp_path / "golden")
    assert (made.rates["second"] in (0, 1)) == bool(when)
    assert made.values == sum(4 * 5 * 4 for _ in network.graph.firing) + 5 * 4
    save_network(network, tmp_path / "net.lapilli")
    np.savez(tmp_path / "images.npz", images=_PIXELS)
    arguments = ["golden", tmp_path / "net.lapilli", "--source", tmp_path / "images.npz",
                 "-o", tmp_path / "again", "--count", 5]  # fmt: skip
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    assert done.exit_code == int(bool(when))
    said = f"{when} fire on these images, and show nothing: second"
    assert (said in done.output) == bool(when)
