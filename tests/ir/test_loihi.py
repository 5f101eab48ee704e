"""A neuron with other fraction bits fires at the same steps, or there is none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapilli.ir import ops
from lapilli.ir.loihi import TIE, with_fraction_bits
from lapilli.ir.semantics import State, integrate
from lapilli.ir.tensor import IntTensor


def follow(op: ops.Neuron, other: ops.Neuron, T: int, seed: int) -> int:
    """How many spikes of both are the same; currents are small, so that ties are frequent."""
    rng = np.random.default_rng(seed)
    one = two = State.zeros((200,))
    fired = 0
    for _ in range(T):
        x = rng.integers(-9, 10, 200)
        first, second = integrate(op, x, one), integrate(other, x, two)
        assert np.array_equal(first.spikes, second.spikes)
        one, two = first.state, second.state
        fired += int(np.abs(first.spikes).sum())
    return fired


@given(
    st.integers(1, 2000),
    st.sampled_from([0, 2048, 3072, ops.DECAY_ONE]),
    st.integers(-1, 12),
    st.integers(0, 14),
    st.integers(1, 5),
    st.sampled_from(ops.Reset),
    st.integers(0, 1 << 30),
)
def test_no_spike_changes(
    theta: int, dv: int, f: int, bits: int, T: int, reset: ops.Reset, seed: int
) -> None:
    op = ops.Neuron(
        threshold=IntTensor.of([theta << max(0, f - 8)]),
        dv=dv,
        fraction_bits=f,
        bias=IntTensor.of([(seed % 5 - 2) << max(0, f - 3)]),
        reset=reset,
        reset_by=(seed % 3) << max(0, f - 2),
        ternary=bool(seed % 2),
    )
    other = with_fraction_bits(op, T, bits)
    if other is not None:
        assert other.fraction_bits == bits
        assert not np.any(other.threshold.array % TIE != 1)
        follow(op, other, T, seed)


@pytest.mark.parametrize(
    ("theta", "f", "T", "least"),
    [
        (64 * 9, 9, 4, 6),  # of 6 bits it is 72, and nothing lies between 64 and that
        (64 * 8, 9, 4, 9),  # of 6 bits it is 64, which 56 must not reach
        (64 * 8 + 1, 9, 40, 9),  # it truncates: only itself
        (3, 3, 4, 8),  # three eighths, of Loihi's 64
    ],
)
def test_the_fewest_bits(theta: int, f: int, T: int, least: int) -> None:
    op = ops.Neuron(threshold=IntTensor.of([theta]), dv=2048, fraction_bits=f)
    forms = {bits: with_fraction_bits(op, T, bits) for bits in range(6, 13)}
    found = [bits for bits, form in forms.items() if form is not None]
    assert found[0] == least
    form = forms[least]
    assert form is not None
    assert follow(op, form, T, 1) > 100
    wrong = replace(form, threshold=IntTensor.of([form.threshold.range.hi + 64]))
    with pytest.raises(AssertionError):
        follow(op, wrong, T, 1)


def test_a_threshold_that_truncates_and_is_not_tied_has_none() -> None:
    op = ops.Neuron(threshold=IntTensor.of([322]), dv=1111)
    assert with_fraction_bits(op, 6, 6) is None
