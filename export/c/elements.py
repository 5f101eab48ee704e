"""Functions that make each element of a value on its own, or from a window, in C."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from lapilli.export.c.answers import Answer
from lapilli.export.c.code import Axis, Code, at, axes, cast, nested, place
from lapilli.export.c.integers import Integer, literal, work
from lapilli.export.c.stage import Memory, Operand
from lapilli.export.c.views import View, broadcast
from lapilli.ir import ops
from lapilli.ir.types import IntRange, TensorType


@dataclass(slots=True)
class Elements:
    """A function of elements, as it is written.

    Attributes:
        value: where they lie; type: theirs.
        operands, given: what they are made of, and its types.
        size: elements of the value's buffer.
    """

    value: View
    type: Integer
    operands: tuple[Operand, ...]
    given: tuple[TensorType, ...]
    size: int
    code: Code = field(default_factory=Code)

    def loops(self, *extra: Sequence[int]) -> list[Axis]:
        """Loops over all elements, in the order in which they lie, each once.

        The strides are those of the value, of each operand, then of each of `extra`.
        """
        order = self.value.order
        strides = [v.strides for v in (self.value, *(o.view for o in self.operands))]
        return axes(
            [self.value.shape[a] for a in order],
            [[s[a] for a in order] for s in (*strides, *extra)],
        )

    def element(self, loops: list[Axis], which: int) -> str:
        """An operand's element, inside the loops."""
        operand = self.operands[which]
        return (
            f"{operand.name}[{_stepped(operand.step, at(loops, which + 1, operand.view.offset))}]"
        )

    def target(self, loops: list[Axis]) -> str:
        """The value's element, inside the loops."""
        return f"y[{_stepped(str(self.size), at(loops, 0, self.value.offset))}]"


def _stepped(step: str, where: str) -> str:
    return f"t * {step}" if where == "0" else f"t * {step} + {where}"


def combine(made: Elements, op: ops.Add | ops.Gate | None, values: IntRange) -> None:
    """Write a sum, a product, or where `op` is None a copy."""
    loops, code = made.loops(), made.code
    wide = work(values, *(t.range for t in made.given))
    with code.loop("t", "steps"), nested(code, loops):
        a = made.element(loops, 0)
        if op is None:
            code.put(f"{made.target(loops)} = {a};")
            return
        b, sign = made.element(loops, 1), "+" if isinstance(op, ops.Add) else "*"
        said = f"{cast(wide, a)} {sign} {b}"
        code.put(f"{made.target(loops)} = {cast(made.type, said)};")


def join(made: Elements, axis: int) -> None:
    """Write copies of the two operands, one behind the other along an axis."""
    begin = 0
    with made.code.loop("t", "steps"):
        for operand, given in zip(made.operands, made.given, strict=True):
            shape, stride = operand.view.shape, made.value.strides[axis]
            part = View(made.value.buffer, shape, made.value.strides, begin * stride)
            one = Elements(part, made.type, (operand,), (given,), made.size, made.code)
            loops = one.loops()
            with nested(made.code, loops):
                made.code.put(f"{one.target(loops)} = {cast(made.type, one.element(loops, 0))};")
            begin += shape[axis]


def answer_each(made: Elements, answer: Answer) -> tuple[Memory, ...]:
    """Write what a node does with each element of a current; returns the state that it keeps."""
    code, roles = made.code, list(answer.shapes)
    constants = [broadcast(shape, made.value.shape) for shape in answer.shapes.values()]
    loops = made.loops(*constants)
    where = {role: at(loops, 2 + i) for i, role in enumerate(roles)}
    current, y = made.element(loops, 0), made.target(loops)
    if not answer.states:
        with code.loop("t", "steps"), nested(code, loops):
            code.put(*answer.lines(current, where, {}, y))
        return ()
    kept = {name: f"{name}_state[{at(loops, 0)}]" for name in answer.states}
    with nested(code, loops):
        for name, kind in answer.states.items():
            code.put(f"{kind.name} {name}_kept = 0;")
        with code.block("if (kept)"):
            code.put(*(f"{name}_kept = {place};" for name, place in kept.items()))
        with code.loop("t", "steps"):
            code.put(*answer.lines(current, where, {n: f"{n}_kept" for n in kept}, y))
        with code.block("if (kept)"):
            code.put(*(f"{place} = {name}_kept;" for name, place in kept.items()))
    return tuple(Memory(f"{n}_state", t, made.size) for n, t in answer.states.items())


