"""Functions that make a row at a time, and what they have in common.

A row is what all channels show at one place, or all features of one token. It is computed for all
time steps before the next one is, so that a whole sample needs the state of one row, and not that
of the layer. What is silent costs nothing but a look: first a list is made of what fires, without
a branch, then a row is added for each entry.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from lapilli.export.c.answers import Answer
from lapilli.export.c.code import COUNTERS, Axis, Code, at, axes, cast, nested, place
from lapilli.export.c.constants import Constant
from lapilli.export.c.integers import I16, I32, I64, U16, U32, Integer, work
from lapilli.export.c.stage import Memory, Operand
from lapilli.export.c.views import broadcast
from lapilli.ir.types import BINARY, IntRange, TensorType

_SUMS = (I16, I32, I64)


@dataclass(slots=True)
class Row:
    """A function of rows, as it is written.

    Attributes:
        name: with which the names of its constants begin.
        node: the name that comments give.
        shape: of the value; axis: the one along which a row lies; order: the others, from the
            slowest to the fastest.
        operands: of the synapse; given: their types.
        range: of what the synapse makes; type: of the value.
        answer: what is done with a sum; None if it is the value.
        frames: whether the first operand is an input, which may show one frame at every step.
    """

    name: str
    node: str
    shape: tuple[int, ...]
    axis: int
    order: tuple[int, ...]
    operands: tuple[Operand, ...]
    given: tuple[TensorType, ...]
    range: IntRange
    type: Integer
    answer: Answer | None
    frames: bool
    code: Code = field(default_factory=Code)
    scratch: list[Memory] = field(default_factory=list)
    constants: list[Constant] = field(default_factory=list)

    @property
    def width(self) -> int:
        """Elements of a row."""
        return self.shape[self.axis]

    @property
    def places(self) -> tuple[int, ...]:
        """The sizes of the other axes, in their order."""
        return tuple(self.shape[a] for a in self.order)

    def loops(self, *strides: Sequence[int]) -> list[Axis]:
        """Loops over places; each axis its own where constants are counted along, too.

        Args:
            strides: of each array, by axis of the value.
        """
        moved = [[s[a] for a in self.order] for s in strides]
        if self.answer is None or not self.answer.constants:
            return axes(self.places, moved)
        each = zip(*moved, strict=True) if moved else ((),) * len(self.places)
        return [Axis(n, tuple(m)) for n, m in zip(self.places, each, strict=True)]

    def sums(self, values: IntRange) -> Integer:
        """Take a row of sums, of the type that these partial sums need."""
        kind = next(t for t in _SUMS if values.lo in t.values and values.hi in t.values)
        self.scratch.append(Memory("sum", kind, self.width))
        return kind

    def events(self, fan_in: int) -> None:
        """Take the list of what fires of the first operand, and how often if not just once."""
        self.scratch.append(Memory("list", U16 if fan_in <= U16.values.hi else U32, fan_in))
        if not once(self.given[0]):
            self.scratch.append(Memory("times", self.operands[0].type, fan_in))

    def note(self, where: str, element: str) -> None:
        """Write `where` an element is to the list, and go on in it only if it fires."""
        index = next(m.type for m in self.scratch if m.name == "list")
        self.code.put(f"list[n] = {cast(index, where)};")
        if not once(self.given[0]):
            self.code.put(f"times[n] = {element};")
        self.code.put(f"n += {element} != 0;")

    def write(
        self, loops: list[Axis], accumulate: Callable[[], None], current: Callable[[str], str]
    ) -> None:
        """Write it all: places, then steps, then `accumulate` and what is done with each sum.

        Args:
            loops: over places.
            accumulate: writes what makes the sums of one row at step t.
            current: makes of an element's counter the expression of its current.
        """
        code, states = self.code, self.answer.states if self.answer else {}
        with nested(code, loops):
            if states:
                with code.block("if (!kept)"):
                    for name in states:
                        size = f"{self.width} * sizeof *{name}_state"
                        code.put(f"memset({name}_state, 0, {size});")
            with code.loop("t", "steps"):
                if self.frames:
                    with code.block("if (t == 0 || a_step != 0)"):
                        accumulate()
                else:
                    accumulate()
                with code.loop("o", self.width):
                    self._answered(current("o"))
            code.put(f"y += {self.width};")
            code.put(*(f"{name}_state += kept * {self.width};" for name in states))

    def _answered(self, current: str) -> None:
        size = self.width
        for n in self.places:
            size *= n
        y = f"y[t * {size} + o]"
        if self.answer is None:
            self.code.put(f"{y} = {cast(self.type, current)};")
            return
        where: dict[str, str] = {}
        for role, shape in self.answer.shapes.items():
            strides = broadcast(shape, self.shape)
            others = [strides[a] for a in self.order]
            where[role] = place(*zip(others, COUNTERS, strict=False), (strides[self.axis], "o"))
        state = {name: f"{name}_state[o]" for name in self.answer.states}
        plain = current.startswith("sum[") and current.endswith("]") and self._sum is not I64
        x = current if plain else cast(work(self.range), current)
        self.code.put(*self.answer.lines(x, where, state, y))

    @property
    def _sum(self) -> Integer:
        return next(m.type for m in self.scratch if m.name == "sum")


def once(x: TensorType) -> bool:
    """Whether what is not 0 is 1."""
    return x.range.lo in BINARY and x.range.hi in BINARY


def add(code: Code, kind: Integer, o: str, times: str, element: str) -> None:
    """Add an element, so many times, to one of the sums."""
    term = element if times == "1" else f"{times} * {element}"
    code.put(f"sum[{o}] = {cast(kind, f'sum[{o}] + {term}')};")


def point(code: Code, name: str, operand: Operand, loops: list[Axis], which: int) -> None:
    """Point to where a place's elements begin at step t."""
    where = at(loops, which, operand.view.offset)
    where = "" if where == "0" else f" + {where}"
    code.put(f"const {operand.type.name} *{name} = {operand.name} + t * {operand.step}{where};")
