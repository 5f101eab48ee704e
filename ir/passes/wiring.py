"""Merge adjacent reshapes and permutes; remove no-ops and dead nodes."""

from __future__ import annotations

from dataclasses import replace

from lapilli.ir import ops
from lapilli.ir.graph import Graph, Node


def fuse_wiring(graph: Graph) -> Graph:
    """Merge reshape after reshape and permute after permute; drop those that change nothing."""
    alias: dict[str, str] = {}
    nodes: dict[str, Node] = {}
    for node in graph.nodes:
        node = replace(node, inputs=tuple(alias.get(i, i) for i in node.inputs))
        if node.inputs and isinstance(node.op, ops.Reshape | ops.Permute):
            before = nodes[node.inputs[0]]
            node = _merged(before, node)
            if _is_idle(node, graph):
                alias[node.name] = node.inputs[0]
                continue
        nodes[node.name] = node
    outputs = tuple(alias.get(o, o) for o in graph.outputs)
    return Graph(tuple(nodes.values()), outputs, graph.T).without_dead()


def _merged(before: Node, node: Node) -> Node:
    if isinstance(node.op, ops.Reshape) and isinstance(before.op, ops.Reshape):
        return Node(node.name, node.op, before.inputs)
    if isinstance(node.op, ops.Permute) and isinstance(before.op, ops.Permute):
        axes = tuple(before.op.axes[a] for a in node.op.axes)
        return Node(node.name, ops.Permute(axes=axes), before.inputs)
    return node


def _is_idle(node: Node, graph: Graph) -> bool:
    if isinstance(node.op, ops.Permute):
        return node.op.axes == tuple(range(len(node.op.axes)))
    return isinstance(node.op, ops.Reshape) and node.op.shape == graph.types[node.inputs[0]].shape
