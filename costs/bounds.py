"""Counts without a run: the fewest and the most that proven ranges allow."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from lapilli.costs.counting import counts_of
from lapilli.ir import ops
from lapilli.ir.counts import Counts
from lapilli.ir.graph import Graph, Node
from lapilli.ir.tensor import IntArray


def bounds(graph: Graph) -> dict[str, tuple[Counts, Counts]]:
    """Return, of one image, what each node does at least and at most.

    Nodes are looked at one by one: all of them cannot be at their bound together.
    """
    return {node.name: (_least(graph, node), _most(graph, node)) for node in graph.nodes}


def _least(graph: Graph, node: Node) -> Counts:
    def least(name: str) -> IntArray:
        kind = graph.types[name]
        return _constant(min(max(kind.range.lo, 0), kind.range.hi), graph.T, kind.shape)

    found = counts_of(graph, node, least, graph.T)
    if isinstance(node.op, ops.ShiftSum):  # the largest score of a row is always kept
        rows = math.prod(graph.types[node.inputs[0]].shape[:-1])
        found = replace(found, accumulates=rows * graph.T, shifts=0)
    return found


def _most(graph: Graph, node: Node) -> Counts:
    def most(name: str) -> IntArray:
        kind = graph.types[name]
        return _constant(kind.range.magnitude, graph.T, kind.shape)

    found = counts_of(graph, node, most, graph.T)
    if isinstance(node.op, ops.ShiftSum):
        scores = math.prod(graph.types[node.inputs[0]].shape) * graph.T
        shifts = scores * graph.types[node.name].shape[-1]
        found = replace(found, accumulates=scores + shifts, shifts=shifts)
    return found


def _constant(value: int, T: int, shape: tuple[int, ...]) -> IntArray:
    """All steps of one sample, the same number everywhere, in the memory of one."""
    return np.broadcast_to(np.int64(value), (T, 1, *shape))
