"""Which arithmetic holds a layer: a function of proven ranges and of what the CPU can do."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

import numpy as np

from lapilli.ir import ops
from lapilli.ir.tensor import IntArray, narrowest_dtype
from lapilli.ir.types import IntRange, Kind, TensorType

BYTE = IntRange(0, 255)
SIGNED_BYTE = IntRange(-128, 127)
MOST_EVENTS = 4  # of one value: beyond it, multiplying is cheaper than repeating
VNNI = frozenset({"avx512vnni", "avx512bw", "avx512vl"})
# Events per input above which multiplying every input is faster, measured: docs/fast.md.
DENSE_ABOVE = 0.25


class Path(enum.Enum):
    """What computes a node; the value is what the report says."""

    EVENTS = "events: int8 rows, 16-bit sums widened in time"
    BYTES = "products of unsigned by signed bytes, 32-bit sums (AVX-512 VNNI)"
    FLOAT32 = "float32, every partial sum within 2**24"
    FLOAT64 = "float64, every partial sum within 2**53"
    NEURONS = "neurons in int32"
    MOVED = "wiring"
    NUMPY = "NumPy, in the type of the result"
    DEFINITION = "the definition (ir.semantics), in int64"


@dataclass(frozen=True, slots=True)
class Reach:
    """How far partial sums of one layer can get, in any order of addition.

    Attributes:
        sums: largest magnitude of a partial sum, bias included.
        shifted: the same where `zero` is added to every input first; `zero`: see `zero_point`.
    """

    sums: int
    shifted: int
    zero: int


def zero_point(activation: IntRange) -> int:
    """What to add to inputs so that none is negative."""
    return max(0, -activation.lo)


def reach(weights: IntArray, bias: IntArray, activation: IntRange) -> Reach:
    """Bound the partial sums of outputs whose weights are the rows of `weights` (out, in)."""
    sums = np.abs(weights).sum(axis=1)
    zero = zero_point(activation)
    corrected = np.abs(bias) + zero * sums
    return Reach(
        sums=int((activation.magnitude * sums + np.abs(bias)).max()),
        shifted=int(((activation.hi + zero) * sums + corrected).max()),
        zero=zero,
    )


def dense_path(
    found: Reach, activation: IntRange, weights: IntRange, features: frozenset[str]
) -> Path:
    """The fastest arithmetic in which multiplying every input is exact.

    Args:
        found: how far the layer's partial sums get.
        activation: proven range of its inputs.
        weights: range of its weights.
        features: of the CPU, in LLVM's names.
    """
    bytes_ = inside(weights, SIGNED_BYTE) and activation.hi + found.zero in BYTE
    if bytes_ and found.shifted < 1 << 31 and features >= VNNI:
        return Path.BYTES
    if found.sums <= 1 << 24:
        return Path.FLOAT32
    return Path.FLOAT64 if found.sums <= 1 << 53 else Path.DEFINITION


def takes_events(found: Reach, x: TensorType, weights: IntRange, inputs: int) -> bool:
    """Whether a layer can be computed event by event: few of them, and rows of bytes."""
    rows = inputs * (1 if x.range.lo >= 0 else 2)
    return (
        x.kind is not Kind.GRADED
        and x.range.magnitude <= MOST_EVENTS
        and max(weights.magnitude, -weights.lo) <= 127
        and rows < 1 << 16
        and found.sums < 1 << 31
    )


def dtype_of(values: IntRange) -> type[np.integer[Any]]:
    """The type in which values of this range are kept: bytes without a sign where they can be."""
    return np.uint8 if inside(values, BYTE) else narrowest_dtype(values)


def inside(inner: IntRange, outer: IntRange) -> bool:
    """Whether a range lies within another."""
    return inner.lo in outer and inner.hi in outer


def decay_shift(d: int) -> int | None:
    """Shift to the right that is a decay by d / 4096; None where it is no shift."""
    kept = ops.DECAY_ONE - d
    if kept == 0:
        return 31  # nothing is left of 31 bits
    return None if kept & (kept - 1) else 12 - (kept.bit_length() - 1)
