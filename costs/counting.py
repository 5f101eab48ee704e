"""Counts of each node in closed form, from the values of a run: no event is delivered here.

The other counter is the simulator `event-driven`, which shares nothing with this file; tests hold
both to the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
from typing_extensions import assert_never

from lapilli.costs.shapes import fan_out, gates, window_sizes
from lapilli.costs.values import Values
from lapilli.ir import ops
from lapilli.ir.counts import Counts
from lapilli.ir.graph import Graph, Node
from lapilli.ir.recording import Recording
from lapilli.ir.tensor import IntArray, IntTensor
from lapilli.ir.types import Kind

ValueOf: TypeAlias = Callable[[str], IntArray]  # node name -> (T, B, *shape)


def count(graph: Graph, inputs: Mapping[str, IntArray], recording: Recording) -> dict[str, Counts]:
    """Count what each node did in a run.

    Args:
        graph: that ran; its values are those of `watched(graph)`, whichever of both it is.
        inputs: that it was given, (T, B, *shape).
        recording: of that run.

    Raises:
        InputError: the recording lacks a value that is needed.
    """
    steps = graph.T * next(iter(inputs.values())).shape[1]
    values = Values(graph, inputs, recording)
    return {node.name: counts_of(graph, node, values.of, steps) for node in graph.nodes}


def counts_of(graph: Graph, node: Node, value: ValueOf, steps: int) -> Counts:
    """Count one node.

    Args:
        graph: it is in.
        node: of that graph.
        value: of a node by name, over all steps.
        steps: how many, of all samples together.
    """
    return _passing(graph, node, value) + _work(graph, node, value, steps)


def _passing(graph: Graph, node: Node, value: ValueOf) -> Counts:
    """Events that arrive at what computes, and leave what fires."""
    events = sent = 0
    if not isinstance(node.op, ops.Wiring | ops.Concat | ops.Delay):
        arriving = [name for name in node.inputs if graph.types[name].kind is not Kind.GRADED]
        events = sum(_magnitude(value(name)) for name in arriving)
    if isinstance(node.op, ops.Input | ops.Firing | ops.Relu):
        graded = graph.types[node.name].kind is Kind.GRADED
        out = value(node.name)
        sent = int(np.count_nonzero(out)) if graded else _magnitude(out)
    return Counts(events=events, sent=sent)


def _work(graph: Graph, node: Node, value: ValueOf, steps: int) -> Counts:
    """What it computes."""
    size = math.prod(graph.types[node.name].shape) * steps
    match node.op:
        case ops.Linear() | ops.Conv2d():
            return _weighted(graph, node, node.op, value(node.inputs[0]), size)
        case ops.SpikeMatmul():
            return _matmul(graph, node, value)
        case ops.Gate():
            by = gates(graph, node)
            gate, other = value(node.inputs[by]), value(node.inputs[1 - by])
            met = _magnitude(np.where(other != 0, gate, 0))
            return Counts(accumulates=_magnitude(gate), coincidences=met)
        case ops.ShiftSum() as op:
            rows = math.prod(graph.types[node.inputs[0]].shape[:-1]) * steps
            width = graph.types[node.name].shape[-1]
            return _shift_sum(op, value(node.inputs[0]), rows, width)
        case ops.Add():
            if _takes_events(graph, node):
                return Counts(accumulates=sum(_magnitude(value(name)) for name in node.inputs))
            return Counts(additions=size)
        case ops.Sum():
            if _takes_events(graph, node):
                return Counts(accumulates=_magnitude(value(node.inputs[0])))
            return Counts(additions=math.prod(graph.types[node.inputs[0]].shape) * steps - size)
        case ops.MaxPool2d() as op:
            x, y = graph.types[node.inputs[0]].shape, graph.types[node.name].shape
            compares = np.maximum(window_sizes(op, x, y) - 1, 0)
            return Counts(compares=int(compares.sum()) * y[0] * steps)
        case ops.Neuron() as op:
            return _updates(op, graph.types[node.name].shape, steps)
        case ops.GeneralNeuron() as op:
            samples = steps // graph.T
            return _general_updates(op, graph.types[node.name].shape, graph.T).times(samples)
        case ops.Membrane(neuron=op):
            return _updates(op, graph.types[node.name].shape, steps)
        case ops.Staircase(thresholds=thresholds):
            return Counts(updates=size, compares=size * thresholds.shape[0])
        case ops.Relu():
            return Counts(updates=size, compares=size)
        case ops.Readout():
            return Counts(additions=size)
        case ops.Input():
            return Counts()
        case (
            ops.Reshape() | ops.Permute() | ops.Expand() | ops.Slice() | ops.Concat() | ops.Delay()
        ):  # the same values elsewhere, or later
            return Counts()
        case _:
            assert_never(node.op)


def _takes_events(graph: Graph, node: Node) -> bool:
    return all(graph.types[name].kind is not Kind.GRADED for name in node.inputs)


def _magnitude(x: IntArray) -> int:
    """Events of spikes and counts."""
    return int(np.abs(x).sum())


def _weighted(graph: Graph, node: Node, op: ops.Weighted, x: IntArray, size: int) -> Counts:
    """A map of constant weights: each event, or graded value, reaches its fan-out."""
    heights = (x != 0).astype(np.int64) if op.graded else np.abs(x)
    outputs, biases = op.weight.shape[0], int(np.count_nonzero(op.bias.array))
    match op:
        case ops.Linear():
            reached = int(heights.sum()) * outputs
        case ops.Conv2d():
            shapes = graph.types[node.inputs[0]].shape, graph.types[node.name].shape
            by_pixel = heights.sum(axis=(0, 1, 2))
            reached = int((by_pixel * fan_out(op, *shapes)).sum()) * (outputs // op.groups)
        case _:
            assert_never(op)
    added = size // outputs * biases
    if op.graded:
        return Counts(multiplies=reached, additions=added)
    return Counts(accumulates=reached, additions=added)


def _matmul(graph: Graph, node: Node, value: ValueOf) -> Counts:
    """A product of matrices (n, k) and (k, m): events by k, times what they meet there."""
    first, second = (value(name) for name in node.inputs)
    if gates(graph, node) == 0:
        gate, met, row = np.abs(first).sum(axis=-2), np.count_nonzero(second, axis=-1), -1
    else:
        gate, met, row = np.abs(second).sum(axis=-1), np.count_nonzero(first, axis=-2), -2
    length = graph.types[node.name].shape[row]
    return Counts(accumulates=int(gate.sum()) * length, coincidences=int((gate * met).sum()))


def _shift_sum(op: ops.ShiftSum, scores: IntArray, rows: int, width: int) -> Counts:
    """Powers of two that are added, and rows that are shifted and added."""
    below = scores.max(axis=-1, keepdims=True) - scores
    kept = below <= op.window
    powers = np.where(kept, np.left_shift(1, np.where(kept, op.window - below, 0)), 0)
    total = powers.sum(axis=-1, keepdims=True)
    gamma = np.frexp(total - 1)[1].astype(np.int64) - op.window  # above the largest score
    shifted = int(np.count_nonzero(gamma + below <= op.reach)) * width
    return Counts(
        accumulates=int(np.count_nonzero(kept)) + shifted,
        shifts=shifted,
        compares=rows * (scores.shape[-1] - 1),
    )


def _updates(op: ops.Neuron, shape: tuple[int, ...], steps: int) -> Counts:
    size = math.prod(shape) * steps
    biases = int(np.count_nonzero(np.broadcast_to(op.bias.array, (1, *shape))))
    return Counts(updates=size, compares=size * (1 + op.ternary), additions=biases * steps)


def _general_updates(op: ops.GeneralNeuron, shape: tuple[int, ...], T: int) -> Counts:
    """Of one sample: its taps are those of the steps that were, each unless it is 0."""
    size, (levels, reach) = math.prod(shape), (op.threshold.shape[1], op.taps.shape[1])
    taps = np.broadcast_to(_all_axes(op.taps, shape, reach), (T, reach, *shape))
    behind = np.arange(T)[:, None] - np.arange(reach)  # below 0: before the first step
    there = (taps != 0) & (behind >= 0).reshape(T, reach, *[1] * len(shape))
    products = there & (np.bitwise_and(np.abs(taps), np.abs(taps) - 1) != 0)
    biases = np.broadcast_to(_all_axes(op.bias, shape), (T, *shape))
    return Counts(
        updates=T * size,
        compares=T * size * (levels + op.floored),
        multiplies=int(np.count_nonzero(products)),
        additions=int(np.maximum(there.sum(axis=1) - 1, 0).sum()) + int(np.count_nonzero(biases)),
    )


def _all_axes(constant: IntTensor, shape: tuple[int, ...], *more: int) -> IntArray:
    """A constant of a general neuron with all its axes: (T or 1, *more, 1 or *shape)."""
    each = constant.array
    axes = each.shape[1 + len(more) :]
    own = (*[1] * (len(shape) - len(axes)), *axes) if math.prod(axes) > 1 else [1] * len(shape)
    return each.reshape(len(each), *more, *own)
