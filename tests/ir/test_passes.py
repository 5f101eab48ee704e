"""Passes change the graph and no value; balanced joins see one step."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lapilli.ir import ops
from lapilli.ir.errors import PassError
from lapilli.ir.graph import Graph, Node
from lapilli.ir.passes import run_passes
from lapilli.ir.passes.delays import balance_delays, bits_held, cost, delay_bits, latencies
from lapilli.ir.passes.wiring import fuse_wiring
from lapilli.ir.tensor import IntArray, IntTensor
from lapilli.ir.types import IntRange, Kind, TensorType
from lapilli.simulators.conformance import CASES, Case, attention_block
from lapilli.simulators.reference import Reference

if TYPE_CHECKING:
    from lapilli.quantize import Quantized

Feed = Callable[[Graph, int], dict[str, IntArray]]


def _same_values(before: Graph, after: Graph, inputs: dict[str, IntArray]) -> int:
    """How many values were compared: of every output, and of each node in both."""
    assert len(before.outputs) == len(after.outputs)
    assert after.inputs == before.inputs
    want, have = (Reference().compile(g).run(inputs).values for g in (before, after))
    pairs = [*zip(before.outputs, after.outputs, strict=True)]
    pairs += [(n, n) for n in want.keys() & have.keys()]
    for mine, theirs in pairs:
        assert np.array_equal(want[mine], have[theirs]), mine
    return sum(want[mine].size for mine, _ in pairs)


def _unequal(graph: Graph) -> list[str]:
    """Nodes whose operands arrive in different steps."""
    latency = latencies(graph)
    return [n.name for n in graph.nodes if len({latency[i] for i in n.inputs}) > 1]


def _adjacent(graph: Graph) -> list[str]:
    """Nodes that `fuse_wiring` should not have left."""
    left = []
    for node in graph.nodes:
        if isinstance(node.op, ops.Reshape | ops.Permute):
            source = graph[node.inputs[0]]
            if isinstance(source.op, type(node.op)):
                left.append(node.name)
            if isinstance(node.op, ops.Reshape) and node.op.shape == graph.types[source.name].shape:
                left.append(node.name)
            if isinstance(node.op, ops.Permute) and node.op.axes == tuple(sorted(node.op.axes)):
                left.append(node.name)
    return left


# ---- wiring -----------------------------------------------------------------------------


@st.composite
def chains(draw: st.DrawFn) -> Graph:
    """Up to ten reshapes and permutes of distinct elements; some values are read twice."""
    shape: tuple[int, ...] = (2, 3, 4)
    kind = TensorType(shape, IntRange(0, 23), Kind.GRADED)
    nodes = [Node("x", ops.Input(type=kind))]
    for i in range(draw(st.integers(1, 10))):
        op: ops.Op
        if draw(st.booleans()):
            shape = draw(
                st.sampled_from([(24,), (2, 12), (4, 6), (2, 3, 4), (3, 2, 2, 2), (4, 1, 6), shape])
            )
            op = ops.Reshape(shape=shape)
        else:
            axes = tuple(draw(st.permutations(range(len(shape)))))
            shape = tuple(shape[a] for a in axes)
            op = ops.Permute(axes=axes)
        nodes.append(Node(f"n{i}", op, (nodes[-1].name,)))
    extra = draw(st.lists(st.sampled_from([n.name for n in nodes]), max_size=2))
    return Graph(tuple(nodes), (nodes[-1].name, *extra), 1)


_DISTINCT = {"x": np.arange(24).reshape(1, 1, 2, 3, 4)}


def test_fusing_chains_changes_no_value() -> None:
    removed = 0

    @settings(max_examples=300)
    @given(chains())
    def fuse(graph: Graph) -> None:
        nonlocal removed
        fused = fuse_wiring(graph)
        assert _same_values(graph, fused, _DISTINCT) > 0
        assert _adjacent(fused) == []
        assert fuse_wiring(fused) == fused
        removed += len(graph.nodes) - len(fused.nodes)

    fuse()
    assert removed > 100


@settings(max_examples=200)
@given(st.data(), st.integers(0, 10**6))
def test_fusing_any_graph_changes_no_value(
    graphs: st.SearchStrategy[Graph], feed: Feed, data: st.DataObject, seed: int
) -> None:
    graph = data.draw(graphs)
    fused = fuse_wiring(graph)
    assert _same_values(graph, fused, feed(graph, seed)) > 0
    assert _adjacent(fused) == []


_X = Node("x", ops.Input(type=TensorType((2, 3), IntRange(0, 5), Kind.GRADED)))


@pytest.mark.parametrize(
    ("chain", "left"),
    [
        ((ops.Reshape(shape=(6,)), ops.Reshape(shape=(3, 2))), (ops.Reshape(shape=(3, 2)),)),
        ((ops.Reshape(shape=(6,)), ops.Reshape(shape=(2, 3))), ()),
        ((ops.Permute(axes=(1, 0)), ops.Permute(axes=(1, 0))), ()),
        ((ops.Permute(axes=(0, 1)),), ()),
        ((ops.Reshape(shape=(2, 1, 3)), ops.Permute(axes=(2, 0, 1)), ops.Permute(axes=(2, 0, 1))),
         (ops.Reshape(shape=(2, 1, 3)), ops.Permute(axes=(1, 2, 0)))),
        ((ops.Reshape(shape=(3, 2)), ops.Permute(axes=(1, 0))),
         (ops.Reshape(shape=(3, 2)), ops.Permute(axes=(1, 0)))),
    ],
)  # fmt: skip
def test_what_is_left_of_a_chain(chain: tuple[ops.Op, ...], left: tuple[ops.Op, ...]) -> None:
    nodes = [_X]
    for i, op in enumerate(chain):
        nodes.append(Node(f"n{i}", op, (nodes[-1].name,)))
    fused = fuse_wiring(Graph(tuple(nodes), (nodes[-1].name,), 1))
    assert tuple(n.op for n in fused.nodes[1:]) == left
    assert fused.outputs == (fused.nodes[-1].name,)


def test_unread_nodes_go_and_inputs_stay() -> None:
    other = Node("other", ops.Input(type=TensorType.spikes(1)))
    dead = Node("dead", ops.Reshape(shape=(6,)), ("x",))
    deader = Node("deader", ops.Reshape(shape=(3, 2)), ("dead",))
    fused = fuse_wiring(Graph((_X, other, dead, deader), ("x",), 1))
    assert [n.name for n in fused.nodes] == ["x", "other"]


def test_a_value_that_others_read_stays() -> None:
    flat = Node("flat", ops.Reshape(shape=(6,)), ("x",))
    back = Node("back", ops.Reshape(shape=(3, 2)), ("flat",))
    fused = fuse_wiring(Graph((_X, flat, back), ("flat", "back"), 1))
    assert [(n.name, n.inputs) for n in fused.nodes[1:]] == [("flat", ("x",)), ("back", ("x",))]


# ---- delays -----------------------------------------------------------------------------


@st.composite
def residuals(draw: st.DrawFn, most: int = 12) -> Graph:
    """Branches of random depth, joined at random: every join a chance to be unequal."""
    fire = ops.Neuron(threshold=IntTensor.of([65]), dv=2048)
    nodes = [Node("x", ops.Input(type=TensorType.spikes(3)))]
    spiking = ["x"]
    for i in range(draw(st.integers(2, most))):
        kind = draw(st.sampled_from(("synapse", "synapse", "join", "gate")))
        a, b = (draw(st.sampled_from(spiking)) for _ in range(2))
        if kind == "synapse":
            w = draw(st.lists(st.lists(st.integers(-3, 3), min_size=3, max_size=3), min_size=3,
                              max_size=3))  # fmt: skip
            op: ops.Op = ops.Linear(weight=IntTensor.of(w), bias=IntTensor.of([1, 0, -1]))
            nodes += [Node(f"w{i}", op, (a,)), Node(f"s{i}", fire, (f"w{i}",))]
        else:
            op = ops.Add() if kind == "join" else ops.Gate()
            nodes += [Node(f"j{i}", op, (a, b)), Node(f"s{i}", fire, (f"j{i}",))]
        spiking.append(f"s{i}")
    return Graph(tuple(nodes), (spiking[-1],), draw(st.integers(1, 3)))


def _check_balanced(graph: Graph, inputs: dict[str, IntArray]) -> int:
    """Check everything that must hold; the number of delays inserted."""
    balanced = balance_delays(graph)
    delays = [n for n in balanced.nodes if n not in graph.nodes and isinstance(n.op, ops.Delay)]

    assert _unequal(balanced) == []
    assert balanced.outputs == graph.outputs
    assert _same_values(graph, balanced, inputs) > 0
    assert balance_delays(balanced) == balanced
    # Nothing comes before its longest path, and outputs come no later.
    before, after = latencies(graph), latencies(balanced)
    assert all(before[n] <= after[n] for n in before)
    assert all(before[n] == after[n] for n in graph.outputs)
    # One line per value: no two delays hang on one tap, and every tap is read.
    sources = [n.inputs[0] for n in delays]
    assert len(set(sources)) == len(sources)
    read = {i for n in balanced.nodes for i in n.inputs}
    assert all(n.name in read for n in delays)
    for delay in delays:
        assert _unequal(_without(balanced, delay)) != []
    return len(delays)


def _without(graph: Graph, delay: Node) -> Graph:
    nodes = tuple(
        Node(n.name, n.op, tuple(delay.inputs[0] if i == delay.name else i for i in n.inputs))
        for n in graph.nodes
        if n != delay
    )
    return Graph(nodes, graph.outputs, graph.T)


def test_balancing_residuals() -> None:
    inserted: list[int] = []

    @settings(max_examples=200)
    @given(residuals(), st.integers(0, 10**6))
    def balance(graph: Graph, seed: int) -> None:
        rng = np.random.default_rng(seed)
        inputs = {"x": rng.integers(0, 2, (graph.T, 3, 3))}
        inserted.append(_check_balanced(graph, inputs))
        assert (inserted[-1] > 0) == (_unequal(graph) != [])

    balance()
    assert sum(n > 0 for n in inserted) > 30
    assert sum(n > 1 for n in inserted) > 10


@settings(max_examples=200)
@given(st.data(), st.integers(0, 10**6))
def test_balancing_any_graph(
    graphs: st.SearchStrategy[Graph], feed: Feed, data: st.DataObject, seed: int
) -> None:
    graph = data.draw(graphs)
    balanced = balance_delays(graph)
    assert _unequal(balanced) == []
    assert _same_values(graph, balanced, feed(graph, seed)) > 0


@pytest.mark.parametrize("case", [c for c in CASES if c.name != "attention-block"], ids=str)
def test_balanced_chains_stay_as_they_are(case: Case) -> None:
    assert balance_delays(case.graph) == case.graph


def test_the_attention_block_needs_its_delays() -> None:
    (case,) = (c for c in CASES if c.name == "attention-block")
    assert _check_balanced(case.graph, dict(case.inputs)) == 2
    delays = [n for n in balance_delays(case.graph).nodes if isinstance(n.op, ops.Delay)]
    # The residual waits for three synapses; V, for the scores, on the same line.
    assert [(n.name, n.inputs, n.op) for n in delays] == [
        ("x.delay1", ("x",), ops.Delay(steps=1)),
        ("x.delay3", ("x.delay1",), ops.Delay(steps=2)),
    ]
    assert balance_delays(case.graph)["v.linear"].inputs == ("x.delay1",)


def _fewest_bits(graph: Graph) -> int:
    """By trying every latency of every node: the bits that the delays must hold at least."""
    earliest = latencies(graph)
    most = max(earliest.values())
    fixed = {*graph.inputs, *graph.outputs}
    readers = {n.name: [r for r in graph.nodes if n.name in r.inputs] for n in graph.nodes}
    best = 1 << 60
    spans = [[earliest[n.name]] if n.name in fixed else range(earliest[n.name], most + 1)
             for n in graph.nodes]  # fmt: skip
    for times in itertools.product(*spans):
        at = dict(zip(readers, times, strict=True))
        waits = {
            name: [at[r.name] - cost(r.op) - at[name] for r in reading]
            for name, reading in readers.items()
        }
        if all(w >= 0 for wait in waits.values() for w in wait):
            held = (bits_held(graph.types[n]) * max(w, default=0) for n, w in waits.items())
            best = min(best, sum(held))
    return best


def test_no_other_delays_hold_fewer_bits() -> None:
    moved = 0

    @settings(max_examples=150, deadline=None)
    @given(residuals(most=4))
    def balance(graph: Graph) -> None:
        nonlocal moved
        balanced = balance_delays(graph)
        assert delay_bits(balanced) == _fewest_bits(graph)
        moved += any(latencies(balanced)[n] > at for n, at in latencies(graph).items())

    balance()
    assert moved > 3


def test_consumers_of_one_value_share_a_line() -> None:
    w = ops.Linear(weight=IntTensor.of([[2]]), bias=IntTensor.of([0]))
    fire = ops.Neuron(threshold=IntTensor.of([65]), dv=4096)
    nodes = [Node("x", ops.Input(type=TensorType.spikes(1)))]
    before = "x"
    for i in (1, 2, 3):
        nodes += [
            Node(f"w{i}", w, (before,)),
            Node(f"s{i}", fire, (f"w{i}",)),
            Node(f"join{i}", ops.Gate(), (f"s{i}", "x")),
        ]
        before = f"s{i}"
    balanced = balance_delays(Graph(tuple(nodes), ("join1", "join2", "join3"), 2))
    delays = [(n.name, n.inputs[0], n.op) for n in balanced.nodes if isinstance(n.op, ops.Delay)]
    assert delays == [
        (f"x.delay{i}", f"x.delay{i - 1}" if i > 1 else "x", ops.Delay(steps=1)) for i in (1, 2, 3)
    ]
    assert [balanced[f"join{i}"].inputs[1] for i in (1, 2, 3)] == [f"x.delay{i}" for i in (1, 2, 3)]


@pytest.mark.parametrize("name", ["spikformer", "spike_driven"])
def test_trained_networks_are_balanced(quantized: Callable[[str], Quantized], name: str) -> None:
    graph = quantized(name).network.graph
    assert _unequal(graph) != []
    assert _unequal(balance_delays(graph)) == []
    assert fuse_wiring(graph) == graph


@pytest.mark.parametrize(
    ("node", "steps"), [("q.linear", 1), ("q", 0), ("q.split", 0), ("scores", 1), ("y", 0)]
)
def test_one_step_for_each_synapse(node: str, steps: int) -> None:
    assert cost(attention_block()[node].op) == steps


def test_a_delay_costs_its_steps() -> None:
    assert cost(ops.Delay(steps=5)) == 5


# ---- pipelines --------------------------------------------------------------------------


def test_a_broken_pass_is_named_with_its_input() -> None:
    def forgets_the_input(graph: Graph) -> Graph:
        return Graph(graph.nodes[1:], graph.outputs, graph.T)

    with pytest.raises(PassError, match=r"'forgets_the_input'.*\n%x = Input") as caught:
        run_passes(attention_block(), (balance_delays, forgets_the_input))
    assert "'x.delay1': input 'x' is not defined" in str(caught.value.__cause__)


def test_passes_run_in_order() -> None:
    graph = attention_block()
    assert run_passes(graph, (fuse_wiring, balance_delays)) == balance_delays(fuse_wiring(graph))


_ONE = IntTensor.of([[1]])
_TAP = IntTensor.of([[[1]]])
COSTS: tuple[tuple[ops.Op, int], ...] = (
    (ops.Linear(weight=_ONE, bias=IntTensor.of([0])), 1),
    (ops.Conv2d(weight=IntTensor.of([[[[1]]]]), bias=IntTensor.of([0])), 1),
    (ops.SpikeMatmul(), 1),
    (ops.Gate(), 1),
    (ops.ShiftSum(window=40, reach=3), 1),
    (ops.Sum(axes=(0,)), 1),
    (ops.MaxPool2d(kernel=(2, 2), stride=(2, 2)), 1),
    (ops.Delay(steps=3), 3),
    (ops.Add(), 0),
    (ops.Concat(axis=0), 0),
    (ops.Reshape(shape=(1,)), 0),
    (ops.Permute(axes=(0,)), 0),
    (ops.Expand(shape=(2,)), 0),
    (ops.Slice(axis=0, start=0, stop=1), 0),
    (ops.Neuron(threshold=IntTensor.of([1])), 0),
    (ops.GeneralNeuron(taps=_TAP, threshold=_TAP), 0),
    (ops.Membrane(neuron=ops.Neuron(threshold=IntTensor.of([1]))), 0),
    (ops.Staircase(thresholds=IntTensor.of([[1]])), 0),
    (ops.Relu(), 0),
    (ops.Readout(), 0),
    (ops.Input(type=TensorType.spikes(1)), 0),
)


def test_what_each_op_costs_on_loihi() -> None:
    missing = set(ops.OPS) - {type(op) for op, _ in COSTS}
    assert not missing, f"COSTS does not say what {missing} costs"
    assert [cost(op) for op, _ in COSTS] == [steps for _, steps in COSTS]
