"""Where everything lies in RAM: arrays shared by what is not needed at the same time.

An array holds elements of one size only: C lets no two types share memory, except signed and
unsigned of the same size.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lapilli.export.c.integers import I8, I16, I32, I64, Integer
from lapilli.export.c.planning import Plan

ARENAS = (I8, I16, I32, I64)


@dataclass(frozen=True, slots=True)
class Need:
    """Memory that one stage uses under a name, or that a value takes until its last reader."""

    stage: int
    name: str
    type: Integer
    count: int
    last: int

    @property
    def bytes(self) -> int:
        """What it takes."""
        return self.count * self.type.size

    def meets(self, other: Need) -> bool:
        """Whether both are needed at one moment."""
        return self.stage <= other.last and other.stage <= self.last


@dataclass(frozen=True, slots=True)
class Layout:
    """One way to call, in RAM.

    Attributes:
        places: (stage, name) -> element of its arena where it begins.
        sizes: elements of each arena, by its type's name.
        states: bytes of what is kept from step to step, besides.
        fullest: the stage during which most is in use, and the bytes.
    """

    places: Mapping[tuple[int, str], int]
    sizes: Mapping[str, int]
    states: int
    fullest: tuple[int, int]

    @property
    def bytes(self) -> int:
        """All of it."""
        return self.states + sum(t.size * self.sizes.get(t.name, 0) for t in ARENAS)


def sample_layout(plan: Plan) -> Layout:
    """Of a whole sample: values of all steps, the states of one row at a time."""
    return _layout(plan, plan.graph.T, rows=True)


def step_layout(plan: Plan) -> Layout:
    """Of one step per call: values of one step; all states stay."""
    return _layout(plan, 1, rows=False)


def _layout(plan: Plan, steps: int, *, rows: bool) -> Layout:
    found = list(_needs(plan, steps, rows=rows))
    places: dict[tuple[int, str], int] = {}
    sizes: dict[str, int] = {}
    for arena in ARENAS:
        here = [n for n in found if n.type.arena == arena.name]
        placed: list[tuple[int, Need]] = []
        for need in sorted(here, key=lambda n: (-n.count, n.stage, n.name)):
            begin = _gap(need, placed)
            placed.append((begin, need))
            places[need.stage, need.name] = begin
        if here:
            sizes[arena.name] = max(begin + need.count for begin, need in placed)
    states = 0 if rows else sum(m.count * m.type.size for s in plan.stages for m in s.states)
    used = [
        (sum(n.bytes for n in found if n.stage <= i <= n.last), -i) for i in range(len(plan.stages))
    ]
    most, stage = max(used)
    return Layout(places, sizes, states, (-stage, most))


def _gap(need: Need, placed: Iterable[tuple[int, Need]]) -> int:
    """The first place that nobody uses meanwhile."""
    begin = 0
    for start, other in sorted(placed, key=lambda p: p[0]):
        if other.meets(need):
            if start >= begin + need.count:
                break
            begin = max(begin, start + other.count)
    return begin


def _needs(plan: Plan, steps: int, *, rows: bool) -> Iterable[Need]:
    last = {
        operand.view.buffer: i for i, stage in enumerate(plan.stages) for operand in stage.operands
    }
    for i, stage in enumerate(plan.stages):
        if i not in plan.outputs:
            size = steps * math.prod(stage.value.shape)
            yield Need(i, "y", stage.type, size, max(i, last.get(stage.node.name, i)))
        for memory in stage.scratch:
            yield Need(i, memory.name, memory.type, memory.count, i)
        for memory in stage.states:
            if rows and memory.row:
                yield Need(i, memory.name, memory.type, memory.row, i)
