"""What readers of a file add up, in whatever order, stays where it was proved to stay."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

import numpy as np
import pytest

from lapilli.ir import ops
from lapilli.ir.graph import Graph, Node
from lapilli.ir.partial_sums import in_any_order
from lapilli.ir.passes.binary import to_binary_neurons
from lapilli.ir.semantics import evaluate
from lapilli.ir.tensor import IntArray, IntTensor
from lapilli.ir.types import IntRange, TensorType
from lapilli.simulators.reference import Reference

_T = 2
Terms = list[list[int]]  # of each element of a value: what is added up to it


def _stream(seed: int) -> Graph:
    """Three maps of spikes, added up one after the other, their mean's sum, and neurons."""
    rng = np.random.default_rng(seed)
    nodes = [Node("x", ops.Input(type=TensorType.spikes(4, 6)))]
    for name in "abc":
        w, b = rng.integers(-9, 10, (5, 6)), rng.integers(-30, 31, 5)
        synapse = ops.Linear(weight=IntTensor.of(w), bias=IntTensor.of(b))
        nodes.append(Node(name, synapse, ("x",)))
    nodes += [
        Node("ab", ops.Add(), ("a", "b")),
        Node("turned", ops.Permute(axes=(1, 0)), ("ab",)),
        Node("c.turned", ops.Permute(axes=(1, 0)), ("c",)),
        Node("abc", ops.Add(), ("turned", "c.turned")),
        Node("sum", ops.Sum(axes=(1,)), ("abc",)),
        Node("s", ops.Neuron(threshold=IntTensor.of([100]), dv=2048, fraction_bits=6), ("sum",)),
    ]
    return Graph(tuple(nodes), ("s",), _T)


def _pooled(seed: int) -> Graph:
    """A map of currents, the largest of windows of four, and another map added to it."""
    rng = np.random.default_rng(seed)
    maps = [
        ops.Conv2d(
            weight=IntTensor.of(rng.integers(-9, 10, (3, 2, 1, 1))),
            bias=IntTensor.of(rng.integers(-20, 21, 3)),
            stride=(stride, stride),
        )
        for stride in (1, 2)
    ]
    nodes = (
        Node("x", ops.Input(type=TensorType.spikes(2, 4, 4))),
        Node("map", maps[0], ("x",)),
        Node("best", ops.MaxPool2d(kernel=(2, 2), stride=(2, 2)), ("map",)),
        Node("beside", maps[1], ("x",)),
        Node("both", ops.Add(), ("best", "beside")),
        Node("s", ops.Neuron(threshold=IntTensor.of([9]), dv=2048, fraction_bits=6), ("both",)),
    )
    return Graph(nodes, ("s",), _T)


def _terms(graph: Graph, values: Mapping[str, IntArray], name: str, t: int, b: int) -> Terms:
    """What arrives, synapse by synapse and bias by bias, at one step of one sample."""
    node, shape = graph[name], graph.types[name].shape
    match node.op:
        case ops.Add():
            one, other = (_terms(graph, values, i, t, b) for i in node.inputs)
            return [[*p, *q] for p, q in zip(one, other, strict=True)]
        case ops.Input() | ops.Neuron():
            return [[int(v)] for v in values[name][t, b].ravel()]
        case op:
            (given,) = node.inputs
            ends = graph.types[given].shape
            units = np.eye(int(np.prod(ends)), dtype=np.int64).reshape(-1, *ends)
            none = evaluate(op, (np.zeros((1, *ends), np.int64),))  # type: ignore[arg-type]
            each = (evaluate(op, (units,)) - none).reshape(len(units), -1).T  # type: ignore[arg-type]
            before = _terms(graph, values, given, t, b)
            biases = np.broadcast_to(none[0], shape).ravel()
            return [
                [
                    int(bias),
                    *(int(w) * v for w, vs in zip(row, before, strict=True) if w for v in vs),
                ]
                for row, bias in zip(each, biases, strict=True)
            ]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("made", [_stream, _pooled])
def test_no_partial_sum_leaves_what_is_proved(made: Callable[[int], Graph], seed: int) -> None:
    original = made(seed)
    graph = to_binary_neurons(original)
    proved = in_any_order(graph, original.types)
    x = np.random.default_rng(seed).integers(0, 2, (_T, 6, *graph.types["x"].shape))
    values = Reference().compile(graph).run({"x": x}).values
    compared = 0
    for name, t, b in itertools.product(proved, range(_T), range(6)):
        terms = _terms(graph, values, name, t, b)
        assert proved[name].lo <= min(sum(v for v in vs if v < 0) for vs in terms), name
        assert proved[name].hi >= max(sum(v for v in vs if v > 0) for vs in terms), name
        compared += 1
    assert compared == len(graph.nodes) * _T * 6


def test_a_channel_reaches_its_own_bound() -> None:
    """Inputs that excite one channel alone reach it to the last unit, biases first."""
    graph = _stream(3)
    maps = [graph[name].op for name in "abc"]
    rows = [  # of each channel, the largest sum of what is positive
        [int(op.weight.array[c].clip(0).sum() + max(0, op.bias.array[c])) for op in maps]  # type: ignore[union-attr]
        for c in range(5)
    ]
    proved = in_any_order(graph)
    assert proved["abc"].hi == max(map(sum, rows))
    assert proved["sum"].hi == 4 * proved["abc"].hi
    assert proved["abc"].hi < sum(proved[name].hi for name in "abc")


@pytest.mark.parametrize("seed", range(4))
def test_the_largest_of_a_window_is_no_sum_of_all_that_it_could_gain(seed: int) -> None:
    """It is made of gains, of which each alone could be as large as the value can rise."""
    original = _pooled(seed)
    graph = to_binary_neurons(original)
    known, alone = in_any_order(graph, original.types)["best"], in_any_order(graph)["best"]
    value = original.types["best"].range
    assert alone.hi > value.hi + (value.hi - value.lo)
    assert known.hi <= value.hi - min(0, known.lo) < alone.hi


def test_the_rest_of_a_sum_is_a_partial_sum_too() -> None:
    """A value of at most 4, of which terms of 3, 4 and -2 are known."""
    weight = IntTensor.of([[3, 4, -2]])
    nodes = (
        Node("x", ops.Input(type=TensorType.spikes(3))),
        Node("y", ops.Linear(weight=weight, bias=IntTensor.of([0])), ("x",)),
    )
    graph = Graph(nodes, ("y",), 1)
    assert in_any_order(graph)["y"] == IntRange(-2, 7)
    told = {"y": TensorType((1,), IntRange(1, 4), graph.types["y"].kind)}
    assert in_any_order(graph, told)["y"] == IntRange(-2, 6)
