"""An immutable integer array with value equality, so that nodes compare and hash."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from lapilli.ir.types import IntRange

IntArray = npt.NDArray[np.int64]
DTYPES = (np.int8, np.int16, np.int32, np.int64)  # in which integers are stored


def narrowest_dtype(values: IntRange) -> type[np.signedinteger[Any]]:
    """The smallest of DTYPES that holds these values.

    >>> narrowest_dtype(IntRange(-128, 128))
    <class 'numpy.int16'>

    Raises:
        OverflowError: they leave 64 bits.
    """
    for dtype in DTYPES:
        limits = np.iinfo(dtype)
        if limits.min <= values.lo and values.hi <= limits.max:
            return dtype
    raise OverflowError(f"[{values.lo}, {values.hi}] leaves 64-bit integers")


@dataclass(frozen=True, slots=True, eq=False)
class IntTensor:
    """Weights, biases, thresholds. Stored as int64, read-only; equal iff equal in value.

    >>> IntTensor.of([[1, -2]]) == IntTensor.of([[1, -2]])
    True
    """

    array: IntArray
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        if self.array.dtype != np.int64:
            raise TypeError(f"expected int64, got {self.array.dtype}: round before you get here")
        copy = np.array(self.array, order="C")
        copy.setflags(write=False)
        object.__setattr__(self, "array", copy)
        head = repr(copy.shape).encode()
        object.__setattr__(self, "digest", hashlib.sha256(head + copy.tobytes()).hexdigest())

    @classmethod
    def of(cls, values: npt.ArrayLike) -> IntTensor:
        """Build from nested lists or an integer array; a float array is refused."""
        array = np.asarray(values)
        if array.dtype.kind not in "iub":
            raise TypeError(f"expected integers, got {array.dtype}")
        return cls(array.astype(np.int64))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return tuple(self.array.shape)

    @property
    def range(self) -> IntRange:
        """Tightest range of the stored values."""
        return IntRange(int(self.array.min()), int(self.array.max()))

    @property
    def exponent(self) -> int:
        """How many times 2 divides all of them; 0 if all are 0.

        >>> IntTensor.of([[12, -8, 0]]).exponent
        2
        """
        together = int(np.bitwise_or.reduce(self.array, axis=None))
        return (together & -together).bit_length() - 1 if together else 0

    @property
    def mantissa(self) -> IntTensor:
        """Return them without the powers of two that they share: self is mantissa * 2**exponent."""
        return IntTensor(self.array >> self.exponent)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IntTensor) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        lo, hi = self.range.lo, self.range.hi
        return f"IntTensor(shape={self.shape}, range=[{lo}, {hi}], sha={self.digest})"
