"""Events: where they are, and their rows of weights added up in 16 bits."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from lapilli.simulators.fast.kernels.emit import (
    I8,
    I16,
    I32,
    I64,
    filled,
    load,
    pointers,
    room,
    spread,
    store,
    times,
    vector,
)
from lapilli.simulators.fast.sizes import LANES


def _add_rows(panels: int, lanes: int) -> Callable[..., None]:
    """Make `add_rows` of this many panels of 2 * lanes outputs.

    A panel of a row of the table is a vector of 16-bit words: the low byte of word i is weight i
    plus 128, the high byte weight lanes + i. Adding whole words and, beside them, high bytes
    alone takes three instructions for 2 * lanes sums, and no sign extension; the sums of low
    bytes follow at the end. 16 bits hold both for `MOST_UNWIDENED` rows, whatever the weights.
    """

    @intrinsic
    def add_rows(
        _: Any, table: Any, width: Any, events: Any, start: Any, stop: Any, column: Any,
        before: Any, before_at: Any, total: Any, at: Any,
    ) -> Any:  # fmt: skip
        signature = types.void(
            table, width, events, start, stop, column, before, before_at, total, at
        )

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            table, width, events, start, stop, column, before, before_at, total, at = pointers(
                context, builder, signature, args
            )
            words, sums = vector(I16, lanes), vector(I32, lanes)
            eight = filled(words, 8)
            both = [[room(builder, words) for _ in range(2)] for _ in range(panels)]
            for one in itertools.chain(*both):
                builder.store(filled(words, 0), one)
            base = builder.gep(table, [column])
            with cgutils.for_range_slice(builder, start, stop, I64(1), I64) as (e, _):
                row = builder.zext(load(builder, events, times(builder, e, 2), I16), I64)
                line = builder.gep(base, [builder.mul(row, width)])
                for i, (whole, high) in enumerate(both):
                    brought = load(builder, line, I64(2 * lanes * i), words)
                    builder.store(builder.add(builder.load(whole), brought), whole)
                    upper = builder.ashr(brought, eight)
                    builder.store(builder.add(builder.load(high), upper), high)
            goal = builder.gep(total, [times(builder, builder.add(at, column), 4)])
            begun = builder.gep(before, [times(builder, builder.add(before_at, column), 4)])
            count = builder.trunc(builder.sub(stop, start), I32)
            offset = spread(builder, builder.mul(count, I32(128)), sums)
            for i, (whole, high) in enumerate(both):
                upper = builder.load(high)
                low = builder.sub(builder.load(whole), builder.shl(upper, eight))
                halves = builder.sub(builder.zext(low, sums), offset), builder.sext(upper, sums)
                for k, half in enumerate(halves):
                    to = I64(4 * lanes * (2 * i + k))
                    store(builder, builder.add(load(builder, begun, to, sums), half), goal, to)
            return context.get_dummy_value()

        return signature, generate

    made: Callable[..., None] = add_rows
    return made


add_rows_6, add_rows_3, add_rows_1 = (_add_rows(panels, LANES) for panels in (6, 3, 1))
add_rows_half = _add_rows(1, LANES // 2)


@intrinsic
def _list_32(_: Any, given: Any, at: Any, base: Any, events: Any, count: Any) -> Any:
    """Write base + i for each of 32 bytes at `at` that is not 0; return how many there are.

    Up to 32 entries behind them are overwritten.
    """
    signature = types.int64(given, at, base, events, count)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        given, at, base, events, count = pointers(context, builder, signature, args)
        bytes_, words = vector(I8, LANES), vector(I16, LANES)
        mask = builder.icmp_unsigned("!=", load(builder, given, at, bytes_), filled(bytes_, 0))
        bases = spread(builder, builder.trunc(base, I16), words)
        indices = builder.add(bases, ir.Constant(words, list(range(LANES))))
        kind = ir.FunctionType(words, [words, mask.type, words])
        name = "llvm.experimental.vector.compress.v32i16"
        declare: Callable[..., Any] = cgutils.get_or_insert_function
        compress = declare(builder.module, kind, name)
        kept = builder.call(compress, [indices, mask, ir.Constant(words, ir.Undefined)])
        store(builder, kept, events, times(builder, count, 2))
        return builder.zext(builder.ctpop(builder.bitcast(mask, I32)), I64)

    return signature, generate


list_32: Callable[..., int] = _list_32


@intrinsic
def _move_events(_: Any, lists: Any, at: Any, count: Any, offset: Any, events: Any, n: Any) -> Any:
    """Copy `count` entries of `lists` from `at` on to `events[n:]`, each plus `offset`.

    Whole vectors are written: up to LANES entries behind them are overwritten.
    """
    signature = types.void(lists, at, count, offset, events, n)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lists, at, count, offset, events, n = pointers(context, builder, signature, args)
        words = vector(I16, LANES)
        moved = spread(builder, builder.trunc(offset, I16), words)
        source = builder.gep(lists, [times(builder, at, 2)])
        goal = builder.gep(events, [times(builder, n, 2)])
        with cgutils.for_range_slice(builder, I64(0), count, I64(LANES), I64) as (i, _):
            i2 = times(builder, i, 2)
            store(builder, builder.add(load(builder, source, i2, words), moved), goal, i2)
        return context.get_dummy_value()

    return signature, generate


move_events: Callable[..., None] = _move_events
