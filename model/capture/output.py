"""Which of a module's results are answers, and what they depend on."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch.export.graph_signature import OutputKind
from torch.utils import _pytree as pytree

from lapilli.ir.errors import CaptureError
from lapilli.ir.recipe import OVER_TIME, Note, NoteKind, Result
from lapilli.model.capture import axes, program
from lapilli.model.capture.program import Call, ancestors
from lapilli.model.capture.returned import LAST_FUNCTIONS

aten = torch.ops.aten
EVERY = "*"  # asks for every tensor that is returned
LOGITS = "logits"
_OVER_TIME = re.compile(r"mean|sum|last|steps|last:[1-9][0-9]{0,4}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the user wants of what a module returns.

    Attributes:
        output: one result, by index or key; several of them; `EVERY`; or None, the first that
            looks like logits.
        over_time: what is taken of time steps, for all results, or by name.
        like: results that an earlier capture has found, instead.
    """

    output: int | str | Sequence[int | str] | None = None
    over_time: str | Mapping[str, str] = OVER_TIME[0]
    like: Sequence[Result] | None = None

    def __post_init__(self) -> None:
        said = self.over_time
        for text in said.values() if isinstance(said, Mapping) else [said]:
            if not _OVER_TIME.fullmatch(str(text)):
                raise CaptureError(
                    "", f"over_time {text!r} is none of {', '.join(OVER_TIME)} and last:K"
                )

    def over_time_of(self, name: str) -> str:
        """What is taken of the steps of this result.

        Raises:
            CaptureError: a result of this name is not among those that are asked for.
        """
        if self.like is not None:
            return next(r.over_time for r in self.like if r.name == name)
        said = self.over_time
        return said if isinstance(said, str) else said.get(name, OVER_TIME[0])

    def check_names(self, names: Sequence[str]) -> None:
        """Refuse a rule for a result that is none of these.

        Raises:
            CaptureError: names it.
        """
        said = self.over_time if isinstance(self.over_time, Mapping) else {}
        if odd := [name for name in said if name not in names]:
            raise CaptureError(
                "", f"over_time is given for {odd[0]!r}; its answers are {', '.join(names)}"
            )


