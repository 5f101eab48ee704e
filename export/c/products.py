"""Products of two values in C: gated sums, and sums of what powers of two shift."""

from __future__ import annotations

from lapilli.export.c.code import Axis, place
from lapilli.export.c.integers import I32, I64, Integer, literal, work
from lapilli.export.c.rows import Row, add, once, point
from lapilli.ir import ops
from lapilli.ir.types import IntRange

_ZERO = IntRange(0, 0)


def spike_matmul(row: Row) -> None:
    """Write a matrix product: of each element of the left operand that is not 0, a row."""
    a, b = row.operands
    loops, code, inner = _loops(row), row.code, row.given[0].shape[-1]
    row.events(inner)
    kind = row.sums(row.range | _ZERO)
    wide = work(row.range, *(t.range for t in row.given))

    def accumulate() -> None:
        point(code, "from", a, loops, 0)
        point(code, "rows", b, loops, 1)
        code.put(f"memset(sum, 0, {row.width} * sizeof *sum);", "int32_t n = 0;")
        with code.loop("c", inner):
            row.note("c", f"from[{place((a.view.strides[-1], 'c'))}]")
        with code.loop("e", "n"):
            if not once(row.given[0]):
                code.put(f"const {wide.name} k = times[e];")
            _add_row(row, "(int32_t)list[e]", kind, "1" if once(row.given[0]) else "k")

    row.write(loops, accumulate, lambda o: f"sum[{o}]")


def shift_sum(row: Row, op: ops.ShiftSum) -> None:
    """Write a sum of shifts: the power of two above a row's scores, then each row shifted."""
    a, b = row.operands
    scores, values = row.given
    loops, code, inner = _loops(row), row.code, scores.shape[-1]
    most = max(1, values.range.magnitude) << op.reach
    kind = row.sums(IntRange(-most, most))
    wide = work(scores.range.times(2), IntRange(-128, 128))
    power = I64 if kind is I64 else I32
    score = f"from[{place((a.view.strides[-1], 'c'))}]"

    def accumulate() -> None:
        point(code, "from", a, loops, 0)
        point(code, "rows", b, loops, 1)
        code.put(f"{wide.name} most = from[0];", "int64_t total = 0;", "int32_t gamma = 0;")
        with code.loop("c", inner):
            code.put(f"most = {score} > most ? {score} : most;")
        with code.loop("c", inner):
            code.put(f"const {wide.name} below = most - {score};")
            with code.block(f"if (below <= {op.window})"):
                code.put(f"total += (int64_t)1 << ({op.window} - below);")
        with code.block("while (((int64_t)1 << gamma) < total)"):
            code.put("gamma++;")
        code.put(f"gamma -= {op.window};", f"memset(sum, 0, {row.width} * sizeof *sum);")
        with code.loop("c", inner):
            code.put(f"const {wide.name} left = {op.reach} - gamma - (most - {score});")
            with code.block("if (left >= 0)"):
                code.put(f"const {power.name} k = ({power.name})1 << left;")
                _add_row(row, "c", kind, "k")

    divided = f" / {literal(1 << op.reach)}" if op.reach else ""
    row.write(loops, accumulate, lambda o: f"sum[{o}]{divided}")


def _loops(row: Row) -> list[Axis]:
    a, b = row.operands
    return row.loops(a.view.strides[:-1], (*b.view.strides[:-2], 0))


def _add_row(row: Row, number: str, kind: Integer, times: str) -> None:
    """Add a row of the right operand, so many times."""
    down, across = row.operands[1].view.strides[-2:]
    row.code.put(f"const {row.operands[1].type.name} *w = rows + {place((down, number))};")
    with row.code.loop("o", row.width):
        add(row.code, kind, "o", times, f"w[{place((across, 'o'))}]")
