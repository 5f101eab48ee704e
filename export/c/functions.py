"""The functions of a network in C: one for each stage, and the two ways to call them all."""

from __future__ import annotations

from collections.abc import Iterable

from lapilli.export.c.constants import unpacker
from lapilli.export.c.memory import ARENAS, Layout
from lapilli.export.c.planning import Plan
from lapilli.export.c.sources import Sources, sample_head, sizes, step_head
from lapilli.export.c.stage import Stage
from lapilli.export.c.words import in_comment
from lapilli.ir import ops


def functions(made: Sources) -> str:
    """All of them, and the memory that they share."""
    lines = [
        f"/* {made.name}. Written by lapilli; do not edit.",
        "   Functions take one time step, or all of a sample: t counts `steps`. A function of rows",
        "   computes a row (all channels of a place, all features of a token) for all steps before",
        "   the next one. States of neurons are kept from call to call where `kept` is 1; where it",
        "   is 0, each row begins at rest. `now`: steps of the sample that are behind. */",
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
    return "\n".join([*lines, f"#ifndef {made.macro}_NO_STEP", *_step(made), "#endif", ""])


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
            return f"Conv2d {sizes(w.shape)}, stride {stride}, padding {padding}, groups {groups}"
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
    taken += ["int32_t steps", *(["int32_t kept"] if stage.states else [])]
    return [*taken, *(["int32_t now"] if stage.timed else [])]


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
        taken += ["steps_done" if kept else "0"] if stage.timed else []
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
        sample_head(made),
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
        step_head(made),
        "{",
        f"    if (steps_done == {made.macro}_STEPS) {{",
        "        return 1;",
        "    }",
        *_calls(made, made.step, "step", "1"),
        "    steps_done++;",
        "    return 0;",
        "}",
    ]
