"""Products of unsigned by signed bytes, four at a time: the one instruction that is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from lapilli.simulators.fast.kernels.emit import (
    I8,
    I32,
    I64,
    load,
    pointers,
    room,
    spread,
    store,
    times,
    vector,
)
from lapilli.simulators.fast.sizes import BLOCK

binding.initialize_native_asmparser()


def _dot_rows(rows: int, blocks: int) -> Callable[..., None]:
    """Make `dot_rows` of a tile of rows and of blocks of BLOCK outputs."""

    @intrinsic
    def dot_rows(
        _: Any, given: Any, first: Any, pitch: Any, quads: Any, packed: Any, block: Any,
        bias: Any, total: Any, at: Any, width: Any,
    ) -> Any:  # fmt: skip
        signature = types.void(given, first, pitch, quads, packed, block, bias, total, at, width)

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            given, first, pitch, quads, packed, block, bias, total, at, width = pointers(
                context, builder, signature, args
            )
            words = vector(I32, BLOCK)
            # Four unsigned bytes by four signed ones, added in 32 bits: nothing saturates.
            dot = ir.InlineAsm(
                ir.FunctionType(words, [words] * 3), "vpdpbusd $3, $2, $0", "=v,0,v,v"
            )
            sums = [[room(builder, words) for _ in range(blocks)]
                    for _ in range(rows)]  # fmt: skip
            columns = [times(builder, builder.add(block, I64(j)), BLOCK) for j in range(blocks)]
            for own in sums:
                for one, column in zip(own, columns, strict=True):
                    builder.store(load(builder, bias, times(builder, column, 4), words), one)
            lines = [
                builder.gep(given, [builder.add(first, builder.mul(I64(r), pitch))])
                for r in range(rows)
            ]
            bytes_of_block = times(builder, quads, 4 * BLOCK)
            weights = [
                builder.gep(packed, [builder.mul(builder.add(block, I64(j)), bytes_of_block)])
                for j in range(blocks)
            ]
            with cgutils.for_range(builder, quads, intp=I64) as loop:
                within = times(builder, loop.index, 4 * BLOCK)
                loaded = [load(builder, w, within, words) for w in weights]
                for line, own in zip(lines, sums, strict=True):
                    four = load(builder, line, times(builder, loop.index, 4), I32)
                    same = spread(builder, four, words)
                    for one, w in zip(own, loaded, strict=True):
                        builder.store(builder.call(dot, [builder.load(one), same, w]), one)
            for r, own in enumerate(sums):
                line = builder.add(at, builder.mul(I64(r), width))
                for one, column in zip(own, columns, strict=True):
                    to = times(builder, builder.add(line, column), 4)
                    store(builder, builder.load(one), total, to)
            return context.get_dummy_value()

        return signature, generate

    made: Callable[..., None] = dot_rows
    return made


dot_rows_8_3, dot_rows_1_3, dot_rows_8_1, dot_rows_1_1 = (
    _dot_rows(rows, blocks) for blocks in (3, 1) for rows in (8, 1)
)


@intrinsic
def _quads_of_columns(_: Any, b: Any, at: Any, right: Any, count: Any, packed: Any, to: Any) -> Any:
    """Copy four neighbours of each of `count` columns, `right` bytes apart, to `packed[to:]`."""
    signature = types.void(b, at, right, count, packed, to)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        b, at, right, count, packed, to = pointers(context, builder, signature, args)
        with cgutils.for_range_slice(builder, I64(0), count, I64(1), I64) as (i, _):
            four = load(builder, b, builder.add(at, builder.mul(i, right)), I32)
            store(builder, four, packed, builder.add(to, times(builder, i, 4)))
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _quads_of_rows(_: Any, b: Any, at: Any, down: Any, packed: Any, to: Any) -> Any:
    """Interleave BLOCK bytes of each of four rows, `down` bytes apart, to `packed[to:]`."""
    signature = types.void(b, at, down, packed, to)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        b, at, down, packed, to = pointers(context, builder, signature, args)
        line = vector(I8, BLOCK)
        rows = [load(builder, b, builder.add(at, builder.mul(I64(r), down)), line)
                for r in range(4)]  # fmt: skip
        order = [i + BLOCK * r for i in range(BLOCK) for r in range(2)]
        pairs = [
            builder.shuffle_vector(*rows[2 * k : 2 * k + 2], ir.Constant(vector(I32, 32), order))
            for k in range(2)
        ]
        order = [2 * i + r + 32 * k for i in range(BLOCK) for k in range(2) for r in range(2)]
        whole = builder.shuffle_vector(*pairs, ir.Constant(vector(I32, 64), order))
        store(builder, whole, packed, to)
        return context.get_dummy_value()

    return signature, generate


quads_of_columns: Callable[..., None] = _quads_of_columns
quads_of_rows: Callable[..., None] = _quads_of_rows
