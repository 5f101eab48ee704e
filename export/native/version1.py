"""Files of version 1: no recipe, and a digest of the graph alone, as Python printed it then."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from lapilli.ir import ops
from lapilli.ir.graph import Graph

FORMAT = "lapilli/1"


def digest(graph: Graph, nodes: Sequence[Mapping[str, Any]]) -> str:
    """Compute what a version 1 file holds as its digest.

    Args:
        graph: as it was read.
        nodes: as the file has them, with the attributes of that version.
    """
    shown = []
    for node, told in zip(graph.nodes, nodes, strict=True):
        op = _shown(node.op, told["attributes"])
        shown.append(f"Node(name={node.name!r}, op={op}, inputs={node.inputs!r})")
    listed = f"({', '.join(shown)}{',' if len(shown) == 1 else ''})"
    return hashlib.sha256(f"({listed}, {graph.outputs!r}, {graph.T})".encode()).hexdigest()


def _shown(op: ops.Op, told: Mapping[str, Any]) -> str:
    """A dataclass as its class prints it, with the attributes that version 1 knew."""
    parts = []
    for f in fields(op):
        if f.name in told:
            value = getattr(op, f.name)
            nested = _shown(value, told[f.name]) if isinstance(value, ops.Neuron) else repr(value)
            parts.append(f"{f.name}={nested}")
    return f"{type(op).__name__}({', '.join(parts)})"
