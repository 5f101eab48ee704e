"""The nodes of a `.nir` file: their types and fields, and the shapes and numbers these may have.

Source: the constructors of nir 1.0.8; its predecessors, which lack `v_reset` and `w_in`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from lapilli.export import limits
from lapilli.export.hdf5.parser import Location, Tree, Value, show
from lapilli.export.malformed import MalformedError

Floats: TypeAlias = npt.NDArray[Any]

GRAPH = "NIRGraph"
PARTS = ("type", "nodes", "edges")  # that a graph must have, and those that it may have
OLD_FIELDS = ("input_type", "output_type")
MORE = ("metadata", *OLD_FIELDS)
PORT = "Port"  # not of NIR: where a graph in the graph began, or ended; adds up what arrives
_NEURON = ("r", "v_leak", "v_threshold")
# type -> fields that it must have, and fields that it may have
_FIELDS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "Input": (("shape",), ()),
    "Output": (("shape",), ()),
    "Affine": (("weight", "bias"), ()),
    "Linear": (("weight",), ()),
    "Scale": (("scale",), ()),
    "Conv1d": (
        ("weight", "bias", "stride", "padding", "dilation", "groups"),
        ("input_shape",),
    ),
    "Conv2d": (
        ("weight", "bias", "stride", "padding", "dilation", "groups"),
        ("input_shape",),
    ),
    "SumPool2d": (("kernel_size", "stride", "padding"), ()),
    "AvgPool2d": (("kernel_size", "stride", "padding"), ()),
    "Flatten": ((), ("start_dim", "end_dim", "input_type")),
    "Delay": (("delay",), ()),
    "Threshold": (("threshold",), ()),
    "I": (("r",), ()),
    "IF": (("r", "v_threshold"), ("v_reset",)),
    "LI": (("tau", "r", "v_leak"), ()),
    "LIF": (("tau", *_NEURON), ("v_reset",)),
    "CubaLI": (("tau_syn", "tau_mem", "r", "v_leak"), ("w_in",)),
    "CubaLIF": (("tau_syn", "tau_mem", *_NEURON), ("v_reset", "w_in")),
}
_LEAST = {"input_shape": 1, "kernel_size": 1, "stride": 1, "dilation": 1, "groups": 1, "padding": 0}
# Axes that a window has, and so numbers that say its size, steps and edges at most.
_WINDOWS = {"Conv1d": 1, "Conv2d": 2, "SumPool2d": 2, "AvgPool2d": 2}
# What the constructors of nir take for a field that older files lack.
DEFAULTS: Mapping[str, Floats] = {
    "start_dim": np.array(1),
    "end_dim": np.array(-1),
    "v_reset": np.array(0.0),
    "w_in": np.array(1.0),
}
_WHOLE = ("shape", "stride", "padding", "dilation", "groups", "input_shape", "kernel_size",
          "start_dim", "end_dim", "input_type")  # fmt: skip
_RANKS = {"Affine": 2, "Linear": 2, "Conv1d": 3, "Conv2d": 4}  # of weights


@dataclass(frozen=True, slots=True, eq=False)
class NirNode:
    """One node: NIR's name of its type, and its fields. All numbers are finite."""

    type: str
    arrays: Mapping[str, Floats]
    texts: Mapping[str, str]

    def field(self, name: str) -> Floats:
        """Return the numbers of a field, or nir's default for one that older files lack."""
        return self.arrays[name] if name in self.arrays else DEFAULTS[name]


