"""What a neuron receives, as a linear map of the spikes that it comes from, read off the ops."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lapilli.ir import ops
from lapilli.ir.graph import Graph, Node
from lapilli.ir.semantics import evaluate
from lapilli.ir.tensor import IntArray

_BATCH = 256  # basis vectors at a time


@dataclass(frozen=True, slots=True)
class Cone:
    """The linear nodes between a value and what it depends on.

    Attributes:
        end: name of the value.
        nodes: linear nodes, in topological order; the last is `end`, unless there are none.
        sources: names of the other values that they use, in topological order.
    """

    end: str
    nodes: tuple[Node, ...]
    sources: tuple[str, ...]


def cone(graph: Graph, end: str) -> Cone:
    """Collect the linear nodes behind a value, as far as the first that are not."""
    reached = graph.ancestors((end,), stop=lambda node: not isinstance(node.op, ops.LinearOp))
    nodes = [node for node in graph.nodes if node.name in reached]
    return Cone(
        end,
        tuple(node for node in nodes if isinstance(node.op, ops.LinearOp)),
        tuple(node.name for node in nodes if not isinstance(node.op, ops.LinearOp)),
    )


def response(graph: Graph, of: Cone) -> tuple[IntArray, Mapping[str, IntArray]]:
    """The bias (elements,) of a cone's value, and a matrix (elements, source's) for each source.

    Each column is what one unit of one element brings: the cone, evaluated on basis vectors.
    """
    rest = {s: np.zeros((1, *graph.types[s].shape), np.int64) for s in of.sources}
    bias = _evaluated(of, rest)[0]
    matrices = {}
    for source in of.sources:
        shape = graph.types[source].shape
        size = math.prod(shape)
        columns = []
        for start in range(0, size, _BATCH):
            basis = np.eye(min(_BATCH, size - start), size, start, np.int64)
            given = {s: np.broadcast_to(r, (len(basis), *r.shape[1:])) for s, r in rest.items()}
            columns.append(_evaluated(of, {**given, source: basis.reshape(-1, *shape)}) - bias)
        matrices[source] = np.concatenate(columns).T
    return bias, matrices


def _evaluated(of: Cone, values: Mapping[str, IntArray]) -> IntArray:
    """Rows (batch, elements) of the cone's value."""
    known = dict(values)
    for node in of.nodes:
        if not isinstance(node.op, ops.Stateless):
            raise TypeError(f"{node.name} is no function of its operands alone")
        known[node.name] = evaluate(node.op, tuple(known[i] for i in node.inputs))
    return known[of.end].reshape(len(known[of.end]), -1)
