"""The folder of `lapilli export --c`: portable C, its golden vectors, and a program that compares.

Reading order: `planning` and `fusing` (what becomes a function), `views` (what wiring costs:
nothing), `rows`, `synapses`, `products`, `elements` and `answers` (what is in a function), `memory`
(where values lie), `sources`, `header` and `functions` (the files), `vectors` and `checking` (the
proof beside them), this file (the folder).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lapilli.export.atomic import write_folder
from lapilli.export.c import checking
from lapilli.export.c import vectors as golden
from lapilli.export.c.functions import functions
from lapilli.export.c.header import header
from lapilli.export.c.memory import Layout
from lapilli.export.c.sources import Sources, sources, weights
from lapilli.export.c.vectors import Vectors
from lapilli.ir.errors import Unsupported, UnsupportedError
from lapilli.ir.network import Network

NAME = "network"  # of its functions and files, where none is given


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bytes that a user has; None is not asked for."""

    flash: int | None = None
    sample: int | None = None
    step: int | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """What a folder holds.

    Attributes:
        files: their names.
        flash: bytes of constants, without the code.
        sample, step: bytes of RAM of the two ways to call.
        values: numbers that its program compares.
        samples: golden vectors.
    """

    files: tuple[str, ...]
    flash: int
    sample: int
    step: int
    values: int
    samples: int


def save_c(
    network: Network,
    folder: Path,
    vectors: Vectors,
    *,
    name: str = NAME,
    limits: Limits | None = None,
) -> Written:
    """Write `network` to `folder`, whole or not at all; equal networks and vectors, equal bytes.

    Args:
        network: any.
        folder: a new one, or one without files.
        vectors: what its program compares with.
        name: with which all that other files see begins.
        limits: that it must keep.

    Raises:
        InputError: a name that C does not take.
        UnsupportedError: it needs more memory than the limits say, and where; or holds more
            numbers than 32 bits count.
        OutputError: the folder cannot be written, or has files in it.
    """
    made = sources(network.graph, name)
    check_limits(made, limits or Limits())
    files = {
        f"{name}.h": header(made, _about(network)),
        f"{name}.c": functions(made),
        f"{name}_weights.h": weights(made),
        "golden.h": golden.header(made, vectors),
        "main.c": checking.main(made),
        "Makefile": checking.makefile(made),
    }
    write_folder(folder, {file: text.encode("ascii") for file, text in files.items()})
    return Written(
        tuple(files), made.flash, made.sample.bytes, made.step.bytes,
        2 * golden.compared(made, vectors), vectors.samples,
    )  # fmt: skip


def check_limits(made: Sources, limits: Limits) -> None:
    """Refuse what needs more memory than there is; names the layer that takes most of it.

    Raises:
        UnsupportedError: a reason for each limit that does not hold.
    """
    reasons = []
    if limits.flash is not None and made.flash > limits.flash:
        sizes = {s.node.name: sum(c.bytes for c in s.constants) for s in made.plan.stages}
        most = max(sizes, key=lambda n: sizes[n])
        told = f"takes {sizes[most]:,} of the {made.flash:,} bytes of constants in flash"
        reasons.append(Unsupported(most, f"{told}; the limit is {limits.flash:,}"))
    for what, layout, limit in (
        ("a whole sample", made.sample, limits.sample),
        ("one step per call", made.step, limits.step),
    ):
        if limit is not None and layout.bytes > limit:
            reasons.append(_ram(made, layout, what, limit))
    if reasons:
        raise UnsupportedError("c", tuple(reasons))


def _ram(made: Sources, layout: Layout, what: str, limit: int) -> Unsupported:
    """Blame the layer with the largest state, or the one during which most is in use."""
    states = {s.node.name: sum(m.count * m.type.size for m in s.states) for s in made.plan.stages}
    stage, used = layout.fullest
    name, held = made.plan.stages[stage].node.name, "values and work"
    if layout.states > used:
        name = max(states, key=lambda n: states[n])
        used, held = states[name], "state"
    return Unsupported(
        name, f"takes {used:,} bytes of {held}, of the {layout.bytes:,} bytes of RAM that {what} "
              f"needs; the limit is {limit:,}",
    )  # fmt: skip


def _about(network: Network) -> Iterable[str]:
    """Units, as the header says them."""
    source = network.input
    names = [f"{i} {c}" for i, c in enumerate(network.classes)]
    if source.takes_pixels:
        yield "Input of a pixel p in 0 .. 255, channel c:"
        yield f"  round((p / 255 - mean[c]) / std[c] * 2^{source.exponent}), half to even,"
        yield f"  clipped to {source.lo} .. {source.hi}"
        yield f"  mean {', '.join(map(str, source.mean))}; std {', '.join(map(str, source.std))}"
    else:
        yield f"Input of a number x: round(x * 2^{source.exponent}), half to even,"
        yield f"  clipped to {source.lo} .. {source.hi}"
    if network.encoding is not None:
        yield f"  of images that are encoded first: {network.encoding}"
    for part in network.parts:
        yield f"  {part.size} numbers of input {part.name}, each times 2^{-part.exponent} first"
    if network.ids:
        yield f"  x is 1 for the token that it is, 0 for the other {network.ids - 1}"
    if not network.answers:
        yield f"Answer: the last step of the first output; a real logit is its integer times "\
              f"{network.logit_scale}"  # fmt: skip
    for position, answer in enumerate(network.answers):
        what = "every step" if answer.steps else "the last step"
        if answer.sees_steps and not answer.steps:
            what = "sums over steps, as the .lapilli file says,"
        yield f"Answer {answer.name}: {what} of output {position}, in units of {answer.scale}"
    shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    yield f"Classes: {shown or 'without names'}"