def node_at(tree: Tree, at: Location, name: str, *, nested: bool) -> NirNode:
    """Return the node whose group stands at `at`, checked; `nested` takes graphs in the graph.

    Raises:
        MalformedError: an unknown type or field, a missing one, or numbers that it cannot have.
    """
    if at not in tree.groups:
        raise MalformedError(f"{show(at)}: expected a group")
    kind = text_of(tree.values.get((*at, "type")), show((*at, "type")))
    if kind == GRAPH:
        if not nested:
            raise MalformedError(f"node {name!r}: a graph in the graph; write its nodes out")
        members(tree, at, PARTS, MORE)
        return NirNode(kind, {}, {})
    if kind not in _FIELDS:
        raise MalformedError(f"node {name!r}: unknown type {kind[:40]!r}")
    must, may = _FIELDS[kind]
    members(tree, at, ("type", *must), (*may, "metadata"))
    arrays, texts = {}, {}
    for field in (*must, *may):
        value = tree.values.get((*at, field))
        if isinstance(value, np.ndarray):
            arrays[field] = _numbers(value, f"node {name!r}: {field}", whole=field in _WHOLE)
        elif isinstance(value, str) and field == "padding" and value in ("same", "valid"):
            texts[field] = value
        elif value is not None or field in must:
            raise MalformedError(f"node {name!r}: {field}: expected numbers")
    node = NirNode(kind, arrays, texts)
    _check_node(name, node)
    return node


def _numbers(value: Floats, where: str, *, whole: bool) -> Floats:
    if value.dtype.kind == "b":
        value = value.astype(np.int8)
    if not value.size:
        raise MalformedError(f"{where}: no numbers")
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        raise MalformedError(f"{where}: a number that is not finite")
    if whole:
        flat = value.astype(np.float64).ravel()
        if (
            value.ndim > 1
            or not ((flat == np.floor(flat)) & (np.abs(flat) < limits.MOST_ELEMENTS)).all()
        ):
            raise MalformedError(f"{where}: expected small whole numbers")
        if value.dtype.kind == "f":
            if not value.ndim:
                raise MalformedError(f"{where}: expected an integer, found {value.dtype}")
            value = value.astype(np.int64)
        if value.size > 8:
            raise MalformedError(f"{where}: {value.size} numbers")
    return value


def _check_node(name: str, node: NirNode) -> None:
    rank = _RANKS.get(node.type)
    if rank and node.arrays["weight"].ndim != rank:
        found = list(node.arrays["weight"].shape)
        raise MalformedError(f"node {name!r}: weight of shape {found}; expected {rank} axes")
    if "bias" in node.arrays and node.arrays["bias"].shape != node.arrays["weight"].shape[:1]:
        found = list(node.arrays["bias"].shape)
        raise MalformedError(f"node {name!r}: bias of shape {found} does not fit its weight")
    for field, least in _LEAST.items():
        if field in node.arrays and (node.arrays[field] < least).any():
            raise MalformedError(f"node {name!r}: {field}: a number below {least}")
        if (
            field in node.arrays
            and field != "groups"
            and node.arrays[field].size > (axes := _WINDOWS[node.type])
        ):
            count = node.arrays[field].size
            raise MalformedError(f"node {name!r}: {field}: {count} numbers for {axes} axes")
    for field in ("start_dim", "end_dim"):
        if field in node.arrays and node.arrays[field].ndim:
            raise MalformedError(f"node {name!r}: {field}: a list; expected a single number")
    for field in ("tau", "tau_syn", "tau_mem"):
        if field in node.arrays and (lowest := node.arrays[field].min()) <= 0:
            raise MalformedError(f"node {name!r}: {field} is {lowest:g}; it must be positive")
    if node.type in ("Input", "Output"):
        shape = node.arrays["shape"].ravel().astype(object)
        if (shape < 1).any() or shape.prod() > limits.MOST_ELEMENTS:
            raise MalformedError(f"node {name!r}: a value of shape {shape.tolist()}")


def members(tree: Tree, at: Location, must: tuple[str, ...], may: tuple[str, ...]) -> None:
    """Check what a group holds.

    Raises:
        MalformedError: it is no group, a name that it must have is missing, or one is unknown.
    """
    if at not in tree.groups:
        raise MalformedError(f"{show(at)}: expected a group")
    there = set(tree.groups[at])
    if missing := [name for name in must if name not in there]:
        raise MalformedError(f"{show((*at, missing[0]))}: is missing")
    if odd := sorted(there - set(must) - set(may)):
        raise MalformedError(f"{show((*at, odd[0]))}: unknown; expected {', '.join((*must, *may))}")


def text_of(value: Value | None, where: str) -> str:
    """Return a value that must be text.

    Raises:
        MalformedError: it is something else.
    """
    if not isinstance(value, str):
        raise MalformedError(f"{where}: expected text")
    return value
