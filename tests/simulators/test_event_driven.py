"""Two implementations that share no arithmetic agree on everything; events are counted."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lapilli.ir import ops
from lapilli.ir.graph import Graph, Node
from lapilli.ir.tensor import IntArray, IntTensor
from lapilli.ir.types import IntRange, Kind, TensorType
from lapilli.simulators.event_driven import EventDriven
from lapilli.simulators.reference import Reference

Feed = Callable[[Graph, int], dict[str, IntArray]]


def test_random_graphs_agree_on_every_value(graphs: st.SearchStrategy[Graph], feed: Feed) -> None:
    spikes: list[int] = []
    synops = 0

    @settings(max_examples=400)
    @given(graphs, st.integers(0, 2**32 - 1))
    def agree(graph: Graph, seed: int) -> None:
        nonlocal synops
        inputs = feed(graph, seed)
        want = Reference().compile(graph).run(inputs)
        executable = EventDriven().compile(graph)
        runs = [executable.run(inputs) for _ in range(2)]  # the second run starts from rest
        for got in runs:
            assert got.values.keys() == want.values.keys()
            assert got.membranes.keys() == want.membranes.keys() == set(graph.neurons)
            for name, value in want.values.items():
                assert np.array_equal(got.values[name], value), name
            for name, value in want.membranes.items():
                assert np.array_equal(got.membranes[name], value), name
                assert np.array_equal(got.currents[name], want.currents[name]), name
        synops += runs[-1].synops or 0
        spikes.extend(np.abs(want.values[name]).sum() for name in graph.neurons)

    agree()
    assert sum(n > 0 for n in spikes) > 50
    assert sum(n == 0 for n in spikes) > 5
    assert synops > 10_000


def test_other_conventions_would_differ() -> None:
    """The property compares something: a threshold one higher is seen."""
    op = ops.Neuron(threshold=IntTensor.of([129]), dv=2048)
    x = np.random.default_rng(0).integers(-3, 4, (6, 5, 4))
    kind = TensorType((4,), IntRange(-3, 3), Kind.GRADED)

    def run(neuron: ops.Neuron) -> IntArray:
        graph = Graph((Node("x", ops.Input(type=kind)), Node("s", neuron, ("x",))), ("s",), 6)
        return EventDriven().compile(graph).run({"x": x}).values["s"]

    assert not np.array_equal(run(op), run(ops.Neuron(threshold=IntTensor.of([257]), dv=2048)))


_COUNTS = TensorType((3,), IntRange(0, 4), Kind.COUNTS)
_GRADED = TensorType((3,), IntRange(-9, 9), Kind.GRADED)
_KERNEL = IntTensor.of([[[[1, 2], [3, 4]]], [[[5, 6], [7, 8]]]])


@pytest.mark.parametrize(
    ("op", "kinds", "given_", "synops"),
    [
        # Two spikes reach four outputs each; zero weights are synapses too.
        (
            ops.Linear(weight=IntTensor.of([[1, 0, 2]] * 4), bias=IntTensor.of([9] * 4)),
            (TensorType.spikes(3),),
            ([[1, 0, 1]],),
            8,
        ),
        # Time steps and samples add up; a negative spike is one event.
        (
            ops.Linear(weight=IntTensor.of([[1, 2, 3]]), bias=IntTensor.of([0])),
            (TensorType((3,), IntRange(-1, 1), Kind.SPIKES),),
            ([[1, 0, 1], [0, 0, 0], [-1, -1, -1]],),
            5,
        ),
        # A count of 4 is four events, each to two outputs.
        (
            ops.Linear(weight=IntTensor.of([[1, 2, 3]] * 2), bias=IntTensor.of([0] * 2)),
            (_COUNTS,),
            ([[4, 0, 1]],),
            10,
        ),
        # Shift-and-add: 7 has three set bits, -8 one, 5 two; two outputs.
        (
            ops.Linear(
                weight=IntTensor.of([[1, 2, 3]] * 2), bias=IntTensor.of([0] * 2), graded=True
            ),
            (_GRADED,),
            ([[7, -8, 5]],),
            12,
        ),
        # The middle pixel of 3 x 3 is seen by four windows, the corner by one; two channels.
        (
            ops.Conv2d(weight=_KERNEL, bias=IntTensor.of([0, 0])),
            (TensorType.spikes(1, 3, 3),),
            ([[[[1, 0, 0], [0, 1, 0], [0, 0, 0]]]],),
            2 * (4 + 1),
        ),
        # Stride 2 leaves one window of the four; the last row and column reach nothing.
        (
            ops.Conv2d(weight=_KERNEL, bias=IntTensor.of([0, 0]), stride=(2, 2)),
            (TensorType.spikes(1, 3, 3),),
            ([[[[1, 1, 1], [0, 1, 0], [1, 0, 0]]]],),
            2 * 3,
        ),
        # Groups: a spike reaches its own group's channel alone.
        (
            ops.Conv2d(weight=_KERNEL, bias=IntTensor.of([0, 0]), groups=2),
            (TensorType.spikes(2, 2, 2),),
            ([[[[1, 1], [0, 0]], [[0, 0], [0, 1]]]],),
            3,
        ),
        # Each spike gates a row of two values.
        (
            ops.SpikeMatmul(),
            (TensorType.spikes(2, 3), TensorType((3, 2), IntRange(-9, 9), Kind.GRADED)),
            ([[[1, 0, 1], [0, 0, 1]]], [[[1, 2], [3, 4], [5, 6]]]),
            6,
        ),
        # The second operand holds the spikes: each gates a column of two.
        (
            ops.SpikeMatmul(),
            (TensorType((2, 3), IntRange(-9, 9), Kind.GRADED), TensorType.spikes(3, 1)),
            ([[[1, 2, 3], [4, 5, 6]]], [[[1], [0], [1]]]),
            4,
        ),
        (ops.Gate(), (_GRADED, TensorType.spikes(3)), ([[5, 6, -7]], [[1, 0, 1]]), 2),
        # A count lets the value through as often as it says; a row likewise.
        (ops.Gate(), (_GRADED, _COUNTS), ([[5, 6, -7]], [[1, 0, 4]]), 5),
        (ops.Gate(), (_COUNTS, TensorType.spikes(3)), ([[4, 3, 2]], [[1, 0, 1]]), 2),
        (
            ops.SpikeMatmul(),
            (
                TensorType((1, 3), IntRange(0, 4), Kind.COUNTS),
                TensorType((3, 2), IntRange(-9, 9), Kind.GRADED),
            ),
            ([[[1, 0, 4]]], [[[1, 2], [3, 4], [5, 6]]]),
            10,
        ),
        # Three scores within the window, two within reach of a shift: of two elements each.
        (
            ops.ShiftSum(window=4, reach=2),
            (
                TensorType((1, 4), IntRange(-9, 9), Kind.GRADED),
                TensorType((4, 2), IntRange(-9, 9), Kind.GRADED),
            ),
            ([[[3, 2, -1, -2]]], [[[8, -8], [4, 0], [9, 9], [9, 9]]]),
            3 + 2 * 2,
        ),
        # Neurons accumulate nothing: their synapses have.
        (ops.Staircase(thresholds=IntTensor.of([1, 5])), (_GRADED,), ([[5, 6, -7]],), 0),
        (ops.Relu(), (_GRADED,), ([[5, 6, -7]],), 0),
        (ops.Add(), (_GRADED, _COUNTS), ([[5, 6, -7]], [[1, 0, 4]]), 2),
        (ops.Sum(axes=(0,)), (_COUNTS,), ([[1, 0, 4]],), 2),
    ],
)
def test_operations_counted_by_hand(
    op: ops.Op, kinds: tuple[TensorType, ...], given_: tuple[object, ...], synops: int
) -> None:
    inputs = {f"x{i}": np.asarray(x)[None].astype(np.int64) for i, x in enumerate(given_)}
    nodes = [Node(f"x{i}", ops.Input(type=kind)) for i, kind in enumerate(kinds)]
    graph = Graph((*nodes, Node("y", op, tuple(inputs))), ("y",), 1)

    got = EventDriven().compile(graph).run(inputs)

    assert got.synops == synops
    assert np.array_equal(got.values["y"], Reference().compile(graph).run(inputs).values["y"])


def test_silence_costs_nothing() -> None:
    w = ops.Linear(weight=IntTensor.of([[1, 2, 3]]), bias=IntTensor.of([-5]))
    nodes = (Node("x", ops.Input(type=TensorType.spikes(3))), Node("y", w, ("x",)))
    got = EventDriven().compile(Graph(nodes, ("y",), 4)).run({"x": np.zeros((4, 2, 3), np.int64)})
    assert got.synops == 0
    assert np.array_equal(got.values["y"], np.full((4, 2, 1), -5))
