"""What is proved of a general neuron, and which of them cannot be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lapilli.ir import ops
from lapilli.ir.bounds import input_range, neuron_bounds
from lapilli.ir.errors import GraphError
from lapilli.ir.graph import Graph, Node
from lapilli.ir.semantics import State, integrate
from lapilli.ir.tensor import IntTensor
from lapilli.ir.types import IntRange, Kind, TensorType

T = 4
X = TensorType((2,), IntRange(-9, 12), Kind.GRADED)
ONE = ops.GeneralNeuron(taps=IntTensor.of([[[1]]]), threshold=IntTensor.of([[[5]]]))


def _random(seed: int) -> ops.GeneralNeuron:
    rng = np.random.default_rng(seed)
    steps, K, levels = (int(rng.choice([1, T])), *(int(n) for n in rng.integers(1, 4, 2)))

    def ints(low: int, high: int, *shape: int) -> IntTensor:
        return IntTensor.of(rng.integers(low, high, (steps, *shape, int(rng.integers(1, 3)))))

    return ops.GeneralNeuron(
        taps=ints(-3, 9, K),
        threshold=ints(1, 60, levels),
        dv=ints(0, 4097),
        du=ints(0, 4097),
        bias=ints(-20, 21),
        reset=list(ops.Reset)[rng.integers(3)],
        reset_by=ints(0, 50),
        shift=int(rng.integers(3)),
        floored=(floored := bool(rng.integers(2))),
        floor=-int(rng.integers(30)) * floored,
    )


@given(st.integers(0, 10_000))
@example(3072)  # the channels differ by their amounts alone
def test_no_state_leaves_its_bounds(seed: int) -> None:
    op, rng = _random(seed), np.random.default_rng(seed)
    bounds, state = neuron_bounds("s", op, X, T), State.zeros((64, 2))
    for _ in range(T):
        x = np.where(
            rng.random((64, 2)) < 0.5, rng.integers(-9, 13, (64, 2)), rng.choice([-9, 12], (64, 2))
        )
        fired = integrate(op, x, state)
        state = fired.state
        for values, proven in (
            (state.u, bounds.u),
            (fired.membrane, bounds.v),
            (state.v, bounds.after),
        ):
            assert proven.lo <= values.min()
            assert values.max() <= proven.hi
        assert 0 <= fired.spikes.min() <= fired.spikes.max() <= op.threshold.shape[1]


def test_bounds_are_met() -> None:
    """Two events take 2 * 4; a floor holds what falls; an input's range is that of its taps."""
    soft = replace(ONE, threshold=IntTensor.of([[[5], [7]]]), reset=ops.Reset.BY_SUBTRACTION)
    soft = replace(soft, reset_by=IntTensor.of([[4]]), dv=IntTensor.of([[4096]]))
    assert neuron_bounds("s", soft, X, T).after == IntRange(-9, 8)
    spikes = TensorType((2,), IntRange(0, 5), Kind.COUNTS)
    assert neuron_bounds("s", soft, spikes, T).after == IntRange(-3, 4)
    assert neuron_bounds("s", replace(ONE, floored=True), X, T).v == IntRange(0, 4 + 12)
    assert neuron_bounds("s", replace(ONE, floored=True, floor=-11), X, T).v == IntRange(
        -11, 4 + 12
    )
    tapped = replace(ONE, taps=IntTensor.of([[[2], [-1]]]), shift=1)
    assert input_range(tapped, IntRange(-9, 12)) == IntRange(-15, 16)
    assert neuron_bounds("s", tapped, X, 1).v == IntRange(-9, 12)


def test_its_events_are_counts() -> None:
    several = replace(ONE, threshold=IntTensor.of([[[5], [7]]]))
    nodes = (Node("x", ops.Input(type=X)), Node("s", several, ("x",)), Node("t", ONE, ("x",)))
    graph = Graph(nodes, ("s",), T)
    assert graph.types["s"] == TensorType((2,), IntRange(0, 2), Kind.COUNTS)
    assert graph.types["t"].is_binary
    assert graph.neurons == graph.firing == ("s", "t")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"taps": IntTensor.of([[1]])}, "taps (1, 1) has no axis of 1 or 4 steps in front"),
        ({"dv": IntTensor.of([[0]] * 3)}, "dv (3, 1) has no axis of 1 or 4 steps in front"),
        ({"bias": IntTensor.of([[0, 0, 0]])}, "bias (3,) does not broadcast to (2,)"),
        ({"taps": IntTensor.of([[[1]] * 5])}, "5 taps in 4 steps"),
        ({"threshold": IntTensor.of([[[1]] * 256])}, "256 levels; at most 255"),
        ({"dv": IntTensor.of([[4097]])}, "decays 4096..4097 leave 0..4096"),
        ({"reset_by": IntTensor.of([[-1]])}, "reset_by must not be negative"),
        ({"shift": -1}, "shift -1 leaves 0..32"),
        ({"taps": IntTensor.of([[[1 << 50]]])}, "its state can grow to 57 bits"),
        ({"taps": IntTensor.of([[[1 << 60]]])}, "sums of weighted inputs leave 64 bits"),
    ],
)
def test_what_cannot_be(change: dict[str, object], why: str) -> None:
    op = replace(ONE, **change)  # type: ignore[arg-type]
    with pytest.raises(GraphError) as caught:
        Graph((Node("x", ops.Input(type=X)), Node("s", op, ("x",))), ("s",), T)
    assert why in str(caught.value)
