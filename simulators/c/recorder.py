"""The program that runs a network in C on whatever it reads, and writes down what is shown."""

from __future__ import annotations

import math

from lapilli.export.c.sources import Sources, watch_head

_MAIN = """
int main(int count, char **words)
{{
    const long samples = count < 3 ? 0 : strtol(words[2], 0, 10);
    for (long b = 0; b < samples; b++) {{
        if ({read}) {{
            return 2;
        }}
        if (strcmp(words[1], "step") != 0) {{
            const int32_t frame = strcmp(words[1], "still") != 0;
            {name}_sample({whole});
            {written}
            continue;
        }}
        {name}_reset();
        for (int32_t t = 0; t < {macro}_STEPS; t++) {{
            if ({name}_step({single}) != 0) {{
                return 3;
            }}
            {written_once}
        }}
    }}
    return fflush(stdout) != 0;
}}
"""


def recorder(made: Sources) -> str:
    """Write the program; its words are how to call (`sample`, `still` or `step`) and how often.

    It reads the inputs of one sample after the other, all steps of each, and writes the values
    that are watched in the order of their functions, then outputs: all steps of each, or step by
    step; as bytes of this machine.
    """
    plan, macro = made.plan, made.macro
    own = {s.node.name: s for i, s in enumerate(plan.stages) if i not in plan.outputs}
    sizes = [math.prod(own[n].value.shape) * own[n].type.size for n in plan.watched]
    types = [plan.types[n].name for n in plan.graph.inputs]
    results = [plan.stages[i].type.name for i in plan.outputs]
    given = zip([*types, *results], [*made.inputs, *made.outputs], strict=True)
    outputs = made.outputs
    whole = [f"{p}, frame * {made.size(p)}" for p in made.inputs]
    single = [f"{p} + t * {made.size(p)}" for p in made.inputs]
    main = _MAIN.format(
        name=made.name, macro=macro,
        read=" || ".join(f"fread({p}, sizeof {p}, 1, stdin) != 1" for p in made.inputs),
        whole=", ".join([*whole, *outputs]),
        single=", ".join([*single, *outputs]),
        written=" ".join(f"fwrite({p}, sizeof {p}, 1, stdout);" for p in outputs),
        written_once=" ".join(
            f"fwrite({p}, sizeof *{p}, {made.size(p)}, stdout);" for p in outputs
        ),
    )  # fmt: skip
    return "\n".join([
        f'#include "{made.name}.c"', "#include <stdio.h>", "#include <stdlib.h>", "",
        *(f"static {kind} {p}[{macro}_STEPS * {made.size(p)}];" for kind, p in given),
        f"static const size_t sizes[] = {{{', '.join(map(str, [*sizes, 0]))}}};", "",
        watch_head(made.name), "{", "    (void)step;",
        "    fwrite(elements, sizes[value], (size_t)steps, stdout);", "}", main,
    ])  # fmt: skip
