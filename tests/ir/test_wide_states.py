"""States of 51, 52 and 53 bits: computed and proved as in Python's integers.

A product of 64 bits holds `|a| * (4096 - d)` only up to 2**51, and wraps silently beyond.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapilli.ir import bounds, ops
from lapilli.ir.bounds import neuron_bounds
from lapilli.ir.channel_ranges import ChannelRanges
from lapilli.ir.errors import GraphError
from lapilli.ir.graph import Graph
from lapilli.ir.loihi import with_fraction_bits
from lapilli.ir.semantics import State, decay, integrate
from lapilli.ir.tensor import IntArray, IntTensor
from lapilli.ir.types import IntRange, Kind, TensorType
from lapilli.simulators.conformance import neuron_case
from lapilli.simulators.event_driven import EventDriven
from lapilli.simulators.reference import Reference

_DECAYS = (0, 1, 1024, 1365, 2048, 4095, 4096)
_BITS = (51, 52, 53)
Decay = Callable[[IntArray, int], IntArray]


def _exact(a: int, d: int) -> int:
    kept = abs(a) * (4096 - d) // 4096
    return kept if a >= 0 else -kept


def _wrapping(a: IntArray, d: int) -> IntArray:
    """As `semantics.decay` once was."""
    return np.asarray(np.sign(a) * ((np.abs(a) * (4096 - d)) >> 12), np.int64)


def _states(bits: int) -> list[int]:
    """Of this many bits and a sign, to either side of where a product wraps."""
    top = 1 << bits
    sizes = (top // 2, top // 2 + 1, top - 1, top, top + 5, 3 * top // 4 + 1)
    return [sign * n for n in sizes for sign in (1, -1)]


def _wrong(computed: Decay) -> set[tuple[int, int]]:
    """Bits and decay of which it answers something else than Python."""
    return {
        (bits, d)
        for bits in _BITS
        for d in _DECAYS
        if computed(np.array(_states(bits)), d).tolist() != [_exact(a, d) for a in _states(bits)]
    }


def test_decay_is_exact_at_every_width() -> None:
    assert _wrong(decay) == set()
    largest = (1 << 63) - 1
    for d in _DECAYS:
        assert decay(np.array([largest, -largest]), d).tolist() == [
            _exact(largest, d), -_exact(largest, d),
        ]  # fmt: skip


def test_a_product_of_64_bits_is_caught() -> None:
    # From 2**51 on where nothing decays, from 2**52 on where half of it does.
    assert _wrapping(np.array([(1 << 51) - 1]), 0).tolist() == [(1 << 51) - 1]
    assert _wrapping(np.array([1 << 51]), 0).tolist() != [1 << 51]
    assert _wrapping(np.array([1 << 52]), 2048).tolist() != [1 << 51]
    assert {(51, 0), (52, 0), (53, 0), (52, 2048), (53, 2048)} <= _wrong(_wrapping)


@given(
    st.integers(1 - (1 << 63), (1 << 63) - 1),
    st.integers(0, ops.DECAY_ONE),
)
def test_decay_of_any_state(a: int, d: int) -> None:
    assert decay(np.array([a]), d).tolist() == [_exact(a, d)]


def _neuron(d: int, bits: int) -> ops.Neuron:
    """Never fires, so that its state grows."""
    return ops.Neuron(threshold=IntTensor.of([1 << 62]), dv=d, du=4096, fraction_bits=bits)


def _bounds(op: ops.Neuron, x: IntRange, T: int) -> IntRange:
    return neuron_bounds("n", op, TensorType((1,), x, Kind.GRADED), T).v


def _run(op: ops.Neuron, x: int, T: int) -> list[int]:
    """Membranes of a constant current, in Python's integers."""
    v, seen = 0, []
    for _ in range(T):
        v = _exact(v, op.dv) + (x << op.fraction_bits)
        seen.append(v)
    return seen


