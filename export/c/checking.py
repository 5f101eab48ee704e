"""The files beside a network in C: the program that compares it with golden vectors, a Makefile."""

from __future__ import annotations

from lapilli.export.c.sources import Sources, watch_head

_COMPARE = """
static uint32_t compared, different;
static int32_t sample;

/* The number that a value must show at an index that counts all steps. */
static int64_t expected(const struct golden_value *value, int32_t index)
{
    const uint8_t *from = golden_bits + (uint32_t)sample * (uint32_t)GOLDEN_BYTES;
    const uint32_t first = value->first + (uint32_t)index * value->bits;
    uint64_t word = 0;
    for (uint32_t b = 0; b < value->bits; b++) {
        const uint32_t bit = first + b;
        word |= (uint64_t)(from[bit >> 3] >> (bit & 7u) & 1u) << b;
    }
    if (value->has_sign && word >> (value->bits - 1) & 1u) {
        /* Two's complement, without a conversion that C leaves open. */
        const uint64_t below = ~word & ((UINT64_C(1) << (value->bits - 1)) - 1);
        return -(int64_t)below - 1;
    }
    return (int64_t)word;
}

static int64_t shown(const struct golden_value *value, const void *elements, int32_t i)
{
    switch (value->bytes) {
    case 1:
        return value->is_signed ? ((const int8_t *)elements)[i] : ((const uint8_t *)elements)[i];
    case 2:
        return ((const int16_t *)elements)[i];
    case 4:
        return ((const int32_t *)elements)[i];
    default:
        return ((const int64_t *)elements)[i];
    }
}

static void compare(int32_t number, const void *elements, int32_t step, int32_t steps)
{
    const struct golden_value *value = golden_values + number;
    for (int32_t i = 0; i < steps * value->size; i++) {
        const int64_t want = expected(value, step * value->size + i);
        const int64_t have = shown(value, elements, i);
        compared++;
        if (have != want && different++ == 0) {
            printf("sample %ld, step %ld: element %ld of %s, as it lies, is %ld, expected %ld\\n",
                   (long)sample, (long)(step + i / value->size), (long)(i % value->size),
                   value->name, (long)have, (long)want);
        }
    }
}
"""

_MAKEFILE = """# make check: compile for this machine, compare with golden vectors.
# make size: bytes of flash (text) and RAM (data, bss) of the network alone.
# For another machine: make size CC=arm-none-eabi-gcc SIZE=arm-none-eabi-size \\
#     CFLAGS='-std=c99 -Os -mcpu=cortex-m4 -mthumb'
CC = cc
SIZE = size
CFLAGS = -std=c99 -O2 -Wall -Wextra -Wconversion

.PHONY: check size clean

check: check_{name}
	./check_{name}

check_{name}: main.c golden.h {name}.c {name}.h {name}_weights.h
	$(CC) $(CFLAGS) -D{macro}_WATCH -o $@ main.c {name}.c

size: {name}_sample.o {name}_step.o
	$(SIZE) {name}_sample.o {name}_step.o

{name}_sample.o: {name}.c {name}.h {name}_weights.h
	$(CC) $(CFLAGS) -D{macro}_NO_STEP -c -o $@ {name}.c

{name}_step.o: {name}.c {name}.h {name}_weights.h
	$(CC) $(CFLAGS) -D{macro}_NO_SAMPLE -c -o $@ {name}.c

clean:
	rm -f check_{name} {name}_sample.o {name}_step.o
"""


def main(made: Sources) -> str:
    """The program: golden vectors through both ways to call, every number compared."""
    plan, macro, name = made.plan, made.macro, made.name
    inputs = list(zip(plan.graph.inputs, made.inputs, strict=True))
    first = len(plan.watched)
    results = [
        f"static {plan.stages[i].type.name} {p}[{macro}_STEPS * {made.size(p)}];"
        for i, p in zip(plan.outputs, made.outputs, strict=True)
    ]
    frames = [
        (f"sample * GOLDEN_{p.upper()}_FRAMES", f"(GOLDEN_{p.upper()}_FRAMES > 1)", p)
        for _, p in inputs
    ]
    whole = [f"golden_{p} + {f} * {made.size(p)}, {many} * {made.size(p)}" for f, many, p in frames]
    single = [f"golden_{p} + ({f} + {many} * t) * {made.size(p)}" for f, many, p in frames]
    checks = [f"compare({first + i}, {p}, " for i, p in enumerate(made.outputs)]
    return "\n".join([
        f"/* Runs {name} on golden vectors, both ways to call, and compares every number: what",
        "   all nodes that fire show at every step, and the outputs. Written by lapilli. */",
        "#include <stdio.h>", "", f'#include "{name}.h"', '#include "golden.h"', _COMPARE,
        watch_head(name),
        "{", "    compare(value, elements, step, steps);", "}", "",
        *results, "",
        "int main(void)", "{",
        "    for (sample = 0; sample < GOLDEN_SAMPLES; sample++) {",
        f"#ifndef {macro}_NO_SAMPLE",
        f"        {name}_sample({', '.join([*whole, *made.outputs])});",
        *(f"        {c}0, {macro}_STEPS);" for c in checks),
        "#endif",
        f"#ifndef {macro}_NO_STEP",
        f"        {name}_reset();",
        f"        for (int32_t t = 0; t < {macro}_STEPS; t++) {{",
        f"            if ({name}_step({', '.join([*single, *made.outputs])}) != 0) {{",
        '                printf("FAIL: a step was refused\\n");',
        "                return 1;",
        "            }",
        *(f"            {c}t, 1);" for c in checks),
        "        }",
        "#endif",
        "    }",
        "    if (different != 0 || compared == 0) {",
        '        printf("FAIL: %lu of %lu values differ\\n", (unsigned long)different,',
        "               (unsigned long)compared);",
        "        return 1;",
        "    }",
        '    printf("PASS: %lu values of %ld samples are equal\\n", (unsigned long)compared,',
        "           (long)GOLDEN_SAMPLES);",
        "    return 0;", "}", "",
    ])  # fmt: skip


def makefile(made: Sources) -> str:
    """Rules to check it here, and to learn its size anywhere."""
    return _MAKEFILE.format(name=made.name, macro=made.macro)
