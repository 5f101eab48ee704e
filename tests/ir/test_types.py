"""Ranges, kinds and the type rules: what can be built, and what cannot."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapilli.ir import ops
from lapilli.ir.infer import infer
from lapilli.ir.tensor import IntTensor
from lapilli.ir.types import IntRange, Kind, TensorType

_SPIKES, _COUNTS, _GRADED = Kind.SPIKES, Kind.COUNTS, Kind.GRADED


def binary(*shape: int) -> TensorType:
    return TensorType.spikes(*shape)


def ternary(*shape: int) -> TensorType:
    return TensorType(shape, IntRange(-1, 1), _SPIKES)


def counts(*shape: int) -> TensorType:
    return TensorType(shape, IntRange(0, 3), _COUNTS)


def stairs(thresholds: object) -> ops.Staircase:
    return ops.Staircase(thresholds=IntTensor.of(thresholds))  # type: ignore[arg-type]


def many(*shape: int) -> TensorType:
    return TensorType(shape, IntRange(0, 17), _COUNTS)


def graded(*shape: int) -> TensorType:
    return TensorType(shape, IntRange(-5, 7), _GRADED)


def linear(**options: bool) -> ops.Linear:
    return ops.Linear(weight=IntTensor.of([[3, -2], [1, 1]]), bias=IntTensor.of([0, -9]), **options)


def conv(*shape: int, bias: int = 1, **options: object) -> ops.Conv2d:
    weight = IntTensor(np.ones(shape, np.int64))
    return ops.Conv2d(weight=weight, bias=IntTensor.of([0] * bias), **options)  # type: ignore[arg-type]


def neuron(**options: object) -> ops.Neuron:
    return ops.Neuron(**{"threshold": IntTensor.of([1]), **options})  # type: ignore[arg-type]


ranges = st.tuples(st.integers(-40, 40), st.integers(-40, 40)).map(
    lambda ends: IntRange(min(ends), max(ends))
)


@given(ranges, ranges)
def test_ranges_hold_every_value_and_no_more(a: IntRange, b: IntRange) -> None:
    pairs = [(x, y) for x in range(a.lo, a.hi + 1) for y in range(b.lo, b.hi + 1)]
    for got, values in (
        (a + b, [x + y for x, y in pairs]),
        (a * b, [x * y for x, y in pairs]),
        (a | b, [z for pair in pairs for z in pair]),
    ):
        assert (got.lo, got.hi) == (min(values), max(values))
    assert a.magnitude == max(abs(x) for x, _ in pairs)
    assert all(x in a for x, _ in pairs)
    assert a.lo - 1 not in a
    assert a.hi + 1 not in a


@given(ranges, st.integers(1, 5))
def test_times_is_a_repeated_sum(a: IntRange, count: int) -> None:
    total = a
    for _ in range(count - 1):
        total += a
    assert a.times(count) == total


@given(ranges)
def test_bits_are_the_fewest(a: IntRange) -> None:
    def holds(bits: int) -> bool:
        if a.lo >= 0:
            return a.hi < 1 << bits
        return -(1 << (bits - 1)) <= a.lo and a.hi < 1 << (bits - 1)

    assert holds(a.bits)
    assert a.bits == 1 or not holds(a.bits - 1)


def test_an_empty_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"empty range \[2, 1\]"):
        IntRange(2, 1)


@pytest.mark.parametrize(
    ("kind", "lo", "hi"),
    [
        (_SPIKES, 0, 2),
        (_SPIKES, -2, 0),
        (_COUNTS, -1, 3),
        (_GRADED, 0, 1 << 63),
        (_GRADED, -(1 << 63), 0),
    ],
)
def test_a_kind_bounds_its_range(kind: Kind, lo: int, hi: int) -> None:
    with pytest.raises(ValueError, match=rf"\[{lo}, {hi}\]"):
        TensorType((1,), IntRange(lo, hi), kind)


@pytest.mark.parametrize(
    ("op", "inputs", "kind", "lo", "hi", "shape"),
    [
        (linear(), (binary(2),), _GRADED, -9, 3, (2,)),
        (linear(), (counts(4, 2),), _GRADED, -9, 9, (4, 2)),
        (linear(), (ternary(2),), _GRADED, -11, 5, (2,)),
        (linear(graded=True), (graded(2),), _GRADED, -29, 31, (2,)),
        (conv(1, 2, 1, 1), (counts(2, 3, 3),), _GRADED, 0, 6, (1, 3, 3)),
        (
            conv(2, 1, 2, 2, bias=2, groups=2, stride=(2, 1), padding=(0, 1)),
            (binary(2, 4, 2),),
            _GRADED,
            0,
            4,
            (2, 2, 3),
        ),
        (ops.Gate(), (binary(2), ternary(2)), _SPIKES, -1, 1, (2,)),
        (ops.Gate(), (binary(2), binary(2)), _SPIKES, 0, 1, (2,)),
        (ops.Gate(), (counts(2), binary(2)), _COUNTS, 0, 3, (2,)),
        (ops.Gate(), (counts(2), ternary(2)), _GRADED, -3, 3, (2,)),
        (ops.Gate(), (ternary(2), graded(2)), _GRADED, -7, 7, (2,)),
        (ops.SpikeMatmul(), (binary(4, 2), binary(2, 3)), _COUNTS, 0, 2, (4, 3)),
        (ops.SpikeMatmul(), (counts(4, 2), binary(2, 3)), _COUNTS, 0, 6, (4, 3)),
        (ops.SpikeMatmul(), (ternary(5, 4, 2), graded(5, 2, 3)), _GRADED, -14, 14, (5, 4, 3)),
        (ops.Add(), (binary(2), binary(2)), _COUNTS, 0, 2, (2,)),
        (ops.Add(), (binary(2), counts(2)), _COUNTS, 0, 4, (2,)),
        (ops.Add(), (binary(2), ternary(2)), _GRADED, -1, 2, (2,)),
        (ops.Add(), (counts(2), graded(2)), _GRADED, -5, 10, (2,)),
        (ops.Sum(axes=(1,)), (binary(2, 4),), _COUNTS, 0, 4, (2,)),
        (ops.Sum(axes=(0, 1), keepdims=True), (ternary(2, 4),), _GRADED, -8, 8, (1, 1)),
        (
            ops.MaxPool2d(kernel=(2, 2), stride=(2, 2)),
            (ternary(1, 4, 4),),
            _SPIKES,
            -1,
            1,
            (1, 2, 2),
        ),
        (
            ops.MaxPool2d(kernel=(2, 3), stride=(1, 2), padding=(1, 1)),
            (counts(1, 2, 3),),
            _COUNTS,
            0,
            3,
            (1, 3, 2),
        ),
        (ops.Reshape(shape=(4,)), (counts(2, 2),), _COUNTS, 0, 3, (4,)),
        (ops.Permute(axes=(1, 0)), (graded(2, 3),), _GRADED, -5, 7, (3, 2)),
        (ops.Expand(shape=(4, 2)), (binary(1, 2),), _SPIKES, 0, 1, (4, 2)),
        (ops.Slice(axis=1, start=1, stop=3), (ternary(2, 3),), _SPIKES, -1, 1, (2, 2)),
        (ops.Delay(steps=2), (counts(2),), _COUNTS, 0, 3, (2,)),
        (neuron(), (graded(2),), _SPIKES, 0, 1, (2,)),
        (neuron(ternary=True), (counts(2),), _SPIKES, -1, 1, (2,)),
        (ops.Gate(), (counts(2), counts(2)), _COUNTS, 0, 9, (2,)),
        (ops.Gate(), (counts(2), graded(2)), _GRADED, -15, 21, (2,)),
        (ops.SpikeMatmul(), (many(2, 2), counts(2, 2)), _COUNTS, 0, 102, (2, 2)),
        (
            ops.ShiftSum(window=40, reach=9),
            (graded(2, 4, 5), graded(2, 5, 3)),
            _GRADED,
            -5,
            7,
            (2, 4, 3),
        ),
        (
            ops.ShiftSum(window=9, reach=0),
            (ternary(4, 5), TensorType((5, 3), IntRange(2, 9), _GRADED)),
            _GRADED,
            0,
            9,
            (4, 3),
        ),
        (ops.ShiftSum(window=51, reach=51), (counts(1, 4), counts(4, 1)), _GRADED, 0, 3, (1, 1)),
        (stairs([3]), (graded(2),), _SPIKES, 0, 1, (2,)),
        (stairs([1, 2]), (graded(2),), _COUNTS, 0, 2, (2,)),
        (stairs([[1, 2], [1, 3]]), (graded(4, 2),), _COUNTS, 0, 2, (4, 2)),
        (ops.Relu(), (graded(2),), _GRADED, 0, 7, (2,)),
        (ops.Relu(), (ternary(2),), _SPIKES, 0, 1, (2,)),
        (ops.Relu(), (counts(2),), _COUNTS, 0, 3, (2,)),
        (ops.Readout(), (binary(2),), _COUNTS, 0, 3, (2,)),
        (ops.Readout(), (graded(2),), _GRADED, -15, 21, (2,)),
        (ops.Readout(), (TensorType((1,), IntRange(2, 4), _GRADED),), _GRADED, 2, 12, (1,)),
    ],
)
def test_the_type_of_a_value(
    op: ops.Op, inputs: tuple[TensorType, ...], kind: Kind, lo: int, hi: int, shape: tuple[int, ...]
) -> None:
    assert infer(op, inputs, T=3) == TensorType(shape, IntRange(lo, hi), kind)


@pytest.mark.parametrize(
    ("op", "inputs", "rule"),
    [
        (linear(), (graded(2),), r"must be spikes or counts, got graded\[-5,7\]\[2\]; mark"),
        (conv(1, 2, 1, 1), (graded(2, 3, 3),), "must be spikes or counts"),
        (linear(), (binary(3),), "does not fit weight"),
        (linear(), (), "takes 1 inputs, got 0"),
        (linear(), (binary(2), binary(2)), "takes 1 inputs, got 2"),
        (
            ops.Linear(weight=IntTensor.of([1, 2]), bias=IntTensor.of([0, 0])),
            (binary(),),
            "does not fit weight",
        ),
        (
            ops.Linear(weight=IntTensor.of([[1, 2]]), bias=IntTensor.of([0, 0])),
            (binary(2),),
            "bias .* does not fit",
        ),
        (
            ops.Linear(weight=IntTensor.of([[1 << 62] * 4]), bias=IntTensor.of([0])),
            (binary(4),),
            "64",
        ),
        (
            ops.Linear(weight=IntTensor.of([[1 << 40]]), bias=IntTensor.of([0]), graded=True),
            (TensorType((1,), IntRange(0, 1 << 40), _GRADED),),
            "64",
        ),
        (conv(2), (binary(2, 3, 3),), "does not fit weight"),
        (conv(1, 2, 1), (binary(2, 3, 3),), "does not fit weight"),
        (conv(1, 2, 1, 1), (binary(2, 3),), "does not fit weight"),
        (conv(1, 3, 1, 1), (binary(2, 3, 3),), "does not fit weight"),
        (conv(3, 1, 1, 1, bias=3, groups=2), (binary(2, 3, 3),), "does not fit weight"),
        (conv(1, 2, 4, 1), (binary(2, 3, 3),), "larger than the padded map"),
        (conv(1, 2, 1, 1, stride=(0, 1)), (binary(2, 3, 3),), "stride"),
        (conv(1, 2, 1, 1, padding=(-1, 0)), (binary(2, 3, 3),), "padding"),
        (conv(1, 2, 1, 1, groups=0), (binary(2, 3, 3),), "groups"),
        (ops.Gate(), (graded(2), graded(2)), "one operand must be spikes"),
        (ops.Gate(), (many(2), many(2)), "one operand must be spikes, or counts of at most 16"),
        (stairs([[1, 2, 3]]), (binary(2),), "does not broadcast"),
        (stairs(3), (binary(2),), "without a threshold"),
        (ops.Gate(), (binary(2), binary(3)), "shapes differ"),
        (ops.SpikeMatmul(), (graded(2, 2), graded(2, 2)), "one operand must be spikes"),
        (ops.SpikeMatmul(), (many(2, 2), graded(2, 2)), "one operand must be spikes"),
        (ops.SpikeMatmul(), (binary(2, 3), binary(2, 3)), "do not chain"),
        (ops.SpikeMatmul(), (binary(2), binary(2)), "do not chain"),
        (ops.SpikeMatmul(), (binary(3, 3), binary(3)), "do not chain"),
        (ops.SpikeMatmul(), (binary(4, 2, 3), binary(5, 3, 2)), "do not chain"),
        (ops.ShiftSum(window=9, reach=9), (graded(2, 3), graded(2, 3)), "do not chain"),
        (ops.ShiftSum(window=9, reach=9), (graded(3), graded(3)), "do not chain"),
        (ops.ShiftSum(window=9, reach=9), (graded(3, 3),), "takes 2 inputs, got 1"),
        (ops.ShiftSum(window=9, reach=10), (graded(2, 2), graded(2, 2)), "of 10, 9"),
        (ops.ShiftSum(window=9, reach=-1), (graded(2, 2), graded(2, 2)), "of -1, 9"),
        (ops.ShiftSum(window=1 << 62, reach=1), (graded(2, 2), graded(2, 2)), "window <= 53"),
        (
            ops.ShiftSum(window=52, reach=1),
            (graded(2, 3), graded(3, 2)),
            "window of 52 leave 53 bits",
        ),
        (
            ops.ShiftSum(window=40, reach=40),
            (graded(2, 2), TensorType((2, 2), IntRange(0, 1 << 23), _GRADED)),
            "leave 64 bits",
        ),
        (
            ops.ShiftSum(window=9, reach=9),
            (TensorType((2, 2), IntRange(0, 1 << 62), _GRADED), graded(2, 2)),
            "leave 64 bits",
        ),
        (ops.Add(), (binary(2), binary(2, 1)), "shapes differ"),
        (ops.Sum(axes=()), (binary(2),), "no axes"),
        (ops.Sum(axes=(1,)), (binary(2),), "no axes"),
        (ops.Sum(axes=(-1,)), (binary(2),), "no axes"),
        (ops.Sum(axes=(0, 0)), (binary(2),), "no axes"),
        (ops.MaxPool2d(kernel=(2, 2), stride=(2, 2)), (binary(4, 4),), r"takes \(C, H, W\)"),
        (ops.MaxPool2d(kernel=(2, 2), stride=(2, 2), padding=(2, 0)), (binary(1, 4, 4),), "half"),
        (ops.MaxPool2d(kernel=(0, 2), stride=(1, 1)), (binary(1, 4, 4),), "kernel"),
        (ops.MaxPool2d(kernel=(2, 2), stride=(1, 0)), (binary(1, 4, 4),), "stride"),
        (ops.Reshape(shape=(3,)), (binary(2),), "has not the elements"),
        (ops.Reshape(shape=(-1, -2)), (binary(2),), "has not the elements"),
        (ops.Permute(axes=(0,)), (binary(2, 2),), "does not permute"),
        (ops.Permute(axes=(0, 0)), (binary(2, 2),), "does not permute"),
        (ops.Expand(shape=(3, 2)), (binary(2, 2),), "does not expand"),
        (ops.Expand(shape=(3,)), (binary(1, 1),), "does not expand"),
        (ops.Expand(shape=(0,)), (binary(1),), "does not expand"),
        (ops.Slice(axis=0, start=1, stop=1), (binary(2),), "no elements"),
        (ops.Slice(axis=0, start=0, stop=3), (binary(2),), "no elements"),
        (ops.Slice(axis=1, start=0, stop=1), (binary(2),), "no elements"),
        (ops.Delay(steps=0), (binary(2),), "a delay of 0 steps"),
        (neuron(threshold=IntTensor.of([0])), (binary(2),), "must be positive"),
        (neuron(threshold=IntTensor.of([1, 2, 3])), (binary(2),), "threshold .* does not broad"),
        (neuron(threshold=IntTensor.of([1, 2])), (binary(),), "threshold .* does not broadcast"),
        (neuron(threshold=IntTensor.of([[1]])), (binary(2),), "threshold .* does not broadcast"),
        (neuron(bias=IntTensor.of([1, 2, 3])), (binary(2),), "bias .* does not broadcast"),
        (neuron(dv=4097), (binary(2),), r"leave 0\.\.4096"),
        (neuron(du=-1), (binary(2),), r"leave 0\.\.4096"),
        (neuron(fraction_bits=33), (binary(2),), "fraction_bits 33"),
        (neuron(reset=ops.Reset.BY_SUBTRACTION, reset_by=-1), (binary(2),), "reset_by"),
        (neuron(bias=IntTensor.of([1 << 52])), (binary(2),), "64"),
        (neuron(reset=ops.Reset.BY_SUBTRACTION, reset_by=1 << 52), (binary(2),), "64"),
        (neuron(fraction_bits=32), (TensorType((2,), IntRange(0, 1 << 30), _GRADED),), "64"),
        (ops.Input(type=binary(2)), (binary(2),), "takes 0 inputs, got 1"),
    ],
)
def test_an_illegal_value(op: ops.Op, inputs: tuple[TensorType, ...], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        infer(op, inputs, T=3)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (binary(2, 3), "spikes[2,3]"),
        (ternary(2), "spikes[-1,1][2]"),
        (counts(), "counts[0,3][]"),
        (graded(4, 1), "graded[-5,7][4,1]"),
    ],
)
def test_types_are_short_in_messages(kind: TensorType, text: str) -> None:
    assert str(kind) == text


def test_only_zero_and_one_are_binary() -> None:
    assert binary(1).is_binary
    assert not ternary(1).is_binary
    assert not counts(1).is_binary


def test_a_float_is_no_weight() -> None:
    with pytest.raises(TypeError, match="expected integers, got float64"):
        IntTensor.of([0.5])


def test_equal_tensors_are_one_key() -> None:
    a, b = IntTensor.of([[1, 2]]), IntTensor.of([[1, 2]])
    assert a == b
    assert hash(a) == hash(b)
    assert len({a, b, IntTensor.of([1, 2]), IntTensor.of([[1, 3]])}) == 3
    assert a != [[1, 2]]


def test_tensors_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="read-only"):
        IntTensor.of([1]).array[0] = 2
