"""What layers do with rows: list events, add them up, multiply."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from lapilli.simulators.fast.kernels.adding import (
    add_rows_1,
    add_rows_3,
    add_rows_6,
    add_rows_half,
    list_32,
)
from lapilli.simulators.fast.kernels.jit import part
from lapilli.simulators.fast.kernels.multiplying import (
    dot_rows_1_1,
    dot_rows_1_3,
    dot_rows_8_1,
    dot_rows_8_3,
)
from lapilli.simulators.fast.sizes import LANES, MOST_UNWIDENED

Array = npt.NDArray[Any]
PANEL = 2 * LANES  # outputs whose weights stand in one vector of a row


@part
def list_events(
    x: Array, at: int, channels: int, negative: int, binary: bool, out: Array, to: int
) -> int:
    """List the events of `channels` values from `x[at]` on: i, once for each unit of value i.

    Operands:
        negative: added to the index of what is below 0.
        out: uint16, written from `to` on, with LANES entries to spare.

    Returns:
        How many there are.
    """
    n = to
    c = 0
    if binary:
        while c + LANES <= channels:
            n += list_32(x, at + c, c, out, n)
            c += LANES
    while c < channels:
        value = int(x[at + c])
        row = c if value > 0 else c + negative
        for _ in range(abs(value)):
            out[n] = row
            n += 1
        c += 1
    return n - to


@part
def add_events(table: Array, events: Array, count: int, bias: Array, total: Array, at: int) -> None:
    """Write `bias` and the rows of `table` that `events` names, added up, to `total[at:]`.

    Sums of 16 bits become 32 wide before they can overflow.

    Operands:
        table: int8 (rows, width) in panels, see `adding`; width a multiple of LANES.
        bias: int32 (width,); total: int32, flat.
    """
    width = table.shape[1]
    start, before, before_at = 0, bias, 0
    while True:
        stop = min(count, start + MOST_UNWIDENED)
        column = 0
        while column < width:
            panels = (width - column) // PANEL
            if panels >= 6:
                add_rows_6(table, width, events, start, stop, column, before, before_at, total, at)
                column += 6 * PANEL
            elif panels >= 3:
                add_rows_3(table, width, events, start, stop, column, before, before_at, total, at)
                column += 3 * PANEL
            elif panels:
                add_rows_1(table, width, events, start, stop, column, before, before_at, total, at)
                column += PANEL
            else:
                add_rows_half(
                    table, width, events, start, stop, column, before, before_at, total, at
                )
                column += LANES
        start, before, before_at = stop, total, at
        if start == count:
            break


@part
def multiply(
    rows: Array, first: int, pitch: int, count: int,
    packed: Array, bias: Array, total: Array, at: int,
) -> None:  # fmt: skip
    """Write `bias + rows @ weights` of `count` rows, one behind the other, to `total[at:]`.

    Operands:
        rows: uint8, flat; one row of 4 * quads begins at `first`, the next `pitch` behind it.
        packed: int8 (width / BLOCK, quads, BLOCK, 4): four inputs of an output stand together.
        bias: int32 (width,); total: int32, flat.
    """
    blocks, quads, width = packed.shape[0], packed.shape[1], bias.size
    block = 0
    while block < blocks:
        row = 0
        if blocks - block >= 3:
            while row + 8 <= count:
                dot_rows_8_3(rows, first + row * pitch, pitch, quads, packed, block,
                             bias, total, at + row * width, width)  # fmt: skip
                row += 8
            while row < count:
                dot_rows_1_3(rows, first + row * pitch, pitch, quads, packed, block,
                             bias, total, at + row * width, width)  # fmt: skip
                row += 1
            block += 3
        else:
            while row + 8 <= count:
                dot_rows_8_1(rows, first + row * pitch, pitch, quads, packed, block,
                             bias, total, at + row * width, width)  # fmt: skip
                row += 8
            while row < count:
                dot_rows_1_1(rows, first + row * pitch, pitch, quads, packed, block,
                             bias, total, at + row * width, width)  # fmt: skip
                row += 1
            block += 1
