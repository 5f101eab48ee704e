"""What a notebook shows of each public object: well-formed HTML with the object's own numbers."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

import lapilli as lp
from lapilli.deploy.comparison.compare import Comparison, compare_all
from lapilli.ir import ops
from lapilli.ir.graph import Graph
from lapilli.ir.network import Network
from lapilli.simulators.reference import Reference


@pytest.fixture(scope="module")
def network(net_chain: Callable[..., Network]) -> Network:
    return net_chain(encoder=False)


@pytest.fixture(scope="module")
def images(network: Network) -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (4, 2, 7, 6), np.uint8)


def _read(thing: object) -> tuple[ET.Element, str]:
    """Parse what it shows, as the XML that it is, too; all of its text."""
    shown = thing._repr_html_()  # type: ignore[attr-defined]
    root = ET.fromstring(f"<div>{shown}</div>")
    assert not list(root.iter("script"))
    return root, " ".join("".join(root.itertext()).split())


def test_a_graph_and_its_network(network: Network) -> None:
    graph = network.graph
    root, text = _read(graph)
    assert len(list(root.iter("tr"))) == len(graph.nodes) + 1
    assert graph.digest[:12] in text
    assert str(graph.types[graph.firing[0]]) in text
    root, text = _read(network)
    assert network.digest[:12] in text
    assert f"{len(graph.nodes)} nodes" in text
    assert root.find("details") is not None


def test_a_recording(network: Network, images: np.ndarray) -> None:
    recording = lp.run(network, images)
    root, text = _read(recording)
    name = network.graph.firing[0]
    spikes = recording.values[name]
    assert f"{np.count_nonzero(spikes):,}" in text
    cells = [
        float(e.get("data-value", "nan"))
        for e in root.iter("{http://www.w3.org/2000/svg}rect")
        if e.get("data-value")
    ]
    first = [np.count_nonzero(step) / step.size for step in next(iter(recording.values.values()))]
    assert cells[: network.graph.T] == first
    _, text = _read(replace(recording, values={}))
    assert "recording" in text


def test_comparisons(network: Network, images: np.ndarray) -> None:
    graph = network.graph
    node = graph.firing[1]
    op = graph[node].op
    assert isinstance(op, ops.Neuron)
    nodes = tuple(replace(n, op=replace(op, dv=4000)) if n.name == node else n for n in graph.nodes)
    faulty = replace(network, graph=Graph(nodes, graph.outputs, graph.T))
    expected = Reference().compile(graph)
    (same,), (wrong,) = (
        compare_all(one, expected, {"it": Reference().compile(one.graph)}, images)
        for one in (network, faulty)
    )
    _, text = _read(same)
    assert f"values compared{same.compared:,}" in text
    _, text = _read(wrong)
    assert "verdictdiffers" in text
    assert f"mismatches{wrong.mismatches:,}" in text
    assert node in text
    _, text = _read(lp.Report((same, wrong)))
    assert text.count("verdict") == 2
    assert "nothing compared" in _read(lp.Report(()))[1]


def test_costs(network: Network, images: np.ndarray) -> None:
    report = lp.cost(network, images, on=Reference())
    root, text = _read(report)
    assert f"{report.synaptic / 4:,.1f}" in text
    assert [m.name in text for m in report.models] == [True] * len(report.models)
    usual = report.usual(report.models[0])
    assert f"{usual.priced / 1e6:.4g} uJ" in text
    assert root.find("details") is not None
    _, text = _read(lp.cost(network))
    assert "without a run" in text
    assert "uJ" not in text


def test_a_comparison_of_nothing_is_not_exact() -> None:
    nothing = Comparison(expected="a", got="b<c", images=0, compared=0, mismatches=0, rates={})
    assert "verdictnot shown" in _read(nothing)[1]
