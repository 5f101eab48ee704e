"""The text of a network in C: header, weights, functions, and the two ways to call them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from lapilli.export.c.constants import Constant, declared, unpacker
from lapilli.export.c.memory import ARENAS, Layout, sample_layout, step_layout
from lapilli.export.c.planning import Plan, plan
from lapilli.export.c.stage import Stage
from lapilli.export.c.words import check_name, identifiers, in_comment
from lapilli.ir import ops
from lapilli.ir.graph import Graph
from lapilli.ir.types import TensorType


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

    def header(self, about: Iterable[str] = ()) -> str:
        """What a caller includes: sizes, types, units, and the functions.

        Args:
            about: further lines for the comment at its head.
        """
        return "\n".join(_header(self, about))

    def weights(self) -> str:
        """Arrays of constants."""
        return "\n".join(_weights(self))

    def code(self) -> str:
        """All functions."""
        return "\n".join(_code(self))


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


def _header(made: Sources, about: Iterable[str]) -> list[str]:
    graph, macro = made.plan.graph, made.macro
    lines = [
        f"/* {made.name}: a spiking network in integers, {graph.T} time steps a sample.",
        "   Written by lapilli; do not edit.",
        f"   Graph {graph.digest}",
        *(f"   {in_comment(line)}" for line in about),
        "",
        f"   Constants (flash): {made.flash} bytes, and the code.",
        f"   RAM, whole sample: {made.sample.bytes} bytes; one step per call: {made.step.bytes}"
        " bytes;",
        "   both are static, besides what the caller holds and a stack of a few hundred bytes. */",
        f"#ifndef {macro}_H",
        f"#define {macro}_H",
        "",
        "#include <stdint.h>",
        "",
        f"#define {macro}_STEPS {graph.T} /* time steps of a sample */",
    ]
    for what, names, params in (
        ("INPUT", graph.inputs, made.inputs), ("OUTPUT", graph.outputs, made.outputs),
    ):  # fmt: skip
        for name, parameter in zip(names, params, strict=True):
            size = math.prod(graph.types[name].shape)
            lines.append(
                f"#define {made.size(parameter)} {size} /* elements of one step of the "
                f"{what.lower()} {in_comment(name)}: {graph.types[name]} */"
            )
    return [
        *lines,
        "",
        "#ifdef __cplusplus",
        'extern "C" {',
        "#endif",
        "",
        *_told(made),
        f"#ifndef {macro}_NO_SAMPLE",
        f"{_sample_head(made)};",
        "#endif",
        "",
        "/* One step per call: reset, then as many calls as a sample has steps. Returns 0; or 1,",
        "   and computes nothing, where the sample has had all its steps: reset first. Each input",
        "   is that of this step, each output too. */",
        f"#ifndef {macro}_NO_STEP",
        f"void {made.name}_reset(void);",
        f"{_step_head(made)};",
        "#endif",
        "",
        f"#ifdef {macro}_WATCH",
        "/* Yours, if you define the macro: is shown the values of a node as soon as they are",
        "   there, from `step` on, as many `steps` as there are. */",
        f"{watch_head(made.name)};",
        "#endif",
        "",
        "#ifdef __cplusplus",
        "}",
        "#endif",
        "",
        "#endif",
        "",
    ]


def _told(made: Sources) -> list[str]:
    """The comment above the first function."""
    graph = made.plan.graph
    lines = ["/* A whole sample, from rest, layer by layer over all steps."]
    for name, parameter in zip(graph.inputs, made.inputs, strict=True):
        t = graph.types[name]
        lines += [
            f"   {parameter}: {_shaped(t)}, row-major, each in {t.range.lo} .. {t.range.hi}",
            f"   (no other value is computed exactly); {parameter}_step: elements from one step to",
            "   the next; 0 shows the same at every step.",
        ]
    for name, parameter in zip(graph.outputs, made.outputs, strict=True):
        t = graph.types[name]
        lines += [
            f"   {parameter}: {graph.T} steps of {_shaped(t)}, row-major, each in"
            f" {t.range.lo} .. {t.range.hi}.",
        ]
    lines[-1] += " */"
    return lines


def _shaped(t: TensorType) -> str:
    return " x ".join(map(str, t.shape)) or "1"


def _sample_head(made: Sources) -> str:
    graph, types = made.plan.graph, made.plan.types
    parameters = [
        f"const {types[n].name} *{p}, int32_t {p}_step"
        for n, p in zip(graph.inputs, made.inputs, strict=True)
    ]
    return f"void {made.name}_sample({', '.join([*parameters, *_results(made)])})"


def _step_head(made: Sources) -> str:
    graph, types = made.plan.graph, made.plan.types
    given = [f"const {types[n].name} *{p}" for n, p in zip(graph.inputs, made.inputs, strict=True)]
    return f"int32_t {made.name}_step({', '.join([*given, *_results(made)])})"


def watch_head(name: str) -> str:
    """The function that sees values, where a caller defines the macro."""
    return f"void {name}_watch(int32_t value, const void *elements, int32_t step, int32_t steps)"


def _results(made: Sources) -> list[str]:
    stages, positions = made.plan.stages, made.plan.outputs
    return [f"{stages[i].type.name} *{p}" for i, p in zip(positions, made.outputs, strict=True)]


def _weights(made: Sources) -> list[str]:
    lines = [
        f"/* Constants of {made.name}: {made.flash} bytes. Written by lapilli. */",
        f"#ifndef {made.macro}_WEIGHTS_H", f"#define {made.macro}_WEIGHTS_H", "",
        "#include <stdint.h>", "",
    ]  # fmt: skip
    for constant in made.constants:
        packing = f", {constant.bits} bits each, the lowest first" if constant.bits else ""
        lines += [
            f"/* {in_comment(constant.node)}: {constant.what} "
            f"{_sizes(constant.values.shape)}{packing} */",
            *declared(constant),
            "",
        ]
    return [*lines, "#endif", ""]


def _sizes(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "1"


def _code(made: Sources) -> list[str]:
    lines = [
        f"/* {made.name}. Written by lapilli; do not edit.",
        "   Functions take one time step, or all of a sample: t counts `steps`. A function of rows",
        "   computes a row (all channels of a place, all features of a token) for all steps before",
        "   the next one. States of neurons are kept from call to call where `kept` is 1; where it",
        "   is 0, each row begins at rest. */",
        f'#include "{made.name}.h"',
        f'#include "{made.name}_weights.h"',
        "",
        "#include <string.h>",
        "",
    ]
    packings = {c.bits: c for c in made.constants if c.bits}
    for bits in sorted(packings):
        lines += unpacker(packings[bits])
    for stage in made.plan.stages:
        lines += _function(made.plan, stage)
    lines += [f"#ifndef {made.macro}_NO_SAMPLE", *_sample(made), "#endif", ""]
    return [*lines, f"#ifndef {made.macro}_NO_STEP", *_step(made), "#endif", ""]


def _function(plan: Plan, stage: Stage) -> list[str]:
    lines, said = [], []
    for node in stage.nodes:
        shown = plan.graph.types[node.name]
        said.append(f"{in_comment(node.name)}: {_op(node.op)}, {shown}")
    lines.append("/* " + "\n   ".join(said) + " */")
    return [*lines, f"static void run_{stage.name}({', '.join(_parameters(stage))})", "{",
            *stage.body, "}", ""]  # fmt: skip


def _op(op: ops.Op) -> str:
    """An op as its comment says it."""
    match op:
        case ops.Linear(weight=w):
            return f"Linear {w.shape[1]} -> {w.shape[0]}"
        case ops.Conv2d(weight=w, stride=stride, padding=padding, groups=groups):
            return f"Conv2d {_sizes(w.shape)}, stride {stride}, padding {padding}, groups {groups}"
        case ops.Neuron(threshold=threshold, dv=dv, reset=reset):
            level = threshold.range
            told = str(level.lo) if level.lo == level.hi else f"{level.lo} .. {level.hi}"
            return f"Neuron, threshold {told}, decay {dv}/4096, reset {reset.value}"
        case _:
            return type(op).__name__


def _parameters(stage: Stage) -> list[str]:
    taken = []
    for operand in stage.operands:
        taken.append(f"const {operand.type.name} *{operand.name}")
        if not operand.step.isdigit():
            taken.append(f"int32_t {operand.step}")
    taken.append(f"{stage.type.name} *restrict y")
    taken += [f"{m.type.name} *restrict {m.name}" for m in (*stage.states, *stage.scratch)]
    return [*taken, "int32_t steps", *(["int32_t kept"] if stage.states else [])]


def _arenas(layout: Layout, prefix: str) -> list[str]:
    return [
        f"static {t.name} {prefix}_{8 * t.size}[{layout.sizes[t.name]}];"
        for t in ARENAS
        if t.name in layout.sizes
    ]


def _calls(made: Sources, layout: Layout, prefix: str, steps: str) -> Iterable[str]:
    """A call of each function, and what watches its value."""
    plan, kept = made.plan, prefix == "step"
    where = {s.node.name: i for i, s in enumerate(plan.stages) if i not in plan.outputs}
    given = dict(zip(plan.graph.inputs, made.inputs, strict=True))
    for i, stage in enumerate(plan.stages):
        taken = []
        for operand in stage.operands:
            buffer = operand.view.buffer
            if buffer in given:
                taken += [given[buffer], "0" if kept else f"{given[buffer]}_step"]
            else:
                taken.append(_place(layout, prefix, where[buffer], "y", plan.stages[where[buffer]]))
        copied = plan.outputs.index(i) if i in plan.outputs else None
        y = _place(layout, prefix, i, "y", stage) if copied is None else made.outputs[copied]
        taken.append(y)
        for memory in stage.states:
            if kept:
                taken.append(f"{stage.name}_{memory.name}")
            else:
                taken.append(_place(layout, prefix, i, memory.name, stage) if memory.row else "0")
        taken += [_place(layout, prefix, i, m.name, stage) for m in stage.scratch]
        taken += [steps] + ([str(int(kept))] if stage.states else [])
        yield f"    run_{stage.name}({', '.join(taken)});"
        if copied is None and stage.node.name in plan.watched:
            number, now = plan.watched.index(stage.node.name), "steps_done" if kept else "0"
            yield f"#ifdef {made.macro}_WATCH"
            yield f"    {made.name}_watch({number}, {y}, {now}, {steps});"
            yield "#endif"


def _place(layout: Layout, prefix: str, i: int, name: str, stage: Stage) -> str:
    types = {"y": stage.type, **{m.name: m.type for m in (*stage.states, *stage.scratch)}}
    kind, begin = types[name], layout.places[i, name]
    place = f"{prefix}_{8 * kind.size}" + (f" + {begin}" if begin else "")
    return place if kind.name == kind.arena else f"({kind.name} *)({place})"


def _sample(made: Sources) -> list[str]:
    return [
        f"/* RAM of a whole sample, {made.sample.bytes} bytes: values, and what functions work on,",
        "   in the places of those that are no longer needed. */",
        *_arenas(made.sample, "sample"),
        "",
        _sample_head(made),
        "{",
        *_calls(made, made.sample, "sample", f"{made.macro}_STEPS"),
        "}",
    ]


def _step(made: Sources) -> list[str]:
    states = [(f"{s.name}_{m.name}", m) for s in made.plan.stages for m in s.states]
    return [
        f"/* RAM of one step per call, {made.step.bytes} bytes: values of one step, and the states",
        "   of all neurons. */",
        *_arenas(made.step, "step"),
        *(f"static {m.type.name} {name}[{m.count}];" for name, m in states),
        "static int32_t steps_done;",
        "",
        f"void {made.name}_reset(void)",
        "{",
        *(f"    memset({name}, 0, sizeof {name});" for name, _ in states),
        "    steps_done = 0;",
        "}",
        "",
        _step_head(made),
        "{",
        f"    if (steps_done == {made.macro}_STEPS) {{",
        "        return 1;",
        "    }",
        *_calls(made, made.step, "step", "1"),
        "    steps_done++;",
        "    return 0;",
        "}",
    ]
