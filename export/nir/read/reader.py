"""The nodes and edges of a `.nir` file that nobody has to trust.

`nir.read` follows what HDF5 follows, knows no limits and trusts every field. Here the file
becomes plain arrays (`export.hdf5`), `nodes` checks every name, field, type and shape of a node,
and here it is checked how nodes are wired; the package `nir` is not needed. What the nodes mean
is a question for `importer`.

Source: the layout that nir 1.0.8 writes; that of its predecessors, which lacks `v_reset`
and `w_in`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lapilli.export.hdf5.parser import Location, Texts, Tree, parse_tree, show
from lapilli.export.hdf5.process import read_tree
from lapilli.export.limits import Progress
from lapilli.export.malformed import MalformedError
from lapilli.export.nir.read.nodes import (
    GRAPH,
    MORE,
    OLD_FIELDS,
    PARTS,
    PORT,
    NirNode,
    members,
    node_at,
    text_of,
)
from lapilli.ir.errors import FormatError

_MAJOR = 1  # of nir, whose files are read


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
    members(tree, (), ("node",), ("version",))
    version = text_of(tree.values.get(("version",), "unknown"), "/version")
    if (major := re.match(r"(\d{1,9})\.", version)) and int(major[1]) > _MAJOR:
        raise MalformedError(
            f"written by nir {version[:20]}; this lapilli reads version {_MAJOR}: write it with one"
        )
    members(tree, ("node",), PARTS, MORE)
    if (kind := text_of(tree.values.get(("node", "type")), "/node/type")) != GRAPH:
        raise MalformedError(f"/node/type: a single {kind[:40]!r}; expected a {GRAPH}")
    nodes: dict[str, NirNode] = {}
    _, edges = _graph(tree, ("node",), "", nodes, nested=nested)
    old = tuple(name for name in tree.groups[("node",)] if name in OLD_FIELDS)
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
        own[name] = node = node_at(tree, (*at, "nodes", name), whole, nested=nested)
        if node.type == GRAPH:
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
        facts = json.loads(text_of(text, "metadata"))
    except (ValueError, RecursionError) as error:
        raise MalformedError("metadata: what should be lapilli's is no JSON") from error
    if not isinstance(facts, dict):
        raise MalformedError("metadata: what should be lapilli's is no object")
    return facts
