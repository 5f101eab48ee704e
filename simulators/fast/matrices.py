"""Products of two matrices of the network, in the arithmetic that their ranges allow."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lapilli.ir import ops
from lapilli.ir.semantics import evaluate
from lapilli.ir.types import TensorType
from lapilli.simulators.fast.choice import (
    BYTE,
    SIGNED_BYTE,
    VNNI,
    Path,
    dtype_of,
    inside,
    zero_point,
)
from lapilli.simulators.fast.work import Work

Array = npt.NDArray[Any]


def choose(a: TensorType, b: TensorType, features: frozenset[str]) -> Path:
    """The fastest arithmetic that holds every partial sum of a @ b, whatever their order."""
    terms, zero = a.shape[-1], zero_point(a.range)
    shifted = (a.range.hi + 2 * zero) * b.range.magnitude * terms
    bytes_ = a.range.hi + zero in BYTE and inside(b.range, SIGNED_BYTE)
    if bytes_ and shifted < 1 << 31 and features >= VNNI and len(a.shape) <= 3:
        return Path.BYTES
    reach = a.range.magnitude * b.range.magnitude * terms
    if reach <= 1 << 24:
        return Path.FLOAT32
    return Path.FLOAT64 if reach <= 1 << 53 else Path.DEFINITION


def multiply(
    path: Path, a: Array, b: Array, types: tuple[TensorType, TensorType, TensorType], work: Work
) -> Array:
    """Return a @ b of operands (T * B, *shape), in the type that holds the product.

    Args:
        path: what to compute in, see `choose`.
        a: (T * B, ..., n, k).
        b: (T * B, ..., k, m).
        types: of a, b and the product.
        work: threads, and memory for the product.
    """
    dtype = dtype_of(types[2].range)
    match path:
        case Path.BYTES:
            # Currents lie in 32 bits, however small they are.
            a, b = (
                x.astype(dtype_of(t.range), copy=False)
                for x, t in zip((a, b), types[:2], strict=True)
            )
            return _bytes(a, b, zero_point(types[0].range), dtype, work)
        case Path.FLOAT32 | Path.FLOAT64:
            real = np.float32 if path is Path.FLOAT32 else np.float64
            left, right = (np.ascontiguousarray(x, real) for x in (a, b))
            return (left @ right).astype(dtype)
        case _:
            wide = evaluate(ops.SpikeMatmul(), (a.astype(np.int64), b.astype(np.int64)))
            return wide.astype(dtype)


def _bytes(a: Array, b: Array, zero: int, dtype: type[np.integer[Any]], work: Work) -> Array:
    from lapilli.simulators.fast.kernels.matrices import products

    if a.ndim == 3:
        return _bytes(a[:, None], b[:, None], zero, dtype, work)[:, 0]
    R, H, M, K = a.shape
    out = work.memory.take((R, H, M, b.shape[-1]), dtype)
    flat_a, a_steps = _flat(a)
    flat_b, b_steps = _flat(b)
    copied = bool(zero or a_steps[3] != 1 or K % 4)
    work.parts(R, lambda first, last: products(
        flat_a, a_steps, flat_b, b_steps, K, first, last, zero, copied, out))  # fmt: skip
    return out


def _flat(x: Array) -> tuple[Array, Array]:
    """The memory behind a view, flat, and how many elements its axes go forward in it."""
    steps = np.array(x.strides, np.int64) // x.itemsize
    if (steps < 0).any():
        return _flat(np.ascontiguousarray(x))
    extent = int(steps @ (np.array(x.shape) - 1)) + 1 if x.size else 0
    flat = np.lib.stride_tricks.as_strided(x, (extent,), (x.itemsize,))
    return flat, steps
