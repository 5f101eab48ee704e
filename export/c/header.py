"""The header of a network in C: what its caller must know."""

from __future__ import annotations

import math
from collections.abc import Iterable

from lapilli.export.c.sources import Sources, sample_head, step_head, watch_head
from lapilli.export.c.words import in_comment
from lapilli.ir.types import TensorType


def header(made: Sources, about: Iterable[str] = ()) -> str:
    """Sizes, types, units, and the functions.

    Args:
        made: the network.
        about: further lines for the comment at its head.
    """
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
    return "\n".join([
        *lines,
        "",
        "#ifdef __cplusplus",
        'extern "C" {',
        "#endif",
        "",
        *_told(made),
        f"#ifndef {macro}_NO_SAMPLE",
        f"{sample_head(made)};",
        "#endif",
        "",
        "/* One step per call: reset, then as many calls as a sample has steps. Returns 0; or 1,",
        "   and computes nothing, where the sample has had all its steps: reset first. Each input",
        "   is that of this step, each output too. */",
        f"#ifndef {macro}_NO_STEP",
        f"void {made.name}_reset(void);",
        f"{step_head(made)};",
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
    ])  # fmt: skip


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
