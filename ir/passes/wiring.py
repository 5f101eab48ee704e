"""Fewer wires: adjacent reshapes and permutations become one, idle and unread ones none."""

from __future__ import annotations

from dataclasses import replace

from lapilli.ir.graph import Graph, Node
from lapilli.ir.ops import Permute, Reshape


def fuse_wiring(graph: Graph) -> Graph:
    """Merge reshape after reshape and permute after permute; drop those that change nothing."""
    alias: dict[str, str] = {}
    nodes: dict[str, Node] = {}
    for node in graph.nodes:
        node = replace(node, inputs=tuple(alias.get(i, i) for i in node.inputs))
        if node.inputs and isinstance(node.op, Reshape | Permute):
            before = nodes[node.inputs[0]]
            node = _merged(before, node)
            if _is_idle(node, graph):
                alias[node.name] = node.inputs[0]
                continue
        nodes[node.name] = node
    outputs = tuple(alias.get(o, o) for o in graph.outputs)
    return _without_unread(Graph(tuple(nodes.values()), outputs, graph.T))


def _merged(before: Node, node: Node) -> Node:
    if isinstance(node.op, Reshape) and isinstance(before.op, Reshape):
        return Node(node.name, node.op, before.inputs)
    if isinstance(node.op, Permute) and isinstance(before.op, Permute):
        axes = tuple(before.op.axes[a] for a in node.op.axes)
        return Node(node.name, Permute(axes=axes), before.inputs)
    return node


def _is_idle(node: Node, graph: Graph) -> bool:
    if isinstance(node.op, Permute):
        return node.op.axes == tuple(range(len(node.op.axes)))
    return isinstance(node.op, Reshape) and node.op.shape == graph.types[node.inputs[0]].shape


def _without_unread(graph: Graph) -> Graph:
    """Drop nodes that no output depends on, inputs excepted."""
    needed = set(graph.outputs)
    for node in reversed(graph.nodes):
        if node.name in needed:
            needed.update(node.inputs)
    kept = tuple(n for n in graph.nodes if n.name in needed or not n.inputs)
    return Graph(kept, graph.outputs, graph.T)
