"""What is told of latency is what Lava runs."""

from __future__ import annotations

import numpy as np
import pytest

from lapilli.deploy.cli.latency import NodeLatency, lava_latencies
from lapilli.ir import ops
from lapilli.ir.graph import Graph, Node
from lapilli.ir.passes.delays import balance_delays, delay_bits
from lapilli.ir.tensor import IntTensor
from lapilli.ir.types import TensorType
from lapilli.simulators.conformance import attention_block
from lapilli.simulators.lava.host.adapter import Lava


def test_by_hand() -> None:
    """One branch has two synapses, the other none; a gate waits for both, and costs a step."""
    linear = ops.Linear(weight=IntTensor.of([[1, 2], [3, -1]]), bias=IntTensor.of([0, 0]))
    lif = ops.Neuron(threshold=IntTensor.of([65]))
    nodes = (
        Node("x", ops.Input(type=TensorType.spikes(2))),
        Node("l1", linear, ("x",)),
        Node("n1", lif, ("l1",)),
        Node("l2", linear, ("n1",)),
        Node("n2", lif, ("l2",)),
        Node("gated", ops.Gate(), ("n2", "x")),
        Node("sum", ops.Add(), ("gated", "n1")),
    )
    found = lava_latencies(Graph(nodes, ("sum",), 4))
    assert found.path == ("l1", "l2", "gated")
    assert found.steps == 3
    latency = {"x": 0, "l1": 1, "n1": 1, "l2": 2, "n2": 2, "gated": 3, "sum": 3}
    waits = {"x": (2, 4), "n1": (2, 4)}  # two steps of two spikes
    assert found.rows == tuple(
        NodeLatency(n, at, *waits.get(n, (0, 0))) for n, at in latency.items()
    )
    assert found.delay_bits == 8


def test_bits_are_those_of_the_balanced_graph() -> None:
    graph = attention_block()
    found = lava_latencies(graph)
    assert [row.node for row in found.rows] == [node.name for node in graph.nodes]
    assert found.delay_bits == delay_bits(balance_delays(graph)) > 0
    assert len(found.path) == found.steps


@pytest.mark.lava
def test_lava_drains_as_long_as_the_longest_path() -> None:
    graph = attention_block()
    executable = Lava().compile(graph)
    got = executable.run({"x": np.ones((graph.T, 1, 4, 6), np.int64)})
    assert got.steps == graph.T + lava_latencies(graph).steps
