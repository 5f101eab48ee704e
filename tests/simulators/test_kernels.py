"""What runs fast in Lava is what `ir.semantics` defines, value for value."""

from __future__ import annotations

import numpy as np
import pytest

from lapilli.ir import ops
from lapilli.ir.semantics import State, evaluate, integrate
from lapilli.ir.tensor import IntArray, IntTensor
from lapilli.simulators.lava.worker.kernels import kernel, membranes

_RNG = np.random.default_rng(7)
_LIMITS = [1 << 20, (1 << 24) - 1, 1 << 24, (1 << 53) - 1, 1 << 53]  # each way of computing


def _integers(*shape: int, most: int = 127) -> IntArray:
    return _RNG.integers(-most, most + 1, shape)


def _conv(shape: tuple[int, ...], **options: object) -> ops.Conv2d:
    weight, bias = IntTensor.of(_integers(*shape)), IntTensor.of(_integers(shape[0]))
    return ops.Conv2d(weight=weight, bias=bias, **options)  # type: ignore[arg-type]


_OPS: list[tuple[ops.Synaptic, tuple[IntArray, ...]]] = [
    (
        ops.Linear(weight=IntTensor.of(_integers(5, 7)), bias=IntTensor.of(_integers(5))),
        (_integers(3, 4, 7),),
    ),
    (_conv((6, 4, 1, 1)), (_integers(3, 4, 5, 5),)),
    (_conv((6, 4, 3, 2), stride=(2, 1), padding=(1, 2)), (_integers(3, 4, 7, 6),)),
    (_conv((6, 2, 3, 3), groups=3, padding=(1, 1)), (_integers(3, 6, 5, 5),)),
    (_conv((6, 1, 3, 3), groups=6, padding=(1, 1), stride=(1, 2)), (_integers(3, 6, 5, 5),)),
    (ops.SpikeMatmul(), (_integers(2, 3, 4, 5), _integers(2, 3, 5, 6, most=1))),
]


@pytest.mark.parametrize("largest", _LIMITS)
@pytest.mark.parametrize(("op", "operands"), _OPS, ids=lambda v: type(v).__name__)
def test_synapses(op: ops.Synaptic, operands: tuple[IntArray, ...], largest: int) -> None:
    got = kernel(op, largest)(*(x.astype(np.int32) for x in operands))
    assert np.array_equal(got, evaluate(op, operands))
    assert len(np.unique(got)) > 10


def test_the_bound_picks_floats_that_hold_the_sum() -> None:
    op = ops.Linear(weight=IntTensor.of([[1 << 12, 1]]), bias=IntTensor.of([0]))
    x = np.array([[1 << 12, 1]])  # 2**24 + 1: no float32
    assert kernel(op, (1 << 24) - 1)(x).item() == 1 << 24  # what a wrong bound would give
    assert kernel(op, (1 << 24) + 1)(x).item() == (1 << 24) + 1


@pytest.mark.parametrize("dv", [0, 1000, 2048, 4096])
@pytest.mark.parametrize("du", [2048, 4096])
@pytest.mark.parametrize("bias", [0, -5])
@pytest.mark.parametrize(
    ("reset", "ternary"),
    [(ops.Reset.TO_ZERO, False), (ops.Reset.TO_ZERO, True), (ops.Reset.BY_SUBTRACTION, False)],
)
def test_membranes(dv: int, du: int, bias: int, reset: ops.Reset, ternary: bool) -> None:
    op = ops.Neuron(
        threshold=IntTensor.of([641]), dv=dv, du=du, bias=IntTensor.of([bias]), reset=reset,
        reset_by=64 if reset is ops.Reset.BY_SUBTRACTION else 0, ternary=ternary,
    )  # fmt: skip
    shape, state, fired = (2, 50), State.zeros((2, 50)), 0
    u, v = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    step = membranes(op)
    for _ in range(20):
        x = _integers(*shape, most=12)
        want = integrate(op, x, state)
        assert np.array_equal(step(x.astype(np.int32), u, v), want.spikes)
        assert np.array_equal(u, want.state.u)
        assert np.array_equal(v, want.state.v)
        state, fired = want.state, fired + int(np.abs(want.spikes).sum())
    assert 0 < fired < 20 * 100