@pytest.mark.parametrize("bits", _BITS)
@pytest.mark.parametrize("d", _DECAYS)
def test_bounds_are_what_python_reaches(d: int, bits: int) -> None:
    op, x = _neuron(d, 20), (1 << (bits - 20)) - 1
    proven = _bounds(op, IntRange(-x, x), 2)
    assert proven == IntRange(min(_run(op, -x, 2)), max(_run(op, x, 2)))


def test_bounds_that_wrap_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    op, x = _neuron(0, 20), (1 << 32) + 1
    assert max(_run(op, x, 2)) in _bounds(op, IntRange(0, x), 2)

    def wraps(r: ChannelRanges, d: int) -> ChannelRanges:
        return ChannelRanges(*(_wrapping(e.astype(np.int64), d) for e in (r.lo, r.hi)))

    monkeypatch.setattr(bounds, "_decayed", wraps)
    assert max(_run(op, x, 2)) not in _bounds(op, IntRange(0, x), 2)
    # What the issue tells: [0, 2**53 + 5] was said to become [0, 2].
    reached = ChannelRanges.of(IntRange(0, (1 << 53) + 5), 1)
    assert wraps(reached, 2048).whole == IntRange(0, 2)


@pytest.mark.parametrize("bits", range(44, 64))
def test_bounds_of_any_width_do_not_wrap(bits: int) -> None:
    """Narrow ones are followed in 64 bits, wider ones in Python's integers: none says so."""
    op = replace(_neuron(1, 20), threshold=IntTensor.of([1]), reset=ops.Reset.NONE)
    x = (1 << (bits - 20)) - 1
    assert _bounds(op, IntRange(-x, x), 3) == IntRange(min(_run(op, -x, 3)), max(_run(op, x, 3)))


def _graph(op: ops.Neuron, xs: list[int]) -> tuple[Graph, dict[str, IntArray]]:
    return neuron_case(op, xs)


@pytest.mark.parametrize("d", _DECAYS)
def test_a_state_of_52_bits_runs_exactly(d: int) -> None:
    # One step's current is 2**50 - 2**20, so that two of them have 51 bits and a sign.
    op, x = _neuron(d, 20), (1 << 30) - 1
    for sign in (1, -1):
        graph, given_ = _graph(op, [sign * x, sign * x])
        want = _run(op, sign * x, 2)
        assert abs(want[-1]) < 1 << 51
        for simulator in (Reference(), EventDriven()):
            got = simulator.compile(graph).run(given_).membranes["s"]
            assert got.ravel().tolist() == want, simulator.name


def test_a_state_of_more_is_refused_before_it_runs() -> None:
    for x in ((1 << 30) + 1, 1 << 31, 1 << 32):  # 52 and 53 bits and a sign
        with pytest.raises(GraphError, match=r"state can grow to \d+ bits"):
            _graph(_neuron(0, 21), [x, x])


@pytest.mark.parametrize("d", _DECAYS)
def test_definition_and_bounds_agree_where_it_fires(d: int) -> None:
    op = replace(
        _neuron(d, 20), threshold=IntTensor.of([1 << 50]), ternary=True,
        reset=ops.Reset.BY_SUBTRACTION, reset_by=(1 << 50) + 7,
    )  # fmt: skip
    x = IntRange(-(1 << 30) - 3, (1 << 30) + 3)
    proven = neuron_bounds("n", op, TensorType((1,), x, Kind.GRADED), 3)
    for drive in (x.lo, x.hi):
        state = State.zeros((1,))
        for _ in range(3):
            fired = integrate(op, np.array([drive]), state)
            state = fired.state
            assert int(fired.membrane[0]) in proven.v
            assert int(state.v[0]) in proven.after


def test_a_threshold_is_not_shifted_out_of_64_bits() -> None:
    op = replace(_neuron(0, 6), threshold=IntTensor.of([(1 << 60) + 1]))
    assert with_fraction_bits(op, 1, 6) is not None
    assert with_fraction_bits(op, 1, 13) is None
