"""Short names for large arrays: how runs that cannot keep every current are compared."""

from __future__ import annotations

import hashlib

import numpy as np

from lapilli.ir.tensor import IntArray


def digest(values: IntArray) -> int:
    """63 bits of BLAKE2b over the values as little-endian int64, in row-major order."""
    data = np.ascontiguousarray(values, "<i8").tobytes()
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little") >> 1


def digests(values: IntArray) -> IntArray:
    """One digest for each step and sample: (T, B, *shape) -> (T, B)."""
    return np.array([[digest(sample) for sample in step] for step in values], np.int64)
