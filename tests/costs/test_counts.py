"""Counts by hand; two counters that share nothing agree, and do not if one is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lapilli.costs import counting
from lapilli.costs.bounds import bounds
from lapilli.costs.counting import count
from lapilli.costs.values import watched
from lapilli.ir import ops
from lapilli.ir.counts import FIELDS, Counts
from lapilli.ir.errors import InputError
from lapilli.ir.graph import Graph, Node
from lapilli.ir.recording import Recording
from lapilli.ir.tensor import IntArray, IntTensor
from lapilli.ir.types import IntRange, Kind, TensorType
from lapilli.simulators import event_driven
from lapilli.simulators.event_driven import EventDriven
from lapilli.simulators.reference import Reference

Feed = Callable[[Graph, int], dict[str, IntArray]]

_COUNTS = TensorType((3,), IntRange(0, 4), Kind.COUNTS)
_GRADED = TensorType((3,), IntRange(-9, 9), Kind.GRADED)
_TERNARY = TensorType((3,), IntRange(-1, 1), Kind.SPIKES)
_KERNEL = IntTensor.of([[[[1, 2], [3, 4]]], [[[5, 6], [7, 8]]]])
_ROWS = TensorType.spikes(2, 3)


def _watched_run(graph: Graph, inputs: dict[str, IntArray]) -> Recording:
    """What a simulator must record, and nothing more."""
    shown = set(watched(graph).recorded)
    run = Reference().compile(watched(graph)).run(inputs)
    return Recording({name: value for name, value in run.values.items() if name in shown})


def _both(graph: Graph, inputs: dict[str, IntArray]) -> tuple[dict[str, Counts], dict[str, Counts]]:
    counted = count(graph, inputs, _watched_run(graph, inputs))
    return counted, dict(EventDriven().compile(graph).run(inputs).counts)


@pytest.mark.parametrize(
    ("op", "kinds", "values", "expected"),
    [
        # Two spikes to four outputs; zero weights are synapses; three of four biases are added.
        (
            ops.Linear(weight=IntTensor.of([[1, 0, 2]] * 4), bias=IntTensor.of([9, 0, 1, 1])),
            (TensorType.spikes(3),),
            ([[1, 0, 1]],),
            Counts(events=2, accumulates=8, additions=3),
        ),
        # A count of 4 is four events; a graded value is none, and one product for each output.
        (
            ops.Linear(weight=IntTensor.of([[1, 2, 3]] * 2), bias=IntTensor.of([0, 0])),
            (_COUNTS,),
            ([[4, 0, 1]],),
            Counts(events=5, accumulates=10),
        ),
        (
            ops.Linear(
                weight=IntTensor.of([[1, 2, 3]] * 2), bias=IntTensor.of([0, 0]), graded=True
            ),
            (_GRADED,),
            ([[7, 0, -5]],),
            Counts(multiplies=4),
        ),
        # The corner is seen by one window, the edge by two, the middle by four; two channels.
        (
            ops.Conv2d(weight=_KERNEL, bias=IntTensor.of([0, 5])),
            (TensorType.spikes(1, 3, 3),),
            ([[[[1, 1, 0], [0, 1, 0], [0, 0, 0]]]],),
            Counts(events=3, accumulates=2 * (1 + 2 + 4), additions=4),
        ),
        # Padding of one: every pixel is seen by four windows of the 4 x 4.
        (
            ops.Conv2d(weight=_KERNEL, bias=IntTensor.of([0, 0]), padding=(1, 1)),
            (TensorType.spikes(1, 3, 3),),
            ([[[[1, 0, 0], [0, 1, 0], [0, 0, 0]]]],),
            Counts(events=2, accumulates=2 * (4 + 4)),
        ),
        # Stride 2 leaves one window; the last row and column reach nothing.
        (
            ops.Conv2d(weight=_KERNEL, bias=IntTensor.of([0, 0]), stride=(2, 2)),
            (TensorType.spikes(1, 3, 3),),
            ([[[[1, 1, 1], [0, 1, 0], [1, 0, 0]]]],),
            Counts(events=5, accumulates=2 * 3),
        ),
        # Groups: a spike reaches its own group's channel alone.
        (
            ops.Conv2d(weight=_KERNEL, bias=IntTensor.of([0, 0]), groups=2),
            (TensorType.spikes(2, 2, 2),),
            ([[[[1, 1], [0, 0]], [[0, 0], [0, 1]]]],),
            Counts(events=3, accumulates=3),
        ),
        # Three spikes gate rows of two; of these six ANDs the first k meets one, the third two.
        (
            ops.SpikeMatmul(),
            (_ROWS, TensorType.spikes(3, 2)),
            ([[[1, 0, 1], [1, 0, 0]]], [[[1, 0], [1, 1], [1, 1]]]),
            Counts(events=3 + 5, accumulates=6, coincidences=2 * 1 + 1 * 2),
        ),
        # The second operand gates where only it is spikes: columns of two are added.
        (
            ops.SpikeMatmul(),
            (TensorType((2, 3), IntRange(-9, 9), Kind.GRADED), TensorType.spikes(3, 2)),
            ([[[5, 0, 1], [0, 0, 2]]], [[[1, 0], [1, 1], [1, 1]]]),
            Counts(events=5, accumulates=10, coincidences=1 * 1 + 2 * 0 + 2 * 2),
        ),
        (
            ops.Gate(),
            (_TERNARY, _GRADED),
            ([[1, -1, 0]], [[0, 5, 5]]),
            Counts(events=2, accumulates=2, coincidences=1),
        ),
        # Sums of events take an addition for each; sums of currents one for each element.
        (
            ops.Add(),
            (_COUNTS, TensorType.spikes(3)),
            ([[4, 0, 1]], [[1, 1, 0]]),
            Counts(events=7, accumulates=7),
        ),
        (
            ops.Add(),
            (_GRADED, TensorType.spikes(3)),
            ([[4, 0, 1]], [[1, 1, 0]]),
            Counts(events=2, additions=3),
        ),
        (ops.Sum(axes=(0,)), (_COUNTS,), ([[4, 0, 1]],), Counts(events=5, accumulates=5)),
        (ops.Sum(axes=(0,)), (_GRADED,), ([[4, 0, 1]],), Counts(additions=2)),
        # Windows of 4, 2, 2 and 1 values beside the padding.
        (
            ops.MaxPool2d(kernel=(2, 2), stride=(2, 2), padding=(1, 1)),
            (TensorType.spikes(1, 3, 3),),
            ([[[[1, 0, 0], [0, 0, 0], [0, 0, 0]]]],),
            Counts(events=1, compares=3 + 1 + 1 + 0),
        ),
        # One score of three lies too far below; both others are added, and shift a row of two.
        (
            ops.ShiftSum(window=4, reach=3),
            (TensorType((1, 3), IntRange(-9, 9), Kind.GRADED), TensorType.spikes(3, 2)),
            ([[[3, 2, -6]]], [[[1, 0], [1, 1], [1, 1]]]),
            Counts(events=5, accumulates=2 + 2 * 2, shifts=4, compares=2),
        ),
        (
            ops.Neuron(threshold=IntTensor.of([64]), dv=0, bias=IntTensor.of([1, 0, 1])),
            (_GRADED,),
            ([[2, 0, 1]],),
            Counts(updates=3, compares=3, additions=2, sent=2),
        ),
        (
            ops.Neuron(threshold=IntTensor.of([64]), dv=0, ternary=True),
            (_GRADED,),
            ([[2, -3, 0]],),
            Counts(updates=3, compares=6, sent=2),
        ),
        (
            ops.Membrane(neuron=ops.Neuron(threshold=IntTensor.of([64]), dv=0)),
            (_GRADED,),
            ([[2, -3, 0]],),
            Counts(updates=3, compares=3),
        ),
        (
            ops.Staircase(thresholds=IntTensor.of([[1], [3]])),
            (_GRADED,),
            ([[2, 9, 0]],),
            Counts(updates=3, compares=6, sent=3),
        ),
        (ops.Relu(), (_GRADED,), ([[2, -9, 3]],), Counts(updates=3, compares=3, sent=2)),
        (ops.Readout(), (_GRADED,), ([[2, -9, 3]],), Counts(additions=3)),
        (ops.Permute(axes=(1, 0)), (_ROWS,), ([[[1, 0, 1], [1, 0, 0]]],), Counts()),
        (ops.Delay(steps=2), (_ROWS,), ([[[1, 0, 1], [1, 0, 0]]],), Counts()),
    ],
)
def test_counts_by_hand(
    op: ops.Op, kinds: tuple[TensorType, ...], values: tuple[Any, ...], expected: Counts
) -> None:
    """Of two steps and two samples, all alike, from rest: four times those of one."""
    names = [f"x{i}" for i in range(len(kinds))]
    nodes = [Node(n, ops.Input(type=kind)) for n, kind in zip(names, kinds, strict=True)]
    graph = Graph((*nodes, Node("y", op, tuple(names))), ("y",), 1)
    inputs = {
        name: np.repeat(np.array(v, np.int64)[:, None], 4, axis=1)
        for name, v in zip(names, values, strict=True)
    }
    for counted in _both(graph, inputs):
        assert counted["y"] == expected.times(4)


def test_both_counters_agree_on_random_graphs(graphs: st.SearchStrategy[Graph], feed: Feed) -> None:
    together = Counts()

    @settings(max_examples=150)
    @given(graphs, st.integers(0, 2**32 - 1))
    def agree(graph: Graph, seed: int) -> None:
        nonlocal together
        closed, delivered = _both(graph, feed(graph, seed))
        assert closed == delivered
        limits = bounds(graph)
        for name, counts in closed.items():
            together += counts
            for field in FIELDS:  # of three samples; proven of one
                least, most = (3 * getattr(limit, field) for limit in limits[name])
                assert least <= getattr(counts, field) <= most, (name, field)

    agree()
    assert all(getattr(together, field) > 100 for field in FIELDS), together


_FAULTS: list[tuple[Any, str, Callable[[Any], Any]]] = [
    # Of the closed forms: borders as if they were inside, windows too, the other operand gates.
    (counting, "fan_out", lambda true: lambda *a: np.full_like(true(*a), true(*a).max())),
    (counting, "window_sizes", lambda true: lambda op, x, y: np.full_like(true(op, x, y), 4)),
    (counting, "gates", lambda true: lambda graph, node: 1 - true(graph, node)),
    (counting, "_magnitude", lambda _: lambda x: int(np.count_nonzero(x))),
    # Of the deliveries: an event too many, and one too few.
    (event_driven, "linear", lambda true: _told(true, "accumulates", 1)),
    (event_driven, "conv", lambda true: _told(true, "accumulates", -1)),
    (event_driven, "gated_rows", lambda true: _told(true, "coincidences", 1)),
    (event_driven, "max_pool", lambda true: _told(true, "compares", 1)),
    (event_driven, "shifted_rows", lambda true: _told(true, "shifts", 1)),
]


def _told(true: Callable[..., Any], field: str, wrong: int) -> Callable[..., Any]:
    def deliver(*arguments: Any) -> Any:
        arguments[-1][field] += wrong
        return true(*arguments)

    return deliver


@pytest.mark.parametrize(("module", "name", "fault"), _FAULTS, ids=lambda v: str(v)[:20])
def test_a_planted_error_in_either_is_seen(
    module: Any, name: str, fault: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = _everything()
    rng = np.random.default_rng(3)
    inputs = {
        "x": rng.integers(0, 2, (2, 3, 2, 5, 5)),
        "c": rng.integers(0, 4, (2, 3, 4)),
        "g": rng.integers(-3, 4, (2, 3, 4, 4)),
    }
    assert len(set(map(str, _both(graph, inputs)))) == 1
    monkeypatch.setattr(module, name, fault(getattr(module, name)))
    closed, delivered = _both(graph, inputs)
    assert closed != delivered


def _everything() -> Graph:
    """Convolution with borders, pool, products, counts and a row of shifts."""
    weight = np.random.default_rng(1).integers(-3, 4, (4, 2, 3, 3))
    return Graph(
        (
            Node("x", ops.Input(type=TensorType.spikes(2, 5, 5))),
            Node("c", ops.Input(type=TensorType((4,), IntRange(0, 3), Kind.COUNTS))),
            Node("g", ops.Input(type=TensorType((4, 4), IntRange(-3, 3), Kind.GRADED))),
            Node(
                "conv",
                ops.Conv2d(
                    weight=IntTensor.of(weight), bias=IntTensor.of([1, 0, 0, 2]), padding=(1, 1)
                ),
                ("x",),
            ),
            Node("lif", ops.Neuron(threshold=IntTensor.of([65]), dv=2048), ("conv",)),
            Node("pool", ops.MaxPool2d(kernel=(2, 2), stride=(2, 2), padding=(1, 1)), ("lif",)),
            Node("flat", ops.Reshape(shape=(4, 9)), ("pool",)),
            Node("turned", ops.Permute(axes=(1, 0)), ("flat",)),
            Node("score", ops.SpikeMatmul(), ("flat", "turned")),
            Node("mixed", ops.SpikeMatmul(), ("g", "flat")),
            Node("shifted", ops.ShiftSum(window=6, reach=4), ("g", "flat")),
            Node(
                "fc",
                ops.Linear(weight=IntTensor.of([[1, 2, 3, 4]] * 2), bias=IntTensor.of([0, 0])),
                ("c",),
            ),
        ),
        ("score", "mixed", "shifted", "fc"),
        2,
    )


def test_a_recording_that_lacks_a_value_is_refused() -> None:
    graph = _everything()
    inputs = {n: np.zeros((2, 1, *graph.types[n].shape), np.int64) for n in graph.inputs}
    run = _watched_run(graph, inputs)
    few = Recording({name: v for name, v in run.values.items() if name != "pool"})
    with pytest.raises(InputError, match="lacks 'pool'"):
        count(graph, inputs, few)
