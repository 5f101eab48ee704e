"""Ranges of single channels: as tight as the ops allow, and never left."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lapilli.ir import ops
from lapilli.ir.bounds import apart, neuron_bounds
from lapilli.ir.canonical import canonical
from lapilli.ir.certificate import needs
from lapilli.ir.channel_ranges import ChannelRanges, joined
from lapilli.ir.errors import RangeError
from lapilli.ir.graph import Graph, Node
from lapilli.ir.infer import infer
from lapilli.ir.partial_sums import partial_sum
from lapilli.ir.semantics import evaluate
from lapilli.ir.targets.float32 import FLOAT32
from lapilli.ir.targets.target import Register
from lapilli.ir.targets.wide import WIDE
from lapilli.ir.tensor import IntArray, IntTensor
from lapilli.ir.types import IntRange, Kind, TensorType
from lapilli.simulators.reference import Reference

_T = 3


def _value(shape: tuple[int, ...], told: tuple[bool, ...], seed: int) -> TensorType:
    """A graded value, told apart along some of its axes."""
    rng = np.random.default_rng(seed)
    sizes = [n if apart else 1 for n, apart in zip(shape, told, strict=True)]
    lo, more = rng.integers(-50, 30, sizes), rng.integers(0, 60, sizes)
    each = ChannelRanges(lo, lo + more)
    return TensorType(shape, each.whole, Kind.GRADED, each)


def _full(x: TensorType) -> tuple[IntArray, IntArray]:
    """The ends of every single element."""
    each = apart(x)
    return np.broadcast_to(each.lo, x.shape), np.broadcast_to(each.hi, x.shape)


@st.composite
def _applied(draw: st.DrawFn) -> tuple[ops.Stateless, tuple[TensorType, ...]]:
    """An op that keeps order, and operands of which single elements are told apart."""
    rank = draw(st.integers(1, 4))
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=rank, max_size=rank)))
    told = st.lists(st.booleans(), min_size=rank, max_size=rank).map(tuple)
    seeds = st.integers(0, 10**6)
    x, y = (_value(shape, draw(told), draw(seeds)) for _ in range(2))
    axis = draw(st.integers(0, rank - 1))
    kind = draw(st.sampled_from(["add", "sum", "relu", "permute", "slice", "concat", "reshape"]))
    if kind == "concat":
        other = (*shape[:axis], draw(st.integers(1, 3)), *shape[axis + 1 :])
        return ops.Concat(axis=axis), (x, _value(other, draw(told), draw(seeds)))
    if kind == "add":
        return ops.Add(), (x, y)
    start = draw(st.integers(0, shape[axis] - 1))
    axes = draw(st.lists(st.integers(0, rank - 1), min_size=1, max_size=rank, unique=True))
    into = draw(st.permutations([*shape, *draw(st.lists(st.just(1), max_size=2))]))
    made: dict[str, ops.Stateless] = {
        "sum": ops.Sum(axes=tuple(axes), keepdims=draw(st.booleans())),
        "relu": ops.Relu(),
        "permute": ops.Permute(axes=tuple(draw(st.permutations(range(rank))))),
        "slice": ops.Slice(axis=axis, start=start, stop=draw(st.integers(start + 1, shape[axis]))),
        "reshape": ops.Reshape(shape=_merged(tuple(into), draw(st.integers(0, 3)))),
    }
    return made[kind], (x,)


def _merged(shape: tuple[int, ...], at: int) -> tuple[int, ...]:
    """The shape with two neighbouring axes as one, if it has them there."""
    if at + 1 >= len(shape):
        return shape
    return (*shape[:at], shape[at] * shape[at + 1], *shape[at + 2 :])


@settings(max_examples=400)
@given(_applied())
def test_every_element_has_the_range_that_its_operands_give_it(
    applied: tuple[ops.Stateless, tuple[TensorType, ...]],
) -> None:
    op, operands = applied
    made = infer(op, operands, _T)
    ends = zip(*(_full(x) for x in operands), strict=True)
    lo, hi = (evaluate(op, tuple(e[None] for e in each))[0] for each in ends)
    assert made.range == IntRange(int(lo.min()), int(hi.max()))
    for got, wanted in zip(_full(made), (lo, hi), strict=True):
        assert np.array_equal(got, wanted)


def test_a_product_with_spikes_takes_in_zero() -> None:
    x = _value((3, 2), (True, False), 1)
    for spikes in (TensorType.spikes(3, 2), TensorType((3, 2), IntRange(-1, 1), Kind.SPIKES)):
        made = infer(ops.Gate(), (spikes, x), _T)
        lo, hi = _full(x)
        corners = [lo * s for s in (spikes.range.lo, 1)] + [hi * s for s in (spikes.range.lo, 1)]
        for got, wanted in zip(_full(made), (np.min(corners, 0), np.max(corners, 0)), strict=True):
            assert np.array_equal(got, wanted)


def test_what_is_repeated_pooled_or_read_out_keeps_its_channels() -> None:
    x = _value((3, 1, 2), (True, False, False), 2)
    wide = infer(ops.Expand(shape=(3, 4, 2)), (x,), _T)
    assert np.array_equal(_full(wide)[1], np.broadcast_to(_full(x)[1], (3, 4, 2)))
    pooled = infer(ops.MaxPool2d(kernel=(2, 2), stride=(1, 1)), (wide,), _T)
    assert np.array_equal(_full(pooled)[0][:, 0, 0], _full(x)[0][:, 0, 0])
    lo, hi = _full(x)
    read = infer(ops.Readout(), (x,), _T)
    assert np.array_equal(_full(read)[0], np.minimum(lo, lo * _T))
    assert np.array_equal(_full(read)[1], np.maximum(hi, hi * _T))


def test_a_pool_takes_places_together() -> None:
    x = _value((2, 3, 3), (True, True, True), 3)
    made = infer(ops.MaxPool2d(kernel=(2, 2), stride=(1, 1)), (x,), _T)
    assert np.array_equal(_full(made)[1][:, 0, 0], _full(x)[1].max((1, 2)))
    assert np.array_equal(_full(made)[0][:, 0, 0], _full(x)[0].min((1, 2)))


def _two_rows(seed: int, *, soft: bool = False) -> Graph:
    """Two synapses of one input, added, and a neuron with a threshold for each channel."""
    rng = np.random.default_rng(seed)
    kind = TensorType((5,), IntRange(0, 1), Kind.SPIKES)

    def synapse() -> ops.Linear:
        weight, bias = rng.integers(-127, 128, (6, 5)), rng.integers(-20, 21, 6)
        return ops.Linear(weight=IntTensor.of(weight), bias=IntTensor.of(bias))

    op = ops.Neuron(
        threshold=IntTensor.of(rng.integers(1, 40000, 6)),
        bias=IntTensor.of(rng.integers(-3000, 3000, 6)),
        dv=2048,
        reset=ops.Reset.BY_SUBTRACTION if soft else ops.Reset.TO_ZERO,
        reset_by=500 * soft,
        ternary=bool(seed % 2),
    )
    nodes = (
        Node("x", ops.Input(type=kind)),
        Node("a", synapse(), ("x",)),
        Node("b", synapse(), ("x",)),
        Node("sum", ops.Add(), ("a", "b")),
        Node("lif", op, ("sum",)),
    )
    return Graph(nodes, ("sum", "lif"), 4)


def _made_for(graph: Graph) -> IntArray:
    """For each output channel the spikes that make it largest, and smallest, at every step."""
    weight = _weight(graph, "a") + _weight(graph, "b")
    rows = [*(weight > 0), *(weight < 0)]
    return np.broadcast_to(np.array(rows, np.int64), (graph.T, len(rows), 5))


def _weight(graph: Graph, name: str) -> Any:
    op = graph[name].op
    assert isinstance(op, ops.Linear)
    return op.weight.array


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_no_channel_leaves_its_own(seed: int, soft: bool) -> None:
    graph = _two_rows(seed, soft=soft)
    run = Reference().compile(graph).run({"x": _made_for(graph)})  # every value is checked
    proved = {(n.node, n.register): n.values for n in needs(graph, WIDE)}
    state = proved["lif", Register.STATE]
    assert state.lo <= run.membranes["lif"].min() <= run.membranes["lif"].max() <= state.hi
    a, b = (graph.types[name] for name in ("a", "b"))
    each, total = graph.types["sum"], a.range + b.range
    assert total.lo <= each.range.lo <= each.range.hi <= total.hi
    alone = neuron_bounds("", graph["lif"].op, replace(each, range=total, channels=None), 4)  # type: ignore[arg-type]
    assert state.magnitude < (alone.u | alone.v | alone.after).magnitude or each.range == total


def test_the_largest_of_two_synapses_are_seldom_of_one_channel() -> None:
    graphs = [_two_rows(seed) for seed in range(12)]
    sums = [g.types["a"].range + g.types["b"].range for g in graphs]
    assert sum(g.types["sum"].range != s for g, s in zip(graphs, sums, strict=True)) > 9


def test_a_partial_sum_is_that_of_one_channel() -> None:
    graph = _two_rows(0)
    sizes = [apart(graph.types[name]).magnitude for name in ("a", "b")]
    assert partial_sum(graph, graph["sum"]) == int((sizes[0] + sizes[1]).max())
    found = {(n.node, n.register): n.values.hi for n in needs(graph, FLOAT32)}
    assert found["sum", Register.SUM] < sum(int(size.max()) for size in sizes)
    summed = Node("all", ops.Sum(axes=(0,)), ("sum",))
    graph = Graph((*graph.nodes, summed), ("all",), 4)
    assert partial_sum(graph, summed) == int(apart(graph.types["sum"]).magnitude.sum())


def test_a_bound_of_another_channel_is_left() -> None:
    """The reference sees what leaves the range of its own channel, and not only that of all."""
    graph = _two_rows(4)
    found = graph.types["sum"]
    each = apart(found)
    turned = ChannelRanges(np.roll(each.lo, 1), np.roll(each.hi, 1))
    types = {**graph.types, "sum": replace(found, channels=turned)}
    object.__setattr__(graph, "types", types)
    with pytest.raises(RangeError, match=r"sum.*a channel left its own range"):
        Reference().compile(graph).run({"x": _made_for(graph)})


def test_channels_say_no_more_than_the_whole() -> None:
    each = ChannelRanges(np.array([0, 1]), np.array([2, 3]))
    with pytest.raises(ValueError, match=r"channels reach .*lo=0, hi=3.*all together .*hi=4"):
        TensorType((2,), IntRange(0, 4), Kind.GRADED, each)
    told, plain = (TensorType((2,), IntRange(0, 3), Kind.GRADED, c) for c in (each, None))
    assert told == plain
    assert canonical(told) == canonical(plain)
    assert repr(told) == repr(plain)


def test_too_many_places_are_taken_together(monkeypatch: pytest.MonkeyPatch) -> None:
    x = _value((4, 6), (True, False), 5)
    assert apart(infer(ops.Reshape(shape=(24,)), (x,), _T)).lo.shape == (24,)
    monkeypatch.setattr("lapilli.ir.channel_ranges._MOST", 23)
    made = infer(ops.Reshape(shape=(24,)), (x,), _T)
    assert (made.channels, made.range) == (None, x.range)


def test_a_value_of_63_bits_is_not_told_apart() -> None:
    most = (1 << 62) - 1
    each = ChannelRanges(np.array([0, 0]), np.array([most, 1]))
    x = TensorType((2,), each.whole, Kind.GRADED, each)
    made = infer(ops.Add(), (x, x), _T)
    assert made.channels is None
    assert made.range == IntRange(0, 2 * most)


def test_one_behind_the_other() -> None:
    a = ChannelRanges(np.array([[1], [2]]), np.array([[3], [4]]))
    b = ChannelRanges(np.array([[5, 6]]), np.array([[7, 8]]))
    made = joined(a, b, 1, (1, 2))
    assert made.lo.tolist() == [[1, 5, 6], [2, 5, 6]]
    assert made.hi.tolist() == [[3, 7, 8], [4, 7, 8]]
