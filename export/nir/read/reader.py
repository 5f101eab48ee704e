"""The nodes and edges of a `.nir` file that nobody has to trust.

`nir.read` follows what HDF5 follows, knows no limits and trusts every field. Here the file
becomes plain arrays (`export.hdf5`), and every name, field, type and shape is checked; the
package `nir` is not needed. What the nodes mean is a question for `importer`.

Source: the layout that nir 1.0.8 writes; that of its predecessors, which lacks `v_reset`
and `w_in`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from lapilli.export import limits
from lapilli.export.hdf5.parser import Location, Texts, Tree, Value, parse_tree, show
from lapilli.export.hdf5.process import read_tree
from lapilli.export.limits import Progress
from lapilli.export.malformed import MalformedError
from lapilli.ir.errors import FormatError

Floats: TypeAlias = npt.NDArray[Any]

_GRAPH = "NIRGraph"
_MAJOR = 1  # of nir, whose files are read
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
_OLD_FIELDS = ("input_type", "output_type")
_PARTS = ("type", "nodes", "edges")  # that a graph must have, and those that it may have
_MORE = ("metadata", *_OLD_FIELDS)
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


PORT = "Port"  # not of NIR: where a graph in the graph began, or ended; adds up what arrives


@dataclass(frozen=True, slots=True, eq=False)
class NirFile:
    """A flat NIR graph; nodes of a graph in the graph are called `outer.inner`.

    Attributes:
        version: of nir, as the file claims.
        nodes: by name.
        edges: (source, target), each once, between nodes.
        old_fields: of the graph, which early versions wrote and later ones do not take.
        facts: the JSON that lapilli put into the metadata, if it wrote the file.
    """

    version: str
    nodes: Mapping[str, NirNode]
    edges: tuple[tuple[str, str], ...]
    facts: Mapping[str, Any] | None
    old_fields: tuple[str, ...] = ()


def read_nir(
    path: Path,
    memory_limit: int | None = None,
    reading: Progress | None = None,
    *,
    nested: bool = False,
) -> NirFile:
    """Read a `.nir` file; opens that file alone, and executes nothing.

    Args:
        path: of the file.
        memory_limit: see `hdf5.process.read_tree`.
        reading: its `progress`.
        nested: whether graphs in the graph are taken; the nodes of each stand in its place,
            and its input and output are nodes of type `PORT`.

    Raises:
        FormatError: no such file, damaged, or not a NIR graph as nir writes it; names the
            node or the dataset, what was found and what is allowed.
    """
    tree = read_tree(path, memory_limit, reading)
    try:
        return _file_from(tree, nested=nested)
    except MalformedError as error:
        raise FormatError(path, str(error)) from error


def parse_nir(data: bytes, memory_limit: int) -> NirFile:
    """The same from memory.

    Raises:
        MalformedError: a sentence, without the path.
    """
    return _file_from(parse_tree(data, memory_limit))


def _file_from(tree: Tree, *, nested: bool = False) -> NirFile:
    _members(tree, (), ("node",), ("version",))
    version = _text(tree.values.get(("version",), "unknown"), "/version")
    if (major := re.match(r"(\d{1,9})\.", version)) and int(major[1]) > _MAJOR:
        raise MalformedError(
            f"written by nir {version[:20]}; this lapilli reads version {_MAJOR}: write it with one"
        )
    _members(tree, ("node",), _PARTS, _MORE)
    if (kind := _text(tree.values.get(("node", "type")), "/node/type")) != _GRAPH:
        raise MalformedError(f"/node/type: a single {kind[:40]!r}; expected a {_GRAPH}")
    nodes: dict[str, NirNode] = {}
    _, edges = _graph(tree, ("node",), "", nodes, nested=nested)
    old = tuple(name for name in tree.groups[("node",)] if name in _OLD_FIELDS)
    return NirFile(version, nodes, edges, _facts(tree), old)


def _graph(
    tree: Tree, at: Location, outer: str, flat: dict[str, NirNode], *, nested: bool
) -> tuple[dict[str, NirNode], tuple[tuple[str, str], ...]]:
    """Add the nodes of a graph and of those in it to `flat`, under their whole names.

    Returns:
        its own nodes, and all edges with whole names.
    """
    names = tree.groups.get((*at, "nodes"))
    if not names:
        raise MalformedError(f"{show((*at, 'nodes'))}: no nodes")
    own: dict[str, NirNode] = {}
    ends: dict[str, tuple[str, str]] = {}  # of graphs in it: where edges arrive, and leave
    within: list[tuple[str, str]] = []
    for name in sorted(names):
        whole = outer + name
        own[name] = node = _node(tree, (*at, "nodes", name), whole, nested=nested)
        if node.type == _GRAPH:
            inner, edges = _graph(tree, (*at, "nodes", name), f"{whole}.", flat, nested=nested)
            ends[name] = (_end(whole, inner, "Input"), _end(whole, inner, "Output"))
            within += edges
        elif whole in flat:
            raise MalformedError(f"node {whole!r}: is the name of a node in a graph as well")
        else:
            port = outer and node.type in ("Input", "Output")
            flat[whole] = replace(node, type=PORT) if port else node
    for source, target in _edges(tree, at, outer, own):
        leaves = ends[source][1] if source in ends else outer + source
        within.append((leaves, ends[target][0] if target in ends else outer + target))
    return own, tuple(within)


def _end(whole: str, inner: Mapping[str, NirNode], kind: str) -> str:
    found = [name for name, node in inner.items() if node.type == kind]
    if len(found) != 1:
        raise MalformedError(
            f"node {whole!r}: a graph with {len(found)} nodes of type {kind}; in a graph it has one"
        )
    return f"{whole}.{found[0]}"


def _members(tree: Tree, at: Location, must: tuple[str, ...], may: tuple[str, ...]) -> None:
    if at not in tree.groups:
        raise MalformedError(f"{show(at)}: expected a group")
    there = set(tree.groups[at])
    if missing := [name for name in must if name not in there]:
        raise MalformedError(f"{show((*at, missing[0]))}: is missing")
    if odd := sorted(there - set(must) - set(may)):
        raise MalformedError(f"{show((*at, odd[0]))}: unknown; expected {', '.join((*must, *may))}")


def _node(tree: Tree, at: Location, name: str, *, nested: bool) -> NirNode:
    if at not in tree.groups:
        raise MalformedError(f"{show(at)}: expected a group")
    kind = _text(tree.values.get((*at, "type")), show((*at, "type")))
    if kind == _GRAPH:
        if not nested:
            raise MalformedError(f"node {name!r}: a graph in the graph; write its nodes out")
        _members(tree, at, _PARTS, _MORE)
        return NirNode(kind, {}, {})
    if kind not in _FIELDS:
        raise MalformedError(f"node {name!r}: unknown type {kind[:40]!r}")
    must, may = _FIELDS[kind]
    _members(tree, at, ("type", *must), (*may, "metadata"))
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


def _edges(
    tree: Tree, at: Location, outer: str, nodes: Mapping[str, NirNode]
) -> tuple[tuple[str, str], ...]:
    listed = tree.values.get((*at, "edges"))
    if not isinstance(listed, Texts) or len(listed.shape) != 2 or listed.shape[1] != 2:
        raise MalformedError(f"{show((*at, 'edges'))}: expected rows of two names")
    edges = tuple(zip(listed.items[::2], listed.items[1::2], strict=True))
    for source, target in edges:
        for name in (source, target):
            if name not in nodes:
                edge = f"edge {(outer + source)[:40]!r} -> {(outer + target)[:40]!r}"
                raise MalformedError(f"{edge}: no such node")
    if len(set(edges)) < len(edges):
        twice = next(e for i, e in enumerate(edges) if e in edges[:i])
        raise MalformedError(f"edge {outer + twice[0]!r} -> {outer + twice[1]!r}: listed twice")
    sources, targets = {s for s, _ in edges}, {t for _, t in edges}
    for name, node in nodes.items():
        if node.type != "Input" and name not in targets:
            raise MalformedError(f"node {outer + name!r}: no edge leads to it")
        if node.type != "Output" and name not in sources:
            raise MalformedError(f"node {outer + name!r}: no edge leads on from it")
        if (node.type == "Input" and name in targets) or (
            node.type == "Output" and name in sources
        ):
            raise MalformedError(
                f"node {outer + name!r}: an edge on the wrong side of an {node.type}"
            )
    return edges


def _facts(tree: Tree) -> Mapping[str, Any] | None:
    text = tree.values.get(("node", "metadata", "lapilli"))
    if text is None:
        return None
    try:
        facts = json.loads(_text(text, "metadata"))
    except (ValueError, RecursionError) as error:
        raise MalformedError("metadata: what should be lapilli's is no JSON") from error
    if not isinstance(facts, dict):
        raise MalformedError("metadata: what should be lapilli's is no object")
    return facts


def _text(value: Value | None, where: str) -> str:
    if not isinstance(value, str):
        raise MalformedError(f"{where}: expected text")
    return value