def chosen(
    exported: torch.export.ExportedProgram, batch: int, asked: Asked, notes: list[Note]
) -> list[tuple[Result, Any]]:
    """Which results are answers, and the node of each; nothing is known of their axes yet.

    Raises:
        CaptureError: none is.
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
    found = choose_leaves(shapes, tree, batch, asked)
    if len(flat) > 1 and asked.output is None and asked.like is None:
        (leaf,) = found
        text = (
            f"returns {len(flat)} values; number {leaf} in the order written, of shape "
            f"{['B' if n == batch else n for n in shapes[leaf] or ()]}, is taken for the logits"
        )
        notes.append(Note(NoteKind.ANSWER, "", text))
    return [_undone(Result(leaf=leaf, name=name), flat[leaf]) for leaf, name in found.items()]


def _undone(result: Result, node: Any) -> tuple[Result, Any]:
    """Leave softmax and the like at the very end to the host."""
    dropped: list[str] = []
    while isinstance(node, torch.fx.Node) and node.target in LAST_FUNCTIONS:
        if node.target is aten.argmax.default and (len(node.args) < 2 or node.args[1] is None):
            break  # over all axes at once: of all samples together
        dropped.append(LAST_FUNCTIONS[node.target])
        node = node.args[0]
    return replace(result, dropped=tuple(dropped)), node


def choose_leaves(
    shapes: Sequence[tuple[int, ...] | None], tree: pytree.TreeSpec, batch: int, asked: Asked
) -> dict[int, str]:
    """Which results are answers, by their number in a tree walk, and their names.

    Args:
        shapes: of the results in the order of that walk; None for what is no tensor.
        tree: in which they were returned.
        batch: how many images were given.
        asked: what the user wants of them.

    Raises:
        CaptureError: there is no such output, or no tensor.
    """
    if asked.like is not None:
        return {result.leaf: result.name for result in asked.like}
    whole = pytree.tree_unflatten(list(range(len(shapes))), tree)
    if asked.output == EVERY:
        named = {leaf: _named(path) for path, leaf in pytree.tree_leaves_with_path(whole)}
        found = {leaf: name for leaf, name in named.items() if shapes[leaf] is not None}
        if not found:
            raise CaptureError("", "returns no tensor; it must return the logits [B, classes]")
        return {leaf: name or LOGITS for leaf, name in found.items()}
    if asked.output is None or isinstance(asked.output, int | str):
        return {_choose_leaf(whole, shapes, batch, asked.output): LOGITS}
    chosen = {_choose_leaf(whole, shapes, batch, key): str(key) for key in asked.output}
    if len(chosen) != len(asked.output) or not chosen:
        raise CaptureError("", f"needs results that differ, not {list(asked.output)}")
    return dict.fromkeys(chosen, LOGITS) if len(chosen) == 1 else chosen


def _named(path: Sequence[Any]) -> str:
    """Keys, indices and attributes on the way to a result, joined by dots."""
    parts = (getattr(p, "key", getattr(p, "idx", getattr(p, "name", p))) for p in path)
    return ".".join(map(str, parts))


def _choose_leaf(
    whole: Any, shapes: Sequence[tuple[int, ...] | None], batch: int, output: int | str | None
) -> int:
    within = whole
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


def laid_out(
    result: Result, given: Call, asked: Asked, notes: list[Note], *, per_sample: bool = False
) -> Result:
    """Find the axes of samples and of time steps in a result, and what is taken of the steps.

    With `per_sample` a result may have no samples: it is that of one.

    Raises:
        CaptureError: samples have no axis of their own; steps are asked for in no known way.
    """
    dims = given.dims
    if per_sample and len(dims) == 1 and not axes.named(dims[0]):
        return replace(result, batch=None)
    alone = [[f.name for f in dim] for dim in dims]
    kept = (dim for dim, names in zip(dims, alone, strict=True) if names not in (["B"], ["T"]))
    if alone.count(["B"]) != 1 or any(map(axes.named, kept)):
        raise CaptureError(
            "",
            f"returns {axes.show(dims)}; expected [B, classes], or any other axes, samples and "
            "time steps each on one of their own",
        )
    time = alone.index(["T"]) if ["T"] in alone else None
    over_time = asked.over_time_of(result.name)
    if time is not None and over_time == OVER_TIME[0]:
        text = "returns logits of each step; their mean over T is taken"
        notes.append(Note(NoteKind.ANSWER, "", text))
    if result.dropped:
        _check_dropped(result, time is not None and over_time in OVER_TIME[:2])
        text = f"its {' of '.join(result.dropped)} at the end is left to the host"
        notes.append(Note(NoteKind.ANSWER, "", text))
    return replace(result, batch=alone.index(["B"]), time=time, over_time=over_time)


def _check_dropped(result: Result, pooled: bool) -> None:
    """Refuse to take the mean of logits for that of what is made of them."""
    if pooled:
        raise CaptureError(
            "",
            f"returns {result.dropped[0]} of each step, and {result.over_time} over time of that "
            "is not that of the logits; ask for over_time='steps', or return the logits",
        )


def pooled(result: Result, given: Call, T: int) -> Call | None:
    """The operator that takes what an answer takes of a result's steps; None of none, or of each.

    Raises:
        CaptureError: more last steps than there are.
    """
    if result.time is None or result.keeps_steps:
        if result.last_steps > T:
            raise CaptureError("", f"has {T} time steps, fewer than {result.over_time} asks for")
        return None
    mean = result.over_time == OVER_TIME[0]
    op: program.Operator = program.Sum(axes=(), keepdims=False, mean=mean, time=True)
    if result.over_time == "last":
        op = program.Last()
    dims = (*given.dims[: result.time], *given.dims[result.time + 1 :])
    return Call(f"{given.name}.{result.over_time}", op, (given.name,), "", dims)


def living(calls: Mapping[str, Call], outputs: Sequence[str]) -> dict[str, Call]:
    """The calls that the answers depend on; others were steps on the way."""
    needed = ancestors(outputs, lambda name: calls[name].inputs)
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
