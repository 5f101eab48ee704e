"""What drives each neuron, as static synapses from spikes: linear ops between neurons, composed.

A sum that several later neurons read has no stock carrier; so each of them receives all that
was added up. The matrices are those of `ir.semantics`, made of where it moves an index.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from typing_extensions import assert_never

from lapilli.ir import ops
from lapilli.ir.graph import Graph, Node
from lapilli.ir.semantics import evaluate, windows, wire
from lapilli.ir.tensor import IntArray

if TYPE_CHECKING:
    from scipy.sparse import csr_array


@dataclass(frozen=True, slots=True, eq=False)
class LinearCurrent:
    """A value in row-major order: constant + sum over sources of weights @ spikes.

    Attributes:
        weights: neuron or input node -> (elements of the value, elements of the source).
        constant: (elements,).
    """

    weights: Mapping[str, csr_array]
    constant: IntArray


def currents(graph: Graph) -> Mapping[str, LinearCurrent]:
    """What drives each neuron of a graph of `to_binary_neurons`; read-outs are left out."""
    known: dict[str, LinearCurrent] = {}
    driven: dict[str, LinearCurrent] = {}
    for node in graph.nodes:
        if isinstance(node.op, ops.Neuron):
            if node.inputs[0] not in known:
                continue  # behind a read-out: a fault of its own
            driven[node.name] = known[node.inputs[0]]
        if isinstance(node.op, ops.Neuron | ops.Input):
            known[node.name] = _itself(node.name, math.prod(graph.types[node.name].shape))
        elif all(i in known for i in node.inputs):
            made = _applied(node, graph, tuple(known[i] for i in node.inputs))
            if made is not None:
                known[node.name] = made
    return driven


def _itself(name: str, size: int) -> LinearCurrent:
    from scipy.sparse import eye_array

    return LinearCurrent(
        {name: eye_array(size, dtype=np.int64, format="csr")}, np.zeros(size, np.int64)
    )


def _applied(node: Node, graph: Graph, operands: tuple[LinearCurrent, ...]) -> LinearCurrent | None:
    """The value of a linear op; None of an op that is not."""
    from scipy.sparse import csr_array, kron, vstack

    shapes = [graph.types[i].shape for i in node.inputs]
    x, op = operands[0], node.op
    if not isinstance(op, ops.LinearOp):
        return None
    match op:
        case ops.Reshape() | ops.Permute() | ops.Expand() | ops.Slice() | ops.Delay():
            rows = wire(op, _indices(shapes[0])).ravel()
            return LinearCurrent({s: w[rows] for s, w in x.weights.items()}, x.constant[rows])
        case ops.Add():
            return _added(*operands)
        case ops.Concat():
            first, second = math.prod(shapes[0]), math.prod(shapes[1])
            order = (_indices(shapes[0]), first + _indices(shapes[1]))
            rows = evaluate(op, order).ravel()
            stacked: dict[str, csr_array] = {}
            for part, before, after in ((operands[0], 0, second), (operands[1], first, 0)):
                for source, w in part.weights.items():
                    silent = [csr_array((n, w.shape[1]), dtype=np.int64) for n in (before, after)]
                    here = vstack([silent[0], w, silent[1]], format="csr")[rows]
                    stacked[source] = stacked[source] + here if source in stacked else here
            constant = np.concatenate([part.constant for part in operands])
            return LinearCurrent(stacked, constant[rows])
        case ops.Sum(axes=axes):
            kept = evaluate(ops.Sum(axes=axes, keepdims=True), (_indices(shapes[0]),)).shape[1:]
            into = np.broadcast_to(_indices(kept), (1, *shapes[0])).ravel()
            matrix = _matrix(into, np.arange(into.size), np.ones_like(into),
                             (math.prod(kept), into.size))  # fmt: skip
            return _through(matrix, np.zeros(math.prod(kept), np.int64), x)
        case ops.Linear(weight=w, bias=b):
            rows_of_it = math.prod(shapes[0][:-1])
            matrix = kron(np.eye(rows_of_it, dtype=np.int64), w.array, format="csr")
            return _through(csr_array(matrix, dtype=np.int64), np.tile(b.array, rows_of_it), x)
        case ops.Conv2d(bias=b):
            shape = graph.types[node.name].shape
            constant = np.broadcast_to(b.array[:, None, None], shape).ravel()
            return _through(_convolution(op, shapes[0], shape), constant, x)
        case _:
            assert_never(op)


def _added(a: LinearCurrent, b: LinearCurrent) -> LinearCurrent:
    weights = dict(a.weights)
    for source, w in b.weights.items():
        weights[source] = weights[source] + w if source in weights else w
    return LinearCurrent(weights, a.constant + b.constant)


def _through(matrix: csr_array, constant: IntArray, x: LinearCurrent) -> LinearCurrent:
    return LinearCurrent(
        {s: matrix @ w for s, w in x.weights.items()}, matrix @ x.constant + constant
    )


def _convolution(op: ops.Conv2d, given: tuple[int, ...], made: tuple[int, ...]) -> csr_array:
    out, per_group = op.weight.shape[0], op.weight.shape[1]
    kernel = (op.weight.shape[2], op.weight.shape[3])
    read = windows(_indices(given), kernel, op.stride, op.padding, fill=-1)[0]  # (C, H', W', k, k)
    parts: list[Any] = []
    kernels = op.weight.array
    for o in range(out):
        first = o // (out // op.groups) * per_group
        source = read[first : first + per_group]
        weight = np.broadcast_to(kernels[o][:, None, None], source.shape)
        target = np.broadcast_to(_indices(made)[0, o][None, :, :, None, None], source.shape)
        used = (source >= 0) & (weight != 0)
        parts.append((target[used], source[used], weight[used]))
    into, source, weight = (np.concatenate(column) for column in zip(*parts, strict=True))
    return _matrix(into, source, weight, (math.prod(made), math.prod(given)))


def _indices(shape: tuple[int, ...]) -> IntArray:
    return np.arange(math.prod(shape), dtype=np.int64).reshape(1, *shape)


def _matrix(into: IntArray, source: IntArray, weight: IntArray, shape: Any) -> csr_array:
    from scipy.sparse import csr_array

    return csr_array((weight, (into, source)), shape=shape)
