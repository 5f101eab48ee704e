"""Linear maps and convolutions in C: a row of weights for each element that fires."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lapilli.export.c.code import Axis, cast, place
from lapilli.export.c.constants import Constant, weights
from lapilli.export.c.integers import Integer, literal, work
from lapilli.export.c.rows import Row, add, once, point
from lapilli.export.c.stage import Memory
from lapilli.ir import ops
from lapilli.ir.tensor import IntArray
from lapilli.ir.types import IntRange, Kind

_ZERO = IntRange(0, 0)


def linear(row: Row, op: ops.Linear) -> None:
    """Write a linear map: of each feature that fires, its row of weights."""
    (a,), (x,) = row.operands, row.given
    synapse = _Synapse.of(row, op, op.weight.mantissa.array.T)
    loops = row.loops(a.view.strides[:-1])
    element = f"from[{place((a.view.strides[-1], 'c'))}]"
    dense = x.kind is Kind.GRADED
    if not dense:
        row.events(x.shape[-1])

    def accumulate() -> None:
        point(row.code, "from", a, loops, 0)
        synapse.start()
        with row.code.loop("c", x.shape[-1]):
            if dense:
                synapse.weigh(element, "c")
            else:
                row.note("c", element)
        if not dense:
            synapse.weigh_list()

    row.write(loops, accumulate, synapse.current)


def conv2d(row: Row, op: ops.Conv2d) -> None:
    """Write a convolution: of each element of a window that fires, a weight for every channel."""
    (a,), (x,) = row.operands, row.given
    _, Cg, kh, kw = op.weight.shape
    out, dense = row.width // op.groups, op.groups > 1 or x.kind is Kind.GRADED
    # (groups, kh, kw, in, out): what one element brings lies together.
    shape = (op.groups, out, Cg, kh, kw)
    synapse = _Synapse.of(row, op, op.weight.mantissa.array.reshape(shape).transpose(0, 3, 4, 2, 1))
    code, channel = row.code, a.view.strides[0]
    element = f"in[{place((channel, 'c'))}]"
    first = "" if op.groups == 1 else place((out, "g"))
    if not dense:
        row.events(Cg * kh * kw)

    def window() -> None:
        with code.loop("ky", kh):
            _inside(row, op, 0, "r", "i", "ky")
            with code.loop("kx", kw):
                _inside(row, op, 1, "s", "j", "kx")
                group = () if op.groups == 1 else ((channel * Cg, "g"),)
                origin = place((a.view.strides[1], "r"), (a.view.strides[2], "s"), *group)
                code.put(f"const {a.type.name} *in = from + {origin};")
                tap = "ky" if op.groups == 1 else f"(g * {kh} + ky)"
                column = f"({tap} * {kw} + kx) * {Cg} + c"
                with code.loop("c", Cg):
                    if dense:
                        synapse.weigh(element, f"({column})", out, first)
                    else:
                        row.note(column, element)

    def accumulate() -> None:
        point(code, "from", a, [], 0)
        synapse.start()
        if op.groups == 1:
            window()
        else:
            with code.loop("g", op.groups):
                window()
        if not dense:
            synapse.weigh_list()

    row.write([Axis(n, ()) for n in row.places], accumulate, synapse.current)


def _inside(row: Row, op: ops.Conv2d, axis: int, name: str, place_: str, tap: str) -> None:
    """Say which row or column of the map a tap of the kernel sees, and leave out the padding."""
    if not row.operands[0].view.strides[1 + axis] and not op.padding[axis]:
        return  # all are the same
    size, kernel = row.given[0].shape[1 + axis], op.weight.shape[2 + axis]
    stride, padding, last = op.stride[axis], op.padding[axis], row.shape[1 + axis] - 1
    moved = place((stride, place_), (1, tap))
    row.code.put(f"const int32_t {name} = {moved}{f' - {padding}' if padding else ''};")
    if padding or last * stride + kernel > size:
        with row.code.block(f"if ({name} < 0 || {name} >= {size})"):
            row.code.put("continue;")


@dataclass(frozen=True, slots=True)
class _Synapse:
    """The weights and biases of a map; sums count weights without the power of two they share.

    Attributes:
        sums, products: the types in which these are computed.
    """

    row: Row
    weight: Constant
    bias: Constant | None
    exponent: int
    sums: Integer
    products: Integer

    @classmethod
    def of(cls, row: Row, op: ops.Weighted, matrix: IntArray) -> _Synapse:
        """Take constants and memory for weights (..., out), in the order in which they lie."""
        weight = weights(
            f"{row.name}_weight", row.node, "weights", matrix.reshape(-1, matrix.shape[-1])
        )
        row.constants.append(weight)
        bias = None
        if np.any(op.bias.array):
            bias = Constant(f"{row.name}_bias", row.node, "biases", op.bias.array)
            row.constants.append(bias)
        if weight.bits:
            row.scratch.append(Memory("row", weight.unpacked, matrix.shape[-1]))
        x, exponent = row.given[0].range | _ZERO, op.weight.exponent
        products = work(x, x * (op.weight.mantissa.range | _ZERO))
        sums = row.sums(_partial(op, x))
        return cls(row, weight, bias, exponent, sums, products)

    def start(self) -> None:
        """Write what fills the sums with biases, or with zeros, and empties the list."""
        code, width = self.row.code, self.row.width
        if self.exponent or self.bias is None:
            code.put(f"memset(sum, 0, {width} * sizeof *sum);")
        elif self.bias.type is self.sums:
            code.put(f"memcpy(sum, {self.bias.name}, {width} * sizeof *sum);")
        else:
            with code.loop("o", width):
                code.put(f"sum[o] = {self.bias.name}[o];")
        if any(m.name == "list" for m in self.row.scratch):
            code.put("int32_t n = 0;")

    def weigh_list(self) -> None:
        """Write what adds a row of weights for each entry of the list."""
        times = "1" if once(self.row.given[0]) else "k"
        with self.row.code.loop("e", "n"):
            if times == "k":
                self.row.code.put(f"const {self.products.name} k = times[e];")
            self._add("(int32_t)list[e]", self.row.width, times, "")

    def weigh(self, element: str, column: str, count: int = 0, first: str = "") -> None:
        """Write what adds a row of weights times an element, unless it is 0."""
        self.row.code.put(f"const {self.products.name} k = {element};")
        with self.row.code.block("if (k != 0)"):
            self._add(column, count or self.row.width, "k", first)

    def _add(self, column: str, count: int, times: str, first: str) -> None:
        """Add the `count` weights of a column to the sums from `first` on."""
        code, kind = self.row.code, self.weight.unpacked.name
        start, w = column if count == 1 else f"{column} * {count}", "w"
        if self.weight.bits:
            start = f"(uint32_t){start if count == 1 else f'({start})'}"
            code.put(f"unpack_{self.weight.bits}({self.weight.name}, {start}, {count}, row);")
            w = "row"
        else:
            code.put(f"const {kind} *w = {self.weight.name} + {start};")
        if count == 1:
            add(code, self.sums, first or "0", times, f"{w}[0]")
            return
        with code.loop("o", count):
            add(code, self.sums, f"{first} + o" if first else "o", times, f"{w}[o]")

    def current(self, o: str) -> str:
        """The current of an element of the row."""
        if not self.exponent:
            return f"sum[{o}]"
        factor = 1 << self.exponent
        wide = work(self.sums.values.times(factor), self.row.range)
        said = f"{cast(wide, f'sum[{o}]')} * {literal(factor)}"
        return f"{said} + {self.bias.name}[{o}]" if self.bias else said


def _partial(op: ops.Weighted, x: IntRange) -> IntRange:
    """All that the sums of any of a row's terms can be; biases are in, if they are added first."""
    mantissas = op.weight.mantissa.array.reshape(op.weight.shape[0], -1)
    up, down = (m.sum(axis=1).astype(object) for m in (mantissas.clip(0), mantissas.clip(max=0)))
    bias = up * 0 if op.weight.exponent else op.bias.array.astype(object)
    most, least = bias + x.hi * up + x.lo * down, bias + x.lo * up + x.hi * down
    return IntRange(int(least.min()), int(most.max()))
