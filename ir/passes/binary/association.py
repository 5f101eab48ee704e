"""(A B) C or A (B C), whichever takes fewer neurons: integers do not mind."""

from __future__ import annotations

import math
from dataclasses import replace

from lapilli.ir import ops
from lapilli.ir.graph import Graph, Node
from lapilli.ir.infer import infer
from lapilli.ir.types import Kind, TensorType


def associate(graph: Graph) -> Graph:
    """Move the brackets of matrix products in a row until no move saves neurons.

    Only of products that nothing else reads, and that no output names: their value disappears.
    """
    while (moved := _one_move(graph)) is not None:
        graph = moved
    return graph


def _one_move(graph: Graph) -> Graph | None:
    for node in graph.nodes:
        if not isinstance(node.op, ops.SpikeMatmul):
            continue
        for side in (0, 1):
            before = graph[node.inputs[side]]
            if not isinstance(before.op, ops.SpikeMatmul) or _is_read_elsewhere(
                graph, before, node
            ):
                continue
            a, b = before.inputs
            # side 0: (a b) c -> a (b c); side 1: c (a b) -> (c a) b
            c = node.inputs[1 - side]
            inner, keep = ((b, c), a) if side == 0 else ((c, a), b)
            types = [graph.types[i] for i in inner]
            try:
                made = infer(ops.SpikeMatmul(), (types[0], types[1]), graph.T)
                outer = (graph.types[keep], made) if side == 0 else (made, graph.types[keep])
                infer(ops.SpikeMatmul(), outer, graph.T)
            except ValueError:  # would multiply two graded values
                continue
            now = _cost(graph.types[a], graph.types[b]) + _planes(graph.types[before.name])
            now += _cost(*(graph.types[i] for i in node.inputs))
            then = _cost(types[0], types[1]) + _planes(made) + _cost(*outer)
            if then < now:
                return _moved(graph, before, node, inner, keep, side)
    return None


def _moved(
    graph: Graph, before: Node, node: Node, inner: tuple[str, str], keep: str, side: int
) -> Graph:
    name = f"{node.name}.inner"
    operands = (keep, name) if side == 0 else (name, keep)
    nodes: list[Node] = []
    for n in graph.nodes:
        if n.name == node.name:
            nodes += [Node(name, ops.SpikeMatmul(), inner), replace(n, inputs=operands)]
        elif n.name != before.name:
            nodes.append(n)
    return Graph(tuple(nodes), graph.outputs, graph.T)


def _is_read_elsewhere(graph: Graph, before: Node, node: Node) -> bool:
    readers = [n.name for n in graph.nodes for i in n.inputs if i == before.name]
    return readers != [node.name] or before.name in graph.outputs


def _cost(a: TensorType, b: TensorType) -> int:
    """AND neurons of a product."""
    return _terms(a) * _terms(b) * math.prod(a.shape) * b.shape[-1]


def _planes(x: TensorType) -> int:
    """Neurons of the bit planes of an intermediate product."""
    return _terms(x) * math.prod(x.shape)


def _terms(x: TensorType) -> int:
    if x.kind is Kind.SPIKES:
        return x.range.hi - x.range.lo
    return (x.range.hi - x.range.lo).bit_length()
