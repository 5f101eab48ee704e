"""Integers are kept narrow and computed with wide, and are the same tensor however they came."""

from __future__ import annotations

import hashlib
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lapilli.ir import ops, tensor
from lapilli.ir.graph import Graph, Node
from lapilli.ir.partial_sums import partial_sum
from lapilli.ir.tensor import IntTensor
from lapilli.ir.types import IntRange, Kind, TensorType

_EDGES = [(7, np.int8), (15, np.int16), (31, np.int32), (63, np.int64)]


@pytest.mark.parametrize(("bits", "dtype"), _EDGES)
def test_the_narrowest_type_that_holds_all(bits: int, dtype: type[np.signedinteger]) -> None:
    for values in ([-(1 << bits), 0], [(1 << bits) - 1, -1]):
        held = IntTensor.of(values)
        assert held.stored.dtype == dtype
        assert held.array.dtype == np.int64
        assert held.array.tolist() == values
    if bits < 63:
        assert IntTensor.of([1 << bits]).stored.dtype != dtype


@settings(max_examples=100)
@given(
    st.lists(st.integers(-(1 << 63), (1 << 63) - 1), min_size=1, max_size=40),
    st.integers(0, 63),
    st.sampled_from([1, 3, 1 << 20]),
)
def test_its_digest_is_that_of_the_integers_in_int64(
    values: list[int], less: int, part: int
) -> None:
    array = np.array(values, np.int64) >> less
    whole = hashlib.sha256(repr(array.shape).encode() + array.tobytes()).hexdigest()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tensor, "_PART", part)
        held = IntTensor(array)
        assert held.digest == whole
        assert held == IntTensor(held.stored) == pickle.loads(pickle.dumps(held))
        assert hash(held) == hash(IntTensor(array.copy()))


def test_nothing_wraps_that_does_not_in_int64() -> None:
    held = IntTensor.of([[-128, 127], [-128, -128]])
    assert held.stored.dtype == np.int8
    assert (held.array * 2).tolist() == [[-256, 254], [-256, -256]]
    assert np.abs(held.array).max() == 128
    negative, positive = held.row_sums
    assert (negative.tolist(), positive.tolist()) == ([-128, -256], [127, 0])
    assert held.row_sums[0] is negative
    assert IntTensor.of(np.full((2, 9, 300), 127)).row_sums[1].tolist() == [9 * 300 * 127] * 2
    assert held.exponent == 0
    assert IntTensor.of([-128, 64]).exponent == 6
    assert IntTensor.of([-128, 64]).mantissa == IntTensor.of([-2, 1])


def test_a_partial_sum_of_the_lowest_byte() -> None:
    synapse = ops.Linear(weight=IntTensor.of([[-128, -128]]), bias=IntTensor.of([-128]))
    x = Node("x", ops.Input(type=TensorType((2,), IntRange(0, 1), Kind.SPIKES)))
    graph = Graph((x, Node("w", synapse, ("x",))), ("w",), 1)
    assert partial_sum(graph, graph["w"]) == 384
    assert graph.types["w"].range == IntRange(-384, -128)


def test_nobody_can_write_into_it() -> None:
    given = np.array([1 << 40, 2])
    wide, narrow = IntTensor(given), IntTensor.of([1, 2])
    for view in (wide.array, wide.stored, narrow.array, narrow.stored):
        with pytest.raises(ValueError, match="read-only"):
            view[0] = 9
    given[0] = 9
    assert wide == IntTensor.of([1 << 40, 2])


@pytest.mark.parametrize("given", [np.zeros(2), np.zeros(2, np.uint8), np.zeros(2, ">i8")])
def test_other_arrays_are_refused(given: np.ndarray) -> None:
    with pytest.raises(TypeError, match=f"expected int64, got {given.dtype}"):
        IntTensor(given)


def test_of_takes_what_is_whole() -> None:
    assert IntTensor.of(np.array([200], np.uint8)).array.tolist() == [200]
    assert IntTensor.of([True, False]).array.tolist() == [1, 0]
    assert IntTensor.of(np.array([1], ">i2")) == IntTensor.of([1])
    assert (IntTensor.of([[1, 2]]).shape, IntTensor.of([[1, 2]]).size) == ((1, 2), 2)
    with pytest.raises(TypeError, match="expected integers, got float64"):
        IntTensor.of([0.5])
    with pytest.raises(ValueError, match="zero-size"):
        _ = IntTensor.of(np.zeros((0, 2), np.int64)).range