def readout(made: Elements) -> tuple[Memory, ...]:
    """Write a sum over time; returns the state that it keeps."""
    code, loops = made.code, made.loops()
    kept = f"v_state[{at(loops, 0)}]"
    wide = work(made.type.values)
    with nested(code, loops):
        code.put(f"{made.type.name} v_kept = 0;")
        with code.block("if (kept)"):
            code.put(f"v_kept = {kept};")
        with code.loop("t", "steps"):
            said = f"{cast(wide, 'v_kept')} + {made.element(loops, 0)}"
            code.put(f"v_kept = {cast(made.type, said)};", f"{made.target(loops)} = v_kept;")
        with code.block("if (kept)"):
            code.put(f"{kept} = v_kept;")
    return (Memory("v_state", made.type, made.size),)


def add_up(made: Elements, op: ops.Sum, values: IntRange) -> None:
    """Write sums over axes."""
    code, (operand,) = made.code, made.operands
    x, wide = operand.view, work(values | IntRange(0, 0), made.given[0].range)
    inner = axes([x.shape[a] for a in op.axes], [[x.strides[a] for a in op.axes]])
    kept = [a for a in range(len(x.shape)) if a not in op.axes]
    shown = kept if not op.keepdims else list(range(len(x.shape)))
    strides = [0 if a in op.axes else x.strides[a] for a in shown]
    outer = axes(made.value.shape, [made.value.strides, strides])
    with code.loop("t", "steps"), nested(code, outer):
        code.put(f"{wide.name} sum = 0;")
        start = _stepped(operand.step, at(outer, 1, x.offset))
        with nested(code, inner, len(outer)):
            moved = at(inner, 0, first=len(outer))
            code.put(f"sum += {operand.name}[{start}{'' if moved == '0' else f' + {moved}'}];")
        code.put(f"{made.target(outer)} = {cast(made.type, 'sum')};")


def max_pool(made: Elements, op: ops.MaxPool2d) -> None:
    """Write the largest of each window; what lies outside the map never wins."""
    code, (operand,) = made.code, made.operands
    x, (C, H, W) = operand.view, made.value.shape
    wide = work(made.given[0].range)
    least = literal(made.given[0].range.lo)
    y = place(*zip(made.value.strides, ("c", "i", "j"), strict=True))
    start = place((x.strides[0], "c"), (x.strides[1], "r"), (x.strides[2], "s"), offset=x.offset)
    with (
        code.loop("t", "steps"), code.loop("i", H), code.loop("j", W), code.loop("c", C),
    ):  # fmt: skip
        code.put(f"{wide.name} most = {least};")
        with code.loop("ky", op.kernel[0]):
            code.put(f"const int32_t r = {place((op.stride[0], 'i'), (1, 'ky'))}"
                     f" - {op.padding[0]};")  # fmt: skip
            with code.loop("kx", op.kernel[1]):
                code.put(f"const int32_t s = {place((op.stride[1], 'j'), (1, 'kx'))}"
                         f" - {op.padding[1]};")  # fmt: skip
                inside = f"r >= 0 && r < {x.shape[1]} && s >= 0 && s < {x.shape[2]}"
                seen = f"{operand.name}[{_stepped(operand.step, start)}]"
                with code.block(f"if ({inside} && {seen} > most)"):
                    code.put(f"most = {seen};")
        code.put(f"y[{_stepped(str(math.prod(made.value.shape)), y)}] = {cast(made.type, 'most')};")
