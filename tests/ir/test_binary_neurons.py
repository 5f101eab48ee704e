"""Any graph as binary neurons: the same spikes and outputs, and mutants that must be caught."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from lapilli.ir import ops
from lapilli.ir.errors import UnsupportedError
from lapilli.ir.graph import Graph, Node
from lapilli.ir.passes.binary import (
    copies,
    lowering,
    maxima,
    size,
    terms,
    thresholds,
    unsupported,
)
from lapilli.ir.passes.binary.lowering import to_binary_neurons
from lapilli.ir.tensor import IntArray, IntTensor
from lapilli.ir.types import IntRange, Kind, TensorType
from lapilli.simulators.reference import Reference

_SAYABLE = (
    ops.Input, ops.Linear, ops.Conv2d, ops.Add, ops.Sum, ops.Neuron, ops.Readout,
    ops.Reshape, ops.Permute, ops.Expand, ops.Slice, ops.Concat, ops.Delay,
)  # fmt: skip


def differences(graph: Graph, inputs: Mapping[str, IntArray]) -> int:
    """Values of firing nodes and outputs that the lowered graph gets wrong; all are compared."""
    lowered = to_binary_neurons(graph)
    for node in lowered.nodes:
        assert isinstance(node.op, _SAYABLE), node
        if isinstance(node.op, ops.Neuron):
            assert not node.op.ternary
            assert node.op.reset is ops.Reset.TO_ZERO
    want, have = (Reference().compile(g).run(inputs).values for g in (graph, lowered))
    names = {*graph.firing, *graph.outputs}
    assert names
    assert sum(want[n].size for n in names) > 0
    return sum(int((want[n] != have[n]).sum()) for n in names)


@settings(max_examples=80, suppress_health_check=[HealthCheck.filter_too_much])
@given(st.data(), st.integers(0, 2**32 - 1))
def test_every_spike_and_output_survives(
    graphs: st.SearchStrategy[Graph],
    feed: Callable[[Graph, int], dict[str, IntArray]],
    data: st.DataObject,
    seed: int,
) -> None:
    graph = data.draw(graphs)
    assume(not unsupported(graph))
    assume(size(graph).neurons < 40_000)
    assert differences(graph, feed(graph, seed)) == 0


# ---- each operation, on many values ----------------------------------------------------------


def given_type(lo: int, hi: int, *shape: int, kind: Kind = Kind.GRADED) -> Node:
    return Node(f"in{lo}_{hi}", ops.Input(type=TensorType(shape, IntRange(lo, hi), kind)))


def one(op: ops.Op, *inputs: Node, T: int = 1) -> Graph:
    unlike = tuple(dict.fromkeys(inputs))
    node = Node("y", op, tuple(i.name for i in inputs))
    return Graph((*unlike, node), ("y",), T)


def drawn(graph: Graph, seed: int = 0, batch: int = 1) -> dict[str, IntArray]:
    """Values of which many are equal, at an end of their range, or near zero."""
    rng = np.random.default_rng(seed)
    made = {}
    for name in graph.inputs:
        kind = graph.types[name]
        shape, bounds = (graph.T, batch, *kind.shape), kind.range
        wide = rng.integers(bounds.lo, bounds.hi + 1, shape)
        near = rng.integers(-2, 3, shape).clip(bounds.lo, bounds.hi)
        ends = rng.choice([bounds.lo, bounds.hi], shape)
        made[name] = np.choose(rng.integers(0, 4, shape), [wide, wide, near, ends])
    return made


_SPIKES, _TERNARY = (
    given_type(lo, 1, 20, 1000, kind=Kind.SPIKES) for lo in (0, -1)
)  # fmt: skip
_ELEVEN = given_type(-1024, 1023, 20, 1000)
_MAP = given_type(-4096, 4095, 20, 96, 96)
_OVER = ops.MaxPool2d(kernel=(3, 3), stride=(2, 2), padding=(1, 1))
_HALF = 2048
_BOTH_WAYS = ops.Neuron(threshold=IntTensor.of([300]), dv=_HALF, ternary=True)
_SOFT = ops.Neuron(
    threshold=IntTensor.of([300]), dv=_HALF, reset=ops.Reset.BY_SUBTRACTION, reset_by=272,
    bias=IntTensor.of([-3]),
)  # fmt: skip
_CURRENT = given_type(-9, 9, 50, 20)

CASES: dict[str, Graph] = {
    "20480 maxima of nine": one(ops.MaxPool2d(kernel=(3, 3), stride=(3, 3)), _MAP),
    "maxima that overlap": one(_OVER, given_type(-4096, 4095, 3, 32, 32)),
    "maxima, oblong": one(
        ops.MaxPool2d(kernel=(2, 4), stride=(1, 3), padding=(1, 0)), given_type(3, 90, 3, 32, 32)
    ),
    "maxima of negatives": one(_OVER, given_type(-90, -3, 3, 32, 32)),
    "maxima of ternary": one(_OVER, given_type(-1, 1, 3, 32, 32, kind=Kind.SPIKES)),
    "any": one(_OVER, given_type(0, 1, 3, 32, 32, kind=Kind.SPIKES)),
    "20000 gates": one(ops.Gate(), _SPIKES, _ELEVEN),
    "ternary gates": one(ops.Gate(), _ELEVEN, _TERNARY),
    "and": one(ops.Gate(), _SPIKES, _SPIKES),
    "sign": one(ops.Gate(), _TERNARY, _TERNARY),
    "relu": one(ops.Relu(), _ELEVEN),
    "relu of nothing": one(ops.Relu(), given_type(-9, 0, 50)),
    "relu of all": one(ops.Relu(), given_type(4, 9, 50)),
    "staircase": one(ops.Staircase(thresholds=IntTensor.of([[-7], [0], [5], [1023]])), _ELEVEN),
    "matmul": one(
        ops.SpikeMatmul(),
        given_type(-1, 1, 2, 8, 9, kind=Kind.SPIKES),
        given_type(-70, 99, 2, 9, 7),
    ),
    "matmul of counts": one(
        ops.SpikeMatmul(),
        given_type(0, 5, 2, 8, 9, kind=Kind.COUNTS),
        given_type(2, 9, 2, 9, 7, kind=Kind.COUNTS),
    ),
    "ternary": one(_BOTH_WAYS, _CURRENT, T=6),
    "ternary that subtracts": one(replace(_SOFT, ternary=True), _CURRENT, T=6),
    "ternary that keeps": one(replace(_BOTH_WAYS, reset=ops.Reset.NONE), _CURRENT, T=6),
    "ternary without memory": one(replace(_BOTH_WAYS, dv=4096, du=1000), _CURRENT, T=6),
    "subtracts": one(_SOFT, _CURRENT, T=6),
    "subtracts a bit": one(
        replace(_SOFT, reset_by=265, threshold=IntTensor.of(np.arange(290, 310))), _CURRENT, T=5
    ),
    "keeps": one(replace(_SOFT, reset=ops.Reset.NONE, dv=0), _CURRENT, T=6),
}


@pytest.mark.parametrize("name", CASES)
def test_an_operation_is_exact(name: str) -> None:
    graph = CASES[name]
    inputs = drawn(graph)
    said = Reference().compile(graph).run(inputs).values["y"]
    if name != "relu of nothing":
        assert len(np.unique(said)) > 1
    assert differences(graph, inputs) == 0


@pytest.mark.parametrize("name", ["ternary", "subtracts", "ternary that subtracts"])
def test_resets_happen_and_matter(name: str) -> None:
    graph = CASES[name]
    op = graph["y"].op
    assert isinstance(op, ops.Neuron)
    free = one(replace(op, reset=ops.Reset.NONE), _CURRENT, T=6)
    inputs = drawn(graph)
    y, z = (Reference().compile(g).run(inputs).values["y"] for g in (graph, free))
    assert (y != z).mean() > 0.02
    assert set(np.unique(y)) == ({-1, 0, 1} if op.ternary else {0, 1})
    assert (np.abs(y).sum(axis=0) > 2).any()  # more than one reset in a sample


# ---- mutants ---------------------------------------------------------------------------------


def _without_lowest(planes: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args: planes(*args)[:-1]


def _swapped(planes: Callable[..., Any]) -> Callable[..., Any]:
    def swapped(*args: Any) -> Any:
        made = planes(*args)
        return tuple((w, p) for (w, _), (_, p) in zip(made, made[::-1], strict=True))

    return swapped


def _strictly(reaches: Callable[..., Any]) -> Callable[..., Any]:
    return lambda level: reaches(np.asarray(level) + 1)


MUTANTS = {
    "a gate's planes: one dropped": (terms, "planes", _without_lowest, "20000 gates"),
    "a gate's planes: weights swapped": (terms, "planes", _swapped, "20000 gates"),
    "a rectifier's planes: one dropped": (lowering, "rectified", _without_lowest, "relu"),
    "a maximum's planes: one dropped": (
        maxima, "rectified", _without_lowest, "20480 maxima of nine",
    ),
    "a maximum's planes: weights swapped": (
        maxima, "rectified", _swapped, "20480 maxima of nine",
    ),
    "planes compare by >": (thresholds, "reaches", _strictly, "relu"),
    "products compare by >": (thresholds, "reaches", _strictly, "matmul"),
    "a staircase compares by >": (thresholds, "reaches", _strictly, "staircase"),
    "a ternary neuron's halves ignore each other": (
        copies, "_copies", lambda f: lambda build, clock, name, op, x, signs: f(
            build, clock, name, replace(op, reset=ops.Reset.NONE), x, signs), "ternary",
    ),
    "a soft reset is a hard one": (
        copies, "_copies", lambda f: lambda build, clock, name, op, x, signs: f(
            build, clock, name, replace(op, reset=ops.Reset.TO_ZERO), x, signs), "subtracts",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mutant_is_caught(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, function, fault, case = MUTANTS[mutant]
    graph = CASES[case]
    monkeypatch.setattr(module, function, fault(getattr(module, function)))
    assert differences(graph, drawn(graph)) > 0


# ---- how many, and what is refused -----------------------------------------------------------


def attention(n: int, d: int, *, read: bool = False) -> Graph:
    """Q K^T V of binary spikes, (n, d) each."""
    spikes = TensorType.spikes(n, d)
    nodes = (
        *(Node(x, ops.Input(type=spikes)) for x in "qkv"),
        Node("k^T", ops.Permute(axes=(1, 0)), ("k",)),
        Node("scores", ops.SpikeMatmul(), ("q", "k^T")),
        Node("mixed", ops.SpikeMatmul(), ("scores", "v")),
        Node("fire", ops.Neuron(threshold=IntTensor.of([64 * 3]), dv=_HALF), ("mixed",)),
    )
    return Graph(nodes, ("fire", "scores") if read else ("fire",), 3)


@pytest.mark.parametrize(("n", "d", "inner"), [(4, 12, False), (12, 4, True), (12, 4, False)])
def test_brackets_move_where_that_is_smaller(n: int, d: int, inner: bool) -> None:
    graph = attention(n, d, read=not inner)
    lowered = to_binary_neurons(graph)
    assert any(node.name.startswith("mixed.inner") for node in lowered.nodes) is inner
    assert ("scores" in lowered.types) is not inner
    assert differences(graph, drawn(graph, batch=4)) == 0


def test_size_is_known_first() -> None:
    graph = attention(5, 7)
    found, lowered = size(graph), to_binary_neurons(graph)
    # AND neurons of Q K^T, planes of its counts, an AND for each plane, the neurons of before.
    assert found.neurons == 5 * 5 * 7 + 3 * 5 * 5 + 3 * 5 * 5 * 7 + 5 * 7
    assert found.depth == 1 + 3 + 1 + 1
    fired = Reference().compile(lowered).run(drawn(graph)).values
    assert found.neurons == sum(fired[name][0].size for name in lowered.neurons)
    assert found.contributors == {"mixed": 3 * 5 * 5 * 7, "scores": 5 * 5 * 7 + 75, "fire": 35}
    assert size(attention(4096, 1024)).neurons > 10**10  # named, not built


def test_what_is_too_large_is_refused_with_the_number() -> None:
    with pytest.raises(UnsupportedError) as caught:
        to_binary_neurons(attention(5, 7), max_neurons=809)
    assert str(caught.value) == (
        "a limit of 809 neurons cannot take this graph:\n"
        "  the whole: 810 neurons, 6 in a row, 2,220 synapses\n"
        "  mixed: 525 neurons\n"
        "  scores: 250 neurons\n"
        "  fire: 35 neurons"
    )
    assert to_binary_neurons(attention(5, 7), max_neurons=810).firing


def test_a_current_that_outlasts_a_reset_is_refused_by_name() -> None:
    graph = one(replace(_BOTH_WAYS, du=_HALF), _CURRENT, T=2)
    with pytest.raises(UnsupportedError, match=r"y: fires both ways and keeps a synaptic current"):
        size(graph)


def test_names_that_are_taken() -> None:
    spikes = Node("a", ops.Input(type=TensorType.spikes(3)))
    nodes = (
        spikes,
        Node("g.sum", ops.Gate(), ("a", "a")),
        Node("g", ops.Gate(), ("a", "g.sum")),
    )
    graph = Graph(nodes, ("g",), 1)
    assert differences(graph, drawn(graph)) == 0
    assert "g.sum_" in to_binary_neurons(graph).types
