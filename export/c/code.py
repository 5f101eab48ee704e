"""Lines of C with their indentation, and loops over elements that lie apart."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from lapilli.export.c.integers import Integer

COUNTERS = ("i", "j", "l", "m", "p", "q", "d", "f")  # of loops over places


@dataclass(slots=True)
class Code:
    """A function's body as it is written."""

    lines: list[str] = field(default_factory=list)
    depth: int = 1

    def put(self, *lines: str) -> None:
        """Write lines at this depth."""
        self.lines += ["    " * self.depth + line for line in lines]

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        """Write `head { ... }` around what is written inside."""
        self.put(f"{head} {{")
        self.depth += 1
        yield
        self.depth -= 1
        self.put("}")

    @contextmanager
    def loop(self, name: str, count: int | str) -> Iterator[None]:
        """Repeat what is written inside; `name` counts from 0."""
        with self.block(f"for (int32_t {name} = 0; {name} < {count}; {name}++)"):
            yield


@dataclass(frozen=True, slots=True)
class Axis:
    """One loop: how often, and how far each of several arrays moves on."""

    count: int
    strides: tuple[int, ...]


def axes(shape: Sequence[int], strides: Sequence[Sequence[int]]) -> list[Axis]:
    """The fewest loops over a shape.

    Args:
        shape: from the slowest axis to the fastest.
        strides: of each array, axis by axis.
    """
    found: list[Axis] = []
    for count, *moved in zip(shape, *strides, strict=True):
        if count == 1:
            continue
        last = found[-1] if found else None
        if last and all(s == count * m for s, m in zip(last.strides, moved, strict=True)):
            found[-1] = Axis(last.count * count, tuple(moved))
        else:
            found.append(Axis(count, tuple(moved)))
    return found


@contextmanager
def nested(code: Code, loops: Sequence[Axis], first: int = 0) -> Iterator[None]:
    """Open these loops; their counters are `COUNTERS` from `first` on."""
    with ExitStack() as opened:
        for counter, axis in zip(COUNTERS[first:], loops, strict=False):
            opened.enter_context(code.loop(counter, axis.count))
        yield


def at(loops: Sequence[Axis], array: int, offset: int = 0, first: int = 0) -> str:
    """Where one of several arrays stands in these loops."""
    moved = ((axis.strides[array], c) for axis, c in zip(loops, COUNTERS[first:], strict=False))
    return place(*moved, offset=offset)


def cast(kind: Integer, expression: str) -> str:
    """An expression as a type.

    >>> from lapilli.export.c.integers import I32
    >>> cast(I32, "a[i]"), cast(I32, "a + b")
    ('(int32_t)a[i]', '(int32_t)(a + b)')
    """
    simple = re.fullmatch(r"\w+(\[[^\[\]]*\])?", expression)
    return f"({kind.name}){expression}" if simple else f"({kind.name})({expression})"


def place(*terms: tuple[int, str], offset: int = 0) -> str:
    """An index: the sum of counters times strides.

    >>> place((8, "i"), (1, "j"), (0, "k"), offset=3)
    'i * 8 + j + 3'
    """
    said = [name if stride == 1 else f"{name} * {stride}" for stride, name in terms if stride]
    said += [str(offset)] if offset else []
    return " + ".join(said) or "0"
