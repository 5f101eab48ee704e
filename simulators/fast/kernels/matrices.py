"""Products of two matrices that both come from the network: attention."""

from __future__ import annotations

import numpy as np

from lapilli.simulators.fast.kernels.jit import kernel, part
from lapilli.simulators.fast.kernels.multiplying import quads_of_columns, quads_of_rows
from lapilli.simulators.fast.kernels.rows import Array, multiply
from lapilli.simulators.fast.sizes import BLOCK

TILE = 8  # rows that are multiplied together


@kernel
def products(
    a: Array, a_steps: Array, b: Array, b_steps: Array, K: int, first: int, last: int,
    zero: int, rows_copied: bool, out: Array,
) -> None:  # fmt: skip
    """Matrices first..last - 1 of the outermost axis: out = a @ b, of bytes.

    Operands:
        a, b: bytes, flat, as they lie in memory; (R, H, M, K) and (R, H, K, N) elements apart
            by `a_steps` and `b_steps`, int64 (4,).
        zero: added to each element of a, so that none is negative.
        rows_copied: whether rows of `a` have to be copied: their elements are no neighbours, not
            whole quads, or need `zero`.
        out: (R, H, M, N).
    """
    _, H, M, N = out.shape
    quads, blocks = (K + 3) // 4, (N + BLOCK - 1) // BLOCK
    width, pitch = blocks * BLOCK, 4 * quads
    packed = np.zeros((blocks, quads, BLOCK, 4), np.int8)
    rows = np.zeros(TILE * pitch, np.uint8)
    bias = np.zeros(width, np.int32)
    total = np.empty(TILE * width, np.int32)
    for r in range(first, last):
        for h in range(H):
            _pack(b, r * b_steps[0] + h * b_steps[1], b_steps[2], b_steps[3], K, N, packed)
            if zero:
                for n in range(N):
                    column = 0
                    for k in range(K):
                        column += packed[n // BLOCK, k >> 2, n % BLOCK, k & 3]
                    bias[n] = -zero * column
            for start in range(0, M, TILE):
                count = min(TILE, M - start)
                from_a = r * a_steps[0] + h * a_steps[1] + start * a_steps[2]
                if rows_copied:
                    for m in range(count):
                        for k in range(K):
                            rows[m * pitch + k] = a[from_a + m * a_steps[2] + k * a_steps[3]] + zero
                    multiply(rows, 0, pitch, count, packed, bias, total, 0)
                else:
                    multiply(a, from_a, a_steps[2], count, packed, bias, total, 0)
                for m in range(count):
                    for n in range(N):
                        out[r, h, start + m, n] = total[m * width + n]


@part
def _pack(b: Array, at: int, down: int, right: int, K: int, N: int, packed: Array) -> None:
    """Write matrix (K, N) of `b` from `at` on to `packed`, whose padding is 0 and stays so."""
    flat = packed.reshape(-1)
    quads = packed.shape[1]
    for j in range(packed.shape[0]):
        count = min(BLOCK, N - j * BLOCK)
        for q in range(K // 4):
            to, begin = (j * quads + q) * 4 * BLOCK, at + 4 * q * down + j * BLOCK * right
            if down == 1:
                quads_of_columns(b, begin, right, count, flat, to)
            elif right == 1 and count == BLOCK:
                quads_of_rows(b, begin, down, flat, to)
            else:
                for i in range(count):
                    for r in range(4):
                        flat[to + 4 * i + r] = b[begin + i * right + r * down]
        for k in range(K // 4 * 4, K):
            for i in range(count):
                packed[j, K // 4, i, k & 3] = b[at + k * down + (j * BLOCK + i) * right]
