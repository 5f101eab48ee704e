"""How many images at a time: what memory takes, and the same answer whatever it is."""

from __future__ import annotations

from dataclasses import replace

from lapilli.deploy.comparison.compare import affordable_batch, compare
from lapilli.ir import ops
from lapilli.ir.graph import Graph, Node
from lapilli.ir.tensor import IntTensor
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


def test_two_recordings_take_3_gib() -> None:
    for size in (1_000, 100_000, 1_000_000):
        taken = 2 * 3 * 8 * 4 * size  # two runs of three arrays, 64 bits, four steps
        batch = affordable_batch(_of(size))
        assert batch * taken <= 3 << 30 < (batch + 1) * taken
    assert affordable_batch(_of(100_000_000)) == 1


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
