"""Which of a module's results holds the logits, and what they depend on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch.export.graph_signature import OutputKind
from torch.utils import _pytree as pytree

from lapilli.ir.errors import CaptureError
from lapilli.ir.recipe import Note, NoteKind
from lapilli.model.capture import axes, program
from lapilli.model.capture.axes import Factor
from lapilli.model.capture.program import Call, ancestors


def chosen(
    exported: torch.export.ExportedProgram,
    batch: int,
    output: int | str | None,
    leaf: int | None,
    notes: list[Note],
) -> tuple[int, Any]:
    """Which result holds the logits: its number in a tree walk, and its node.

    Raises:
        CaptureError: none does.
    """
    every = cast(
        "Sequence[Any]", exported.graph.output_node().args[0]
    )  # export returns a flat tuple
    specs = exported.graph_signature.output_specs
    flat = [  # without the buffers that the forward changes
        value
        for value, spec in zip(every, specs, strict=True)
        if spec.kind is OutputKind.USER_OUTPUT
    ]
    tree = cast("pytree.TreeSpec", exported.call_spec.out_spec)  # None only where nothing traced
    shapes = [tuple(v.meta["val"].shape) if isinstance(v, torch.fx.Node) else None for v in flat]
    found = choose_leaf(shapes, tree, batch, output, leaf)
    if len(flat) > 1 and output is None and leaf is None:
        text = (
            f"returns {len(flat)} values; number {found} in the order written, of shape "
            f"{['B' if n == batch else n for n in shapes[found] or ()]}, is taken for the logits"
        )
        notes.append(Note(NoteKind.ANSWER, "", text))
    return found, flat[found]


def choose_leaf(
    shapes: Sequence[tuple[int, ...] | None],
    tree: pytree.TreeSpec,
    batch: int,
    output: int | str | None,
    leaf: int | None,
) -> int:
    """Which result holds the logits, by its number in a tree walk.

    Args:
        shapes: of the results in the order of that walk; None for what is no tensor.
        tree: in which they were returned.
        batch: how many images were given.
        output: the index or key that the user asked for.
        leaf: the number that the user asked for.

    Raises:
        CaptureError: there is no such output, or no tensor.
    """
    if leaf is not None:
        return leaf
    within = pytree.tree_unflatten(list(range(len(shapes))), tree)
    if output is not None:
        try:
            within = within[output]
        except (LookupError, TypeError) as error:
            raise CaptureError("", f"returns no output {output!r}") from error
    tensors = {i: shape for i in pytree.tree_leaves(within) if (shape := shapes[i]) is not None}
    found = [i for i, shape in tensors.items() if len(shape) == 2 and shape[0] == batch]
    found += [i for i, shape in tensors.items() if len(shape) == 3 and shape[1] == batch]
    found += tensors
    if not found:
        raise CaptureError("", "returns no tensor; it must return the logits [B, classes]")
    return int(found[0])


def is_per_step(result: Call, batch: int, notes: list[Note], *, per_sample: bool = False) -> bool:
    """True if the answer has steps, whose mean is taken; of one sample it may have no batch."""
    dims = result.dims
    if per_sample and len(dims) == 1 and not axes.named(dims[0]):
        return False
    per_step = len(dims) == 3 and [f.name for f in dims[0]] == ["T"]
    left = dims[1:] if per_step else dims
    if len(left) != 2 or left[0] != (Factor("B", batch),) or axes.has(left[1:], "T"):
        raise CaptureError("", f"returns {axes.show(dims)}; expected [B, classes]")
    if per_step:
        text = "returns logits of each step; their mean over T is taken"
        notes.append(Note(NoteKind.ANSWER, "", text))
    return per_step


def living(calls: Mapping[str, Call], output: str) -> dict[str, Call]:
    """The calls that the answer depends on; others were steps on the way."""
    needed = ancestors([output], lambda name: calls[name].inputs)
    return {n: c for n, c in calls.items() if n in needed or isinstance(c.op, program.Input)}


def check_read(calls: Mapping[str, Call]) -> None:
    """Only the answer may read a membrane.

    Raises:
        CaptureError: another neuron depends on it; names the neuron that is read.
    """
    given = (i for c in calls.values() if isinstance(c.op, program.Neuron) for i in c.inputs)
    for name in ancestors(given, lambda name: calls[name].inputs):
        if isinstance(op := calls[name].op, program.Membrane):
            raise CaptureError(
                op.neuron.module,
                "its membrane drives other neurons; only the answer may read it, by its last "
                "step, or by a sum or a mean over time",
            )
