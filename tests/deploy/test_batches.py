"""How many images at a time: what memory takes, and the same answer whatever it is."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from lapilli.deploy.comparison.compare import affordable_batch, compare
from lapilli.ir import ops
from lapilli.ir.graph import Graph, Node
from lapilli.ir.recording import Recording
from lapilli.ir.tensor import IntArray, IntTensor
from lapilli.ir.types import TensorType
from lapilli.model.digits import Split
from lapilli.quantize import Quantized
from lapilli.simulators.event_driven import EventDriven


def _of(size: int, T: int = 4) -> Graph:
    nodes = (
        Node("x", ops.Input(type=TensorType.spikes(size))),
        Node("lif", ops.Neuron(threshold=IntTensor.of([65])), ("x",)),
    )
    return Graph(nodes, ("lif",), T)


@pytest.mark.parametrize("most", [3 << 30, 1 << 30])
def test_two_recordings_take_what_they_may(most: int) -> None:
    for size in (1_000, 100_000, 1_000_000):
        taken = 2 * 3 * 8 * 4 * size  # two runs of three arrays, 64 bits, four steps
        batch = affordable_batch(_of(size), most)
        assert batch * taken <= most < (batch + 1) * taken
    assert affordable_batch(_of(100_000_000), most) == 1


@pytest.mark.parametrize(("free", "most"), [(64 << 30, 3 << 30), (4 << 30, 1 << 30), (0, 1)])
def test_memory_that_is_free_says_how_many(
    monkeypatch: pytest.MonkeyPatch, free: int, most: int
) -> None:
    graph = _of(100_000)
    said = f"MemTotal: 9999999999 kB\nMemAvailable: {free >> 10} kB\n"
    monkeypatch.setattr(Path, "read_text", lambda _: said)
    assert affordable_batch(graph) == affordable_batch(graph, most)


def test_a_system_that_does_not_say_its_memory_takes_3_gib(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def absent(_: Path) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", absent)
    assert affordable_batch(_of(100_000)) == affordable_batch(_of(100_000), 3 << 30)


class _Watched:
    """An executable that counts the recordings that are alive when it runs."""

    name = "watched"

    def __init__(self, graph: Graph) -> None:
        self.inner = EventDriven().compile(graph)
        self.made: list[weakref.ref[IntArray]] = []
        self.alive: list[int] = []

    def run(self, inputs: Mapping[str, IntArray]) -> Recording:
        self.alive.append(sum(made() is not None for made in self.made))
        recording = self.inner.run(inputs)
        self.made.append(weakref.ref(next(iter(recording.membranes.values()))))
        return recording


def test_recordings_end_before_the_next_batch(spikformer: Quantized, test_split: Split) -> None:
    watched = _Watched(spikformer.network.graph)
    compare(spikformer.network, watched, watched, test_split.images[:6], batch=2).require()
    assert watched.alive == [0, 1, 0, 1, 0, 1]


def test_whatever_the_batch(spikformer: Quantized, test_split: Split) -> None:
    graph = spikformer.network.graph
    found = [
        compare(
            spikformer.network,
            spikformer.reference,
            EventDriven().compile(graph),
            test_split.images[:11],
            batch=batch,
        )
        for batch in (None, 1, 4)
    ]
    for one in found:
        one.require()
        assert one.images == 11
        assert (one.compared, one.answers) == (found[0].compared, found[0].answers)
        assert replace(one, rates={}, seconds=0.0) == replace(found[0], rates={}, seconds=0.0)
