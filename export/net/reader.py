"""The layers of a `.net` file that nobody has to trust, with every field checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lapilli.export.hdf5.parser import Texts, Tree, parse_tree, show
from lapilli.export.hdf5.process import read_tree
from lapilli.export.limits import Progress
from lapilli.export.malformed import MalformedError
from lapilli.ir.errors import FormatError
from lapilli.ir.tensor import IntArray

_MOST = 1 << 31
_LAYER = {
    "type", "shape", "neuron", "weight", "bias", "delay", "stride", "padding", "dilation", "groups",
    "kernelSize", "inChannels", "outChannels", "inFeatures", "outFeatures",
}  # fmt: skip
_NEURON = {
    "type", "iDecay", "vDecay", "vThMant", "refDelay", "wgtExp", "messageBits", "gradedSpike",
    "activation", "scaleRho", "tauRho", "theta",
}  # fmt: skip
_TRAINING = {"scaleRho", "tauRho", "theta", "activation"}  # of training; netx reads none


@dataclass(frozen=True, slots=True, eq=False)
class NetLayer:
    """One group of the file: integers by field, and those of its neurons, or None."""

    kind: str
    fields: Mapping[str, IntArray]
    neuron: Mapping[str, int] | None


@dataclass(frozen=True, slots=True, eq=False)
class NetFile:
    """The layers in order, and the steps of a sample, or None if the file does not say."""

    layers: tuple[NetLayer, ...]
    T: int | None


def read_net(
    path: Path, memory_limit: int | None = None, reading: Progress | None = None
) -> NetFile:
    """Read a file of lava-dl's `export_hdf5`; opens that file alone.

    Args:
        path: of the file.
        memory_limit: that its numbers may take, eight for each; by default 16 MiB, or 64
            times the file if that is more.
        reading: is told of the datasets that are read, from a thread of its own.

    Raises:
        FormatError: no HDF5 file, damaged, or a layer, neuron, field or number that cannot be
            read for certain; names the object.
    """
    tree = read_tree(path, memory_limit, reading)
    try:
        return _file(tree)
    except MalformedError as error:
        raise FormatError(path, str(error)) from error


def parse_net(data: bytes, memory_limit: int) -> NetFile:
    """The same from memory.

    Raises:
        MalformedError: a sentence, without the path.
    """
    return _file(parse_tree(data, memory_limit))


def _file(tree: Tree) -> NetFile:
    names = tree.groups.get(("layer",))
    if not names:
        raise MalformedError("/layer: missing or empty; a .net file holds its layers there")
    if set(names) != {str(i) for i in range(len(names))}:
        raise MalformedError(f"/layer: layers named {sorted(names)[:8]}, not 0, 1, 2 and so on")
    layers = tuple(_layer(tree, ("layer", str(i))) for i in range(len(names)))
    steps = tree.values.get(("simulation", "tSample"))
    return NetFile(layers, None if steps is None else int(_scalar(steps, "/simulation/tSample")))


def _layer(tree: Tree, at: tuple[str, ...]) -> NetLayer:
    fields, kind = _fields(tree, at, _LAYER)
    if (*at, "neuron") not in tree.groups:
        return NetLayer(kind, fields, None)
    neuron, model = _fields(tree, (*at, "neuron"), _NEURON)
    if model not in ("CUBA", "LOIHI"):
        raise MalformedError(
            f"{show((*at, 'neuron'))}: neurons of type {model[:20]!r}; CUBA and LOIHI are read, "
            "which send spikes and have real states"
        )
    for name in ("iDecay", "vDecay", "vThMant"):
        if name not in neuron:
            raise MalformedError(f"{show((*at, 'neuron', name))}: missing")
    for name, only in (("refDelay", 1), ("wgtExp", 0), ("messageBits", 0), ("gradedSpike", 0)):
        if name in neuron and np.any(neuron[name] != only):
            raise MalformedError(f"{show((*at, 'neuron', name))}: {neuron[name]}; only {only}")
    return NetLayer(
        kind, fields, {k: _scalar(v, show((*at, "neuron", k))) for k, v in neuron.items()}
    )


def _fields(tree: Tree, at: tuple[str, ...], known: set[str]) -> tuple[dict[str, IntArray], str]:
    if at not in tree.groups:
        raise MalformedError(f"{show(at)}: no group")
    if not tree.groups[at]:
        raise MalformedError(
            f"{show(at)}: empty, as lava-dl writes recurrent and winner-takes-all layers: their "
            "weights are not in the file, and no such layer is read"
        )
    if odd := sorted(set(tree.groups[at]) - known):
        raise MalformedError(f"{show((*at, odd[0]))}: not known")
    kind = tree.values.get((*at, "type"))
    kind = kind.items[0] if isinstance(kind, Texts) and len(kind.items) == 1 else kind
    if not isinstance(kind, str):
        raise MalformedError(f"{show((*at, 'type'))}: expected one text")
    fields = {
        place[-1]: _whole(tree.values[place], show(place))
        for place in ((*at, name) for name in tree.groups[at])
        if place[-1] not in {"type", "neuron"} | _TRAINING and place in tree.values
    }
    if holes := sorted(set(tree.groups[at]) - {"type", "neuron"} - _TRAINING - set(fields)):
        raise MalformedError(f"{show((*at, holes[0]))}: expected numbers, found a group")
    return fields, kind


def _whole(value: object, where: str) -> IntArray:
    """Integers of any dtype, as netx takes them by `astype(int)`, which must lose nothing."""
    if not isinstance(value, np.ndarray):
        raise MalformedError(f"{where}: text, expected numbers")
    size = np.abs(value.astype(np.float64))  # in its own type the bound, or -2**63, may overflow
    if value.size == 0 or not np.all(np.isfinite(size)) or np.any(size >= _MOST):
        raise MalformedError(f"{where}: empty, not finite or beyond 32 bits")
    whole = value.astype(np.int64)
    if np.any(whole != value):
        raise MalformedError(f"{where}: numbers that are not whole, which netx truncates")
    return whole


def _scalar(value: object, where: str) -> int:
    whole = _whole(value, where)
    if whole.size != 1:
        raise MalformedError(f"{where}: {whole.size} numbers, expected one")
    return int(whole.reshape(-1)[0])
