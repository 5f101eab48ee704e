"""An immutable integer array with value equality, so that nodes compare and hash."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from lapilli.ir.types import IntRange

IntArray = npt.NDArray[np.int64]
StoredArray: TypeAlias = npt.NDArray[np.signedinteger[Any]]
DTYPES = (np.int8, np.int16, np.int32, np.int64)  # in which integers are stored
_PART = 1 << 20  # integers that are widened at a time


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
    """Weights, biases, thresholds. Read-only; equal iff equal in value.

    Whatever type of DTYPES they come in, they are kept in the narrowest that holds them all, an
    eighth of int64's memory for weights of eight bits. Who computes asks for `array`, in which
    nothing wraps that would not wrap in int64.

    >>> IntTensor.of([[1, -2]]) == IntTensor.of([[1, -2]])
    True

    Attributes:
        stored: the integers, in the narrowest of DTYPES.

    Raises:
        TypeError: an array that is not of one of DTYPES.
    """

    stored: StoredArray
    _range: IntRange | None = field(init=False, default=None)
    _digest: str | None = field(init=False, default=None)
    _row_sums: tuple[IntArray, IntArray] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        given: StoredArray = self.stored
        if given.dtype not in DTYPES:
            raise TypeError(f"expected int64, got {given.dtype}: round before you get here")
        dtype = narrowest_dtype(self.range) if given.size else DTYPES[0]
        kept = np.array(given, dtype, order="C")
        kept.setflags(write=False)
        object.__setattr__(self, "stored", kept)

    @classmethod
    def of(cls, values: npt.ArrayLike) -> IntTensor:
        """Build from nested lists or an integer array; a float array is refused."""
        array = np.asarray(values)
        if array.dtype.kind not in "iub":
            raise TypeError(f"expected integers, got {array.dtype}")
        return cls(array if array.dtype in DTYPES else array.astype(np.int64))

    @property
    def array(self) -> IntArray:
        """The integers in int64: made anew at each call, unless they are kept so."""
        if self.stored.dtype == np.int64:
            return self.stored
        wide = self.stored.astype(np.int64)
        wide.setflags(write=False)
        return wide

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return tuple(self.stored.shape)

    @property
    def size(self) -> int:
        """How many integers there are."""
        return int(self.stored.size)

    @property
    def range(self) -> IntRange:
        """Tightest range of the integers.

        Raises:
            ValueError: there are none.
        """
        found = self._range
        if found is None:
            found = IntRange(int(self.stored.min()), int(self.stored.max()))
            object.__setattr__(self, "_range", found)
        return found

    @property
    def digest(self) -> str:
        """SHA-256 of the shape, and of the integers as int64, in whatever they are kept."""
        found = self._digest
        if found is None:
            hashed, flat = hashlib.sha256(repr(self.shape).encode()), self.stored.reshape(-1)
            for part in np.split(flat, range(_PART, flat.size, _PART)):
                hashed.update(part.astype("<i8").tobytes())
            object.__setattr__(self, "_digest", found := hashed.hexdigest())
        return found

    @property
    def row_sums(self) -> tuple[IntArray, IntArray]:
        """Sums of the negative and of the positive integers of each row, an element of axis 0.

        They are computed once, in int64, where nobody has looked yet whether they wrap.
        """
        found = self._row_sums
        if found is None:
            rows = self.stored.reshape(len(self.stored), -1)
            negative = np.minimum(rows, 0).sum(axis=1, dtype=np.int64)
            found = negative, rows.sum(axis=1, dtype=np.int64) - negative
            object.__setattr__(self, "_row_sums", found)
        return found

    @property
    def exponent(self) -> int:
        """How many times 2 divides all of them; 0 if all are 0.

        >>> IntTensor.of([[12, -8, 0]]).exponent
        2
        """
        together = int(np.bitwise_or.reduce(self.stored, axis=None))
        return (together & -together).bit_length() - 1 if together else 0

    @property
    def mantissa(self) -> IntTensor:
        """Return them without the powers of two that they share: self is mantissa * 2**exponent."""
        return IntTensor(self.stored >> self.exponent)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IntTensor) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        lo, hi = self.range.lo, self.range.hi
        return f"IntTensor(shape={self.shape}, range=[{lo}, {hi}], sha={self.digest})"
