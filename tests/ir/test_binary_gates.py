"""Gates of binary spikes as AND neurons: the same values, on any graph of gates."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lapilli.ir import ops
from lapilli.ir.graph import Graph, Node
from lapilli.ir.passes.binary import to_binary_neurons
from lapilli.ir.types import TensorType
from lapilli.simulators.reference import Reference


@st.composite
def gated(draw: st.DrawFn) -> Graph:
    """Two binary inputs and up to eight gates of whatever came before, each other included."""
    nodes = [Node(name, ops.Input(type=TensorType.spikes(3))) for name in ("a", "b")]
    for i in range(draw(st.integers(1, 8))):
        operands = tuple(draw(st.sampled_from(nodes)).name for _ in range(2))
        nodes.append(Node(f"g{i}", ops.Gate(), operands))
    gates = tuple(node.name for node in nodes[2:])
    return Graph(tuple(nodes), gates, draw(st.integers(1, 4)))


@settings(deadline=None)
@given(gated(), st.integers(0, 2**32 - 1))
def test_every_value_survives(graph: Graph, seed: int) -> None:
    rng = np.random.default_rng(seed)
    inputs = {name: rng.integers(0, 2, (graph.T, 5, 3)) for name in graph.inputs}
    # Both operands, all four combinations: a pass that did nothing right could not hide.
    inputs["a"][0, :4, 0], inputs["b"][0, :4, 0] = [0, 0, 1, 1], [0, 1, 0, 1]

    lowered = to_binary_neurons(graph)

    assert not any(isinstance(node.op, ops.Gate) for node in lowered.nodes)
    assert len(lowered.neurons) == sum(isinstance(node.op, ops.Gate) for node in graph.nodes) > 0
    want, have = (Reference().compile(g).run(inputs).values for g in (graph, lowered))
    assert want.keys() <= have.keys()
    for name, value in want.items():
        assert np.array_equal(value, have[name]), name


def test_memory_does_not_leak_into_the_next_step() -> None:
    nodes = (
        Node("a", ops.Input(type=TensorType.spikes(1))),
        Node("b", ops.Input(type=TensorType.spikes(1))),
        Node("g", ops.Gate(), ("a", "b")),
    )
    lowered = to_binary_neurons(Graph(nodes, ("g",), 4))
    a, b = (np.array(x).reshape(4, 1, 1) for x in ([1, 0, 1, 0], [0, 1, 1, 1]))

    got = Reference().compile(lowered).run({"a": a, "b": b})

    assert got.values["g"].ravel().tolist() == [0, 0, 1, 0]
    assert got.membranes["g"].ravel().tolist() == [64, 64, 128, 64]
