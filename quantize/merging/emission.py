"""The program anew, with merged maps in the place of what they were merged from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from lapilli.ir.errors import QuantizeError
from lapilli.ir.recipe import Note, NoteKind
from lapilli.model.capture import program
from lapilli.model.capture.program import Call, Captured, FloatArray, ancestors
from lapilli.quantize.merging.values import LinearValue, common_path


@dataclass(frozen=True, slots=True, eq=False)
class Fused:
    """What the walk over a program found.

    Attributes:
        calls: by name, as they are where nothing is merged.
        maps: call name -> the linear map that its value is.
        must_fuse: calls that only a merged map can replace.
        before: call name -> calls to put before it.
        constants: of the program and of those calls.
    """

    calls: Mapping[str, Call]
    maps: Mapping[str, LinearValue]
    must_fuse: AbstractSet[str]
    before: Mapping[str, Sequence[Call]]
    constants: Mapping[str, FloatArray]


def emit(captured: Captured, fused: Fused) -> Captured:
    """Emit merged maps for what needs them, and drop what nobody reads any more.

    Raises:
        QuantizeError: a frame around a map is left that no convolution took up.
    """
    needed = ancestors(captured.outputs, lambda name: _read_by(fused, name))
    calls: dict[str, Call] = {}
    constants = dict(fused.constants)
    notes = list(captured.notes)
    for call in fused.calls.values():
        if call.name not in needed and call.inputs:
            continue
        new = [*fused.before.get(call.name, ()), call]
        if call.name in fused.must_fuse:
            mine = fused.maps[call.name]
            new = _merged(call, mine, constants)
            notes += _noted(mine)
        calls.update({c.name: c for c in new})
    return replace(captured, calls=calls, constants=constants, notes=tuple(dict.fromkeys(notes)))


def _read_by(fused: Fused, name: str) -> list[str]:
    """The calls that a call will read once it is merged."""
    own = [fused.maps[name].source] if name in fused.must_fuse else fused.calls[name].inputs
    beside = (i for c in fused.before.get(name, ()) for i in c.inputs)
    return [i for i in (*own, *beside) if i in fused.calls]


def _noted(mine: LinearValue) -> list[Note]:
    """The note that names the maps, if there are several."""
    if len(mine.paths) == 1:
        return []
    text = f"{len(mine.paths)} linear maps merged: {', '.join(mine.paths)}"
    return [Note(NoteKind.MERGED, common_path(mine.paths), text)]


def _merged(call: Call, mine: LinearValue, constants: dict[str, FloatArray]) -> list[Call]:
    """A merged map, whose weights join the constants, and the wires behind it."""
    form = mine.form
    if form.frame != (0, 0):
        raise QuantizeError(call.path, "pads a value that no convolution takes up")
    name = call.name if not mine.wires else f"{call.name}.merged"
    weight, bias = f"{call.name}.weight", f"{call.name}.bias"
    kernel = form.weight.reshape(form.weight.shape[: 2 + form.space])
    constants[weight], constants[bias] = kernel, form.bias
    op = program.Synapse(
        weight=weight,
        bias=bias,
        space=form.space,
        stride=form.stride,
        padding=form.padding,
        groups=form.groups,
    )
    calls = [Call(name, op, (mine.source,), common_path(mine.paths), mine.dims)]
    for number, wire in enumerate(mine.wires, 1):
        last = number == len(mine.wires)
        after = call.name if last else f"{call.name}.{number}"
        calls.append(replace(wire, name=after, inputs=(calls[-1].name,)))
    return calls
