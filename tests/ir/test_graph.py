"""A graph that exists is sound: names, order, and ranges that no run can leave."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import get_args

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from lapilli.ir import ops
from lapilli.ir.errors import GraphError
from lapilli.ir.graph import Graph, Node
from lapilli.ir.tensor import IntArray, IntTensor
from lapilli.ir.types import IntRange, Kind, TensorType
from lapilli.simulators.conformance import attention_block
from lapilli.simulators.reference import Reference

Feed = Callable[[Graph, int], dict[str, IntArray]]

_X = Node("x", ops.Input(type=TensorType.spikes(2)))
_FIRE = ops.Neuron(threshold=IntTensor.of([1]))
_W = ops.Linear(weight=IntTensor.of([[1, 2]]), bias=IntTensor.of([0]))


@pytest.mark.parametrize(
    ("nodes", "outputs", "T", "node", "problem"),
    [
        ((_X, _X), ("x",), 1, "x", "name is used twice"),
        ((_X, Node("y", ops.Add(), ("x", "z"))), ("y",), 1, "y", "input 'z' is not defined before"),
        ((Node("y", ops.Delay(steps=1), ("x",)), _X), ("y",), 1, "y", "input 'x' is not defined"),
        ((Node("y", ops.Delay(steps=1), ("y",)),), ("y",), 1, "y", "input 'y' is not defined"),
        ((_X,), ("x", "q"), 1, "q", "is an output but not a node"),
        ((_X,), ("x",), 0, "T", "a sample of 0 time steps"),
        (
            (_X, Node("g", ops.Readout(), ("x",)), Node("y", _W, ("g",)), Node("z", _W, ("y",))),
            ("z",),
            4,
            "z",
            "does not fit",
        ),
        (
            (
                _X,
                Node(
                    "y",
                    replace(_W, weight=IntTensor.of([[1], [2]]), bias=IntTensor.of([0, 0])),
                    ("x",),
                ),
            ),
            ("y",),
            1,
            "y",
            "does not fit",
        ),
        (
            (
                _X,
                Node("s", ops.Sum(axes=(0,), keepdims=True), ("x",)),
                Node("p", ops.SpikeMatmul(), ("s", "x")),
            ),
            ("p",),
            1,
            "p",
            "do not chain",
        ),
        (
            (_X, Node("c", ops.Readout(), ("x",)), Node("g", ops.Gate(), ("c", "c"))),
            ("g",),
            17,
            "g",
            "one operand must be spikes",
        ),
    ],
)
def test_what_cannot_exist_names_its_node(
    nodes: tuple[Node, ...], outputs: tuple[str, ...], T: int, node: str, problem: str
) -> None:
    with pytest.raises(GraphError, match=problem) as caught:
        Graph(nodes, outputs, T)
    assert caught.value.node == node
    assert repr(node) in str(caught.value)


def test_an_unmarked_graded_current_names_its_layer() -> None:
    nodes = (_X, Node("first", _W, ("x",)), Node("second", replace(_W), ("first",)))
    wide = ops.Linear(weight=IntTensor.of([[1]]), bias=IntTensor.of([0]))
    with pytest.raises(GraphError, match=r"'second'.*mark the layer graded"):
        Graph((*nodes[:2], Node("second", wide, ("first",))), ("second",), 1)
    marked = Node("second", replace(wide, graded=True), ("first",))
    assert Graph((*nodes[:2], marked), ("second",), 1).types["second"].range == IntRange(0, 3)


def test_a_graph_knows_its_parts() -> None:
    graph = attention_block()

    assert graph.inputs == ("x",)
    assert graph.neurons == ("q", "k", "v", "attn.fire")
    assert graph["attn"].inputs == ("merged",)
    assert graph.types.keys() == {n.name for n in graph.nodes}
    with pytest.raises(TypeError):
        graph.types["x"] = TensorType.spikes(1)  # type: ignore[index]


_zero_inside = st.one_of(
    st.just(TensorType.spikes(4)),
    st.just(TensorType((4,), IntRange(-1, 1), Kind.SPIKES)),
    st.integers(1, 9).map(lambda hi: TensorType((4,), IntRange(0, hi), Kind.COUNTS)),
    st.tuples(st.integers(-9, 0), st.integers(0, 9)).map(
        lambda ends: TensorType((4,), IntRange(*ends), Kind.GRADED)
    ),
)


@given(
    _zero_inside,
    st.lists(st.lists(st.integers(-99, 99), min_size=4, max_size=4), min_size=1, max_size=3),
    st.data(),
)
def test_the_range_of_a_linear_layer_is_reached(
    kind: TensorType, weights: list[list[int]], data: st.DataObject
) -> None:
    w = np.array(weights)
    b = np.array(data.draw(st.lists(st.integers(-50, 50), min_size=len(w), max_size=len(w))))
    op = ops.Linear(weight=IntTensor.of(w), bias=IntTensor.of(b), graded=True)
    graph = Graph((replace(_X, op=ops.Input(type=kind)), Node("y", op, ("x",))), ("y",), 1)
    # One sample drives one output up, one drives it down.
    lo, hi = kind.range.lo, kind.range.hi
    x = np.concatenate([np.where(w > 0, hi, lo), np.where(w > 0, lo, hi)])

    y = Reference().compile(graph).run({"x": x[None]}).values["y"]

    assert IntRange(int(y.min()), int(y.max())) == graph.types["y"].range


@pytest.mark.parametrize(
    ("stride", "padding", "groups"), [((1, 1), (0, 0), 1), ((2, 1), (1, 2), 1), ((1, 2), (1, 0), 2)]
)
def test_the_range_of_a_convolution_is_reached(
    stride: tuple[int, int], padding: tuple[int, int], groups: int
) -> None:
    rng = np.random.default_rng(3)
    w = rng.integers(-9, 10, (4, 2 // groups, 3, 3))
    op = ops.Conv2d(
        weight=IntTensor.of(w), bias=IntTensor.of(rng.integers(-5, 6, 4)),
        stride=stride, padding=padding, groups=groups, graded=True,
    )  # fmt: skip
    kind = TensorType((2, 9, 9), IntRange(-4, 6), Kind.GRADED)
    graph = Graph((replace(_X, op=ops.Input(type=kind)), Node("y", op, ("x",))), ("y",), 1)
    tiles = []
    for channel, kernel in enumerate(w):  # the kernel's signs, tiled from every offset
        mine = np.zeros((2, 3, 3), np.int64)
        start = channel // (4 // groups) * (2 // groups) if groups > 1 else 0
        mine[start : start + len(kernel)] = kernel
        for dy, dx in product(range(3), range(3)):
            turned = np.roll(np.tile(mine, (1, 3, 3)), (dy, dx), (1, 2))
            tiles += [np.where(turned > 0, 6, -4), np.where(turned > 0, -4, 6)]

    y = Reference().compile(graph).run({"x": np.array(tiles)[None]}).values["y"]

    assert IntRange(int(y.min()), int(y.max())) == graph.types["y"].range


_T3 = TensorType((3, 3), IntRange(-1, 1), Kind.SPIKES)
_G3 = TensorType((3, 3), IntRange(-5, 7), Kind.GRADED)
_C3 = TensorType((3, 3), IntRange(0, 4), Kind.COUNTS)
_S3 = TensorType.spikes(3, 3)


@pytest.mark.parametrize(
    ("op", "kinds"),
    [
        (ops.SpikeMatmul(), (_T3, _G3)),
        (ops.SpikeMatmul(), (_G3, _S3)),
        (ops.SpikeMatmul(), (_S3, _C3)),
        (ops.SpikeMatmul(), (_S3, _S3)),
        (ops.Gate(), (_T3, _G3)),
        (ops.Gate(), (_C3, _T3)),
        (ops.Gate(), (_S3, _T3)),
        (ops.Add(), (_G3, _T3)),
        (ops.Sum(axes=(0,)), (_G3,)),
        (ops.Sum(axes=(1, 0), keepdims=True), (_T3,)),
        (ops.Readout(), (_G3,)),
        (ops.Readout(), (_S3,)),
        (ops.Permute(axes=(1, 0)), (_C3,)),
    ],
)
def test_the_range_of_a_sum_is_reached(op: ops.Op, kinds: tuple[TensorType, ...]) -> None:
    inputs = [Node(f"x{i}", ops.Input(type=kind)) for i, kind in enumerate(kinds)]
    graph = Graph((*inputs, Node("y", op, tuple(n.name for n in inputs))), ("y",), 3)
    corners = list(product(*((kind.range.lo, kind.range.hi) for kind in kinds)))
    given = {
        f"x{i}": np.broadcast_to(
            np.array([c[i] for c in corners])[None, :, None, None], (3, len(corners), 3, 3)
        )
        for i in range(len(kinds))
    }

    y = Reference().compile(graph).run(given).values["y"]

    assert IntRange(int(y.min()), int(y.max())) == graph.types["y"].range


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(st.data(), st.integers(0, 2**32 - 1))
def test_no_run_leaves_a_proven_range(
    graphs: st.SearchStrategy[Graph], feed: Feed, data: st.DataObject, seed: int
) -> None:
    graph = data.draw(graphs)

    got = Reference().compile(graph).run(feed(graph, seed))  # raises if one is left

    assert got.values.keys() == graph.types.keys()


def test_the_random_graphs_have_every_op(graphs: st.SearchStrategy[Graph]) -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=300, database=None, phases=[Phase.generate])
    @given(graphs)
    def look(graph: Graph) -> None:
        seen.update(type(node.op).__name__ for node in graph.nodes)

    look()
    missing = {kind.__name__ for kind in get_args(ops.Op)} - seen.keys()
    assert not missing, f"`_graph` in tests/conftest.py never makes {missing}"
    assert min(seen.values()) > 20, seen


def _rebuilt(graph: Graph) -> Graph:
    nodes = tuple(Node(n.name, replace(n.op), n.inputs) for n in graph.nodes)
    return Graph(nodes, graph.outputs, graph.T)


@given(st.data())
def test_equal_graphs_have_equal_digests(
    graphs: st.SearchStrategy[Graph], data: st.DataObject
) -> None:
    graph = data.draw(graphs)
    again = _rebuilt(graph)
    assert again == graph
    assert again.digest == graph.digest
    assert hash(again) == hash(graph)


def test_a_digest_is_the_same_on_every_machine() -> None:
    digest = "0616b44f5e2c15ddf7ca28818075ed0d73ec5f5e763337488519a0eb416c73b5"
    assert attention_block(2, 4, 2).digest == digest


def _with(graph: Graph, name: str, **changed: object) -> Graph:
    nodes = tuple(
        replace(n, op=replace(n.op, **changed)) if n.name == name else n  # type: ignore[arg-type]
        for n in graph.nodes
    )
    return Graph(nodes, graph.outputs, graph.T)


def test_one_weight_changes_the_digest() -> None:
    graph = attention_block()
    seen = {graph.digest}
    for name in ("q.linear", "k.linear", "v.linear", "head"):
        op = graph[name].op
        assert isinstance(op, ops.Linear)
        for at in range(op.weight.array.size):
            weight = op.weight.array.copy()
            weight.flat[at] += 1
            seen.add(_with(graph, name, weight=IntTensor(weight)).digest)
        seen.add(_with(graph, name, bias=IntTensor(op.bias.array + 1)).digest)
    assert len(seen) == 1 + 3 * 36 + 18 + 4


@pytest.mark.parametrize(
    "changed",
    [
        {"threshold": IntTensor.of([2])},
        {"dv": 1},
        {"du": 1},
        {"bias": IntTensor.of([1])},
        {"fraction_bits": 5},
        {"ternary": True},
        {"reset_by": 1},
    ],
    ids=lambda c: next(iter(c)),
)
def test_every_constant_of_a_neuron_changes_the_digest(changed: dict[str, object]) -> None:
    graph = Graph((_X, Node("s", _FIRE, ("x",))), ("s",), 2)
    other = _with(graph, "s", **changed)
    assert other != graph
    assert other.digest != graph.digest


def test_steps_names_and_outputs_change_the_digest() -> None:
    nodes = (_X, Node("s", _FIRE, ("x",)))
    other = (_X, Node("r", _FIRE, ("x",)))
    pool = ops.MaxPool2d(kernel=(1, 1), stride=(1, 1))
    assert pool == replace(pool)
    made = [
        Graph(nodes, ("s",), 2),
        Graph(nodes, ("s",), 3),
        Graph(nodes, ("x",), 2),
        Graph(other, ("r",), 2),
    ]
    assert len({graph.digest for graph in made}) == len(made)


# ---- walking backwards --------------------------------------------------------------------


def _chain() -> Graph:
    eye = IntTensor.of(np.eye(4, dtype=int))
    nodes = (
        Node("x", ops.Input(type=TensorType.spikes(4))),
        Node("fc", ops.Linear(weight=eye, bias=IntTensor.of([0] * 4)), ("x",)),
        Node("lif", ops.Neuron(threshold=IntTensor.of([65])), ("fc",)),
        Node("dead", ops.Relu(), ("fc",)),
        Node("unread", ops.Input(type=TensorType.spikes(2))),
        Node("y", ops.Readout(), ("lif",)),
    )  # fmt: skip
    return Graph(nodes, ("y",), 2)


def test_ancestors_end_where_they_are_told() -> None:
    graph = _chain()
    assert graph.ancestors(["y"]) == {"y", "lif", "fc", "x"}
    assert graph.ancestors(["dead", "unread"]) == {"dead", "fc", "x", "unread"}
    stopped = graph.ancestors(["y"], lambda node: isinstance(node.op, ops.Neuron))
    assert stopped == {"y", "lif"}
    assert graph.ancestors([]) == frozenset()


def test_dead_nodes_go_and_inputs_stay() -> None:
    graph = _chain()
    assert [n.name for n in graph.without_dead().nodes] == ["x", "fc", "lif", "unread", "y"]
    kept = graph.without_dead(keep=["dead"])
    assert kept == graph
    assert graph["dead"] is graph.by_name["dead"]
    with pytest.raises(KeyError):
        _ = graph["absent"]
