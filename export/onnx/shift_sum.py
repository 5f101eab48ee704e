"""Sums of shifted rows in ONNX: powers of two are looked up, and truncation is `Div`'s."""

from __future__ import annotations

import numpy as np

from lapilli.export.onnx.body import I32, I64, Body, fits
from lapilli.ir import ops
from lapilli.ir.graph import Graph, Node
from lapilli.ir.tensor import IntArray

_LARGEST = 53  # bits of a row's sum: `infer` has checked it


def faults(node: Node, graph: Graph) -> tuple[str, ...]:
    """Why the largest score of a row cannot be had; empty if it can."""
    if fits(graph.types[node.inputs[0]].range, I32):
        return ()  # beyond, the maxima of onnxruntime 1.31 are wrong
    return ("scores of more than 32 bits",)


def shift_sum(body: Body, node: Node, op: ops.ShiftSum) -> None:
    """The rule of `ir.ops.ShiftSum`, operator by operator, in int64."""
    name = node.name
    given = [(body.value(i), body.carrier(i)) for i in node.inputs]
    scores, values = (body.cast(*x, I64, name) for x in given)
    row = body.ints(-1)
    largest = body.emit("ReduceMax", [body.cast(*given[0], I32, name), row], name, keepdims=1)
    below = body.emit("Sub", [body.cast(largest, I32, I64, name), scores], name)
    terms = _looked_up(body, name, below, _powers(op.window))
    total = body.emit("ReduceSum", [terms, row], name, keepdims=1)
    less = body.emit("Sub", [total, body.scalar(1, I64)], name)
    # Bits of less: how many powers of two it has reached.
    steps = body.constant(f"{name}/steps", np.left_shift(1, np.arange(_LARGEST + 1)), I64)
    reached = body.emit("GreaterOrEqual", [less, steps], name)
    reached = body.emit("Cast", [reached], name, to=I64)
    bits = body.emit("ReduceSum", [reached, row], name, keepdims=1)
    gamma = body.emit("Sub", [bits, body.scalar(op.window, I64)], name)
    weights = _looked_up(body, name, body.emit("Add", [gamma, below], name), _powers(op.reach))
    wide = body.emit("MatMul", [weights, values], name)
    kept = body.emit("Div", [wide, body.scalar(1 << op.reach, I64)], name)
    body.name(name, kept, I64)


def _powers(most: int) -> IntArray:
    """2**most, 2**(most - 1), ..., 1, and 0 for all that lies below."""
    return np.append(np.left_shift(1, np.arange(most, -1, -1)), 0)


def _looked_up(body: Body, of: str, index: str, table: IntArray) -> str:
    """The entry of each index; the last one, of each that is larger."""
    last = body.scalar(len(table) - 1, I64)
    inside = body.emit("Less", [index, last], of)
    index = body.emit("Where", [inside, index, last], of)
    return body.emit("Gather", [body.constant(f"{of}/powers", table, I64), index], of)
