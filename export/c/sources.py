"""A network in C: its plan, its memory, its names, and its constants."""

from __future__ import annotations

from dataclasses import dataclass

from lapilli.export.c.constants import Constant, declared
from lapilli.export.c.memory import Layout, sample_layout, step_layout
from lapilli.export.c.planning import Plan, plan
from lapilli.export.c.words import check_name, identifiers, in_comment
from lapilli.ir.graph import Graph


@dataclass(frozen=True, slots=True)
class Sources:
    """A graph in C.

    Attributes:
        name: with which all that other files see begins.
        plan: its functions.
        sample, step: RAM of a whole sample, and of one step per call.
        inputs, outputs: names of parameters, in the graph's order.
    """

    name: str
    plan: Plan
    sample: Layout
    step: Layout
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def constants(self) -> tuple[Constant, ...]:
        """All numbers in flash."""
        return tuple(c for stage in self.plan.stages for c in stage.constants)

    @property
    def flash(self) -> int:
        """Bytes of numbers in flash; what the code takes, a compiler says."""
        return sum(c.bytes for c in self.constants)

    @property
    def macro(self) -> str:
        """What the names of its macros begin with."""
        return self.name.upper()

    def size(self, parameter: str) -> str:
        """The macro that says how many elements one step of an input or output has."""
        return f"{self.macro}_{parameter.upper()}_SIZE"


def sources(graph: Graph, name: str) -> Sources:
    """Say a graph in C.

    Raises:
        InputError: the name is none that C takes.
        UnsupportedError: as `planning.plan`.
    """
    check_name(name)
    planned = plan(graph)
    named = identifiers(planned.graph.inputs)
    inputs = tuple(f"{named[n]}_in" for n in planned.graph.inputs)
    keyed = [f"{n} {i}" if n in planned.graph.outputs[:i] else n
             for i, n in enumerate(planned.graph.outputs)]  # fmt: skip
    told = identifiers(keyed)
    outputs = tuple(f"{told[k]}_out" for k in keyed)
    return Sources(name, planned, sample_layout(planned), step_layout(planned), inputs, outputs)


def sample_head(made: Sources) -> str:
    """The function that takes a whole sample."""
    graph, types = made.plan.graph, made.plan.types
    parameters = [
        f"const {types[n].name} *{p}, int32_t {p}_step"
        for n, p in zip(graph.inputs, made.inputs, strict=True)
    ]
    return f"void {made.name}_sample({', '.join([*parameters, *_results(made)])})"


def step_head(made: Sources) -> str:
    """The function that takes one step."""
    graph, types = made.plan.graph, made.plan.types
    given = [f"const {types[n].name} *{p}" for n, p in zip(graph.inputs, made.inputs, strict=True)]
    return f"int32_t {made.name}_step({', '.join([*given, *_results(made)])})"


def watch_head(name: str) -> str:
    """The function that sees values, where a caller defines the macro."""
    return f"void {name}_watch(int32_t value, const void *elements, int32_t step, int32_t steps)"


def _results(made: Sources) -> list[str]:
    stages, positions = made.plan.stages, made.plan.outputs
    return [f"{stages[i].type.name} *{p}" for i, p in zip(positions, made.outputs, strict=True)]


def weights(made: Sources) -> str:
    """The file of constants."""
    lines = [
        f"/* Constants of {made.name}: {made.flash} bytes. Written by lapilli. */",
        f"#ifndef {made.macro}_WEIGHTS_H", f"#define {made.macro}_WEIGHTS_H", "",
        "#include <stdint.h>", "",
    ]  # fmt: skip
    for constant in made.constants:
        packing = f", {constant.bits} bits each, the lowest first" if constant.bits else ""
        lines += [
            f"/* {in_comment(constant.node)}: {constant.what} "
            f"{sizes(constant.values.shape)}{packing} */",
            *declared(constant),
            "",
        ]
    return "\n".join([*lines, "#endif", ""])


def sizes(shape: tuple[int, ...]) -> str:
    """A shape as comments say it."""
    return " x ".join(map(str, shape)) or "1"
