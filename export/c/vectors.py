"""Golden vectors in C, and the program that compares: what every node that fires must show."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lapilli.export.c.constants import array
from lapilli.export.c.integers import U8
from lapilli.export.c.sources import Sources
from lapilli.export.c.stage import Stage
from lapilli.export.c.words import in_string
from lapilli.ir.tensor import IntArray
from lapilli.ir.types import IntRange


@dataclass(frozen=True, slots=True, eq=False)
class Vectors:
    """Some samples, and what the graph makes of them.

    Attributes:
        inputs: name of an input -> (T, B, *shape).
        values: name of a node -> (T, B, *shape), of all that `Graph.recorded` names.
    """

    inputs: Mapping[str, IntArray]
    values: Mapping[str, IntArray]

    @property
    def samples(self) -> int:
        """How many there are."""
        return int(next(iter(self.inputs.values())).shape[1])


@dataclass(frozen=True, slots=True)
class _Shown:
    """A value that is compared: a stage that watches, or an output."""

    name: str
    stage: Stage
    range: IntRange
    first: int  # bit of a sample's vectors

    @property
    def bits(self) -> int:
        """Of each number."""
        return self.range.bits

    @property
    def size(self) -> int:
        """Numbers of one step."""
        return math.prod(self.stage.value.shape)


def compared(made: Sources, vectors: Vectors) -> int:
    """How many numbers the program compares, each way to call."""
    return vectors.samples * made.plan.graph.T * sum(s.size for s in _shown(made))


def header(made: Sources, vectors: Vectors) -> str:
    """The vectors: inputs as integers of their types, what is shown packed at its bits."""
    lines = [
        f"/* Golden vectors of {made.name}: {vectors.samples} samples. Written by lapilli. */",
        "#ifndef GOLDEN_H", "#define GOLDEN_H", "", "#include <stdint.h>", "",
        f"#define GOLDEN_SAMPLES {vectors.samples}", "",
    ]  # fmt: skip
    for name, parameter in zip(made.plan.graph.inputs, made.inputs, strict=True):
        frames = vectors.inputs[name].swapaxes(0, 1)
        frames = frames[:, :1] if is_still(vectors.inputs[name]) else frames
        kind, numbers = made.plan.types[name], frames.ravel().tolist()
        lines += [
            f"#define GOLDEN_{parameter.upper()}_FRAMES {frames.shape[1]} "
            "/* of a sample; 1: the same at each step */",
            *array(f"golden_{parameter}", kind, numbers), "",
        ]  # fmt: skip
    shown = _shown(made)
    bits = np.concatenate([_bits(s, vectors) for s in shown], axis=1)
    whole = np.packbits(bits, axis=1, bitorder="little")
    return "\n".join([
        *lines, *_table(shown), "",
        f"#define GOLDEN_BYTES {whole.shape[1]} /* of a sample */",
        *array("golden_bits", U8, whole.ravel().tolist()), "", "#endif", "",
    ])  # fmt: skip


def _table(shown: Sequence[_Shown]) -> list[str]:
    rows = [
        f"    {{{in_string(s.name)}, {s.size}, {s.stage.type.size}, {s.first}u, {s.bits}, "
        f"{int(s.stage.type.values.lo < 0)}, {int(s.range.lo < 0)}}},"
        for s in shown
    ]
    return [
        f"#define GOLDEN_VALUES {len(shown)} /* what is watched, then the outputs */",
        "struct golden_value {",
        "    const char *name;",
        "    int32_t size;   /* numbers of one step */",
        "    int32_t bytes;  /* of each where the network leaves it */",
        "    uint32_t first; /* bit of a sample's vectors at which its numbers begin */",
        "    uint32_t bits;  /* of each number there, the lowest first */",
        "    int32_t is_signed, has_sign; /* its type; its bits here */",
        "};",
        "static const struct golden_value golden_values[GOLDEN_VALUES] = {",
        *rows,
        "};",
    ]


def is_still(steps: IntArray) -> bool:
    """Whether (T, B, ...) shows the same at every step."""
    return bool((steps == steps[:1]).all())


def _shown(made: Sources) -> list[_Shown]:
    """Watched values, by their numbers, then outputs."""
    plan, first = made.plan, 0
    own = {s.node.name: s for i, s in enumerate(plan.stages) if i not in plan.outputs}
    shown: list[_Shown] = []
    for stage in (*(own[n] for n in plan.watched), *(plan.stages[i] for i in plan.outputs)):
        found = _Shown(stage.node.name, stage, plan.graph.types[stage.node.name].range, first)
        first += plan.graph.T * found.size * found.bits
        shown.append(found)
    return shown


def _bits(shown: _Shown, vectors: Vectors) -> npt.NDArray[np.uint8]:
    """Bits (B, T * size * bits) of a value, in the order in which it lies in its buffer."""
    lying = shown.stage.value.as_lying(vectors.values[shown.name].swapaxes(0, 1))
    places = np.arange(shown.bits, dtype=np.int64)
    each = (lying[..., None] >> places & 1).astype(np.uint8)
    return each.reshape(len(lying), -1)
