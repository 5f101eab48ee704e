"""What shapes alone say: dense operations, synapses that exist, who gates whom."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from typing_extensions import assert_never

from lapilli.ir import ops
from lapilli.ir.graph import Graph, Node
from lapilli.ir.tensor import IntArray
from lapilli.ir.types import Kind, TensorType


@dataclass(frozen=True, slots=True, kw_only=True)
class Dense:
    """One synapse or product of a graph, of one step of one image, whatever is sent.

    Attributes:
        operations: multiply-accumulates of the dense layer, windows that hang over the border
            counted whole: the number that papers print.
        synapses: those of them that exist; what padding would multiply is not there.
        outputs: how many values it makes.
        parameters: its weights and biases, biases that are all zero left out.
    """

    operations: int
    synapses: int
    outputs: int
    parameters: int = 0


def conv_operations(
    out: tuple[int, ...], channels_in: int, kernel: tuple[int, ...], groups: int = 1
) -> int:
    """Multiply-accumulates of a dense convolution, windows at borders counted whole.

    Args:
        out: shape of what it makes, channels first.
        channels_in: of what it takes.
        kernel: of one window.
        groups: into which channels are divided.
    """
    return math.prod(out) * channels_in // groups * math.prod(kernel)


def linear_operations(rows: int, features_in: int, features_out: int) -> int:
    """Multiply-accumulates of a dense linear map of so many rows."""
    return rows * features_in * features_out


def dense(graph: Graph) -> dict[str, Dense]:
    """Count each synapse and product in closed form; other nodes multiply nothing."""
    return dict(_dense(graph))


def _dense(graph: Graph) -> Iterator[tuple[str, Dense]]:
    types = graph.types
    for node in graph.nodes:
        outputs = math.prod(types[node.name].shape)
        match node.op:
            case ops.Linear(weight=w) as op:
                rows = outputs // w.shape[0]
                made = linear_operations(rows, w.shape[1], w.shape[0])
                yield node.name, Dense(operations=made, synapses=made, outputs=outputs,
                                       parameters=_parameters(op))  # fmt: skip
            case ops.Conv2d(weight=w) as op:
                x = types[node.inputs[0]].shape
                reached = int(fan_out(op, x, types[node.name].shape).sum())
                yield (
                    node.name,
                    Dense(
                        operations=conv_operations(
                            types[node.name].shape, x[0], w.shape[2:], op.groups
                        ),
                        synapses=reached * w.shape[1] * w.shape[0],
                        outputs=outputs,
                        parameters=_parameters(op),
                    ),
                )
            case ops.SpikeMatmul() | ops.ShiftSum():
                made = outputs * types[node.inputs[0]].shape[-1]
                yield node.name, Dense(operations=made, synapses=made, outputs=outputs)
            case ops.Gate():
                yield node.name, Dense(operations=outputs, synapses=outputs, outputs=outputs)
            case (
                ops.Input() | ops.Add() | ops.Sum() | ops.MaxPool2d() | ops.Reshape()
                | ops.Permute() | ops.Expand() | ops.Slice() | ops.Concat() | ops.Delay()
                | ops.Neuron() | ops.GeneralNeuron() | ops.Membrane() | ops.Staircase() | ops.Relu()
                | ops.Readout()
            ):  # fmt: skip
                continue
            case _:
                assert_never(node.op)


def _parameters(op: ops.Weighted) -> int:
    return op.weight.size + (op.bias.size if op.bias.array.any() else 0)


def fan_out(op: ops.Conv2d, x: tuple[int, ...], y: tuple[int, ...]) -> IntArray:
    """How many windows see each pixel (H, W); each is an output of every channel of its group."""
    rows, columns = (
        _along(x[1 + i], y[1 + i], op.weight.shape[2 + i], op.stride[i], op.padding[i])
        for i in range(2)
    )
    return rows[:, None] * columns


def _along(size: int, outputs: int, kernel: int, stride: int, padding: int) -> IntArray:
    """Windows over each position of one axis."""
    starts = np.arange(outputs) * stride - padding
    seen = np.add.outer(starts, np.arange(kernel)).ravel()
    inside = seen[(seen >= 0) & (seen < size)]
    return np.asarray(np.bincount(inside, minlength=size), np.int64)


def window_sizes(op: ops.MaxPool2d, x: tuple[int, ...], y: tuple[int, ...]) -> IntArray:
    """How many values each window (H', W') holds, padding left out."""
    held = []
    for i in range(2):
        starts = np.arange(y[1 + i]) * op.stride[i] - op.padding[i]
        ends = np.minimum(starts + op.kernel[i], x[1 + i])
        held.append(ends - np.maximum(starts, 0))
    return np.asarray(held[0][:, None] * held[1], np.int64)


def gates(graph: Graph, node: Node) -> int:
    """Which operand of a product says how often the other is added: spikes, else fewer counts.

    Returns:
        0 or 1.
    """
    first, second = (graph.types[name] for name in node.inputs)
    return 0 if _rank(first) <= _rank(second) else 1


def _rank(of: TensorType) -> tuple[int, int]:
    """Spikes before counts, small counts before large, graded values last."""
    match of.kind:
        case Kind.SPIKES:
            return 0, 0
        case Kind.COUNTS:
            return 1, of.range.hi
        case Kind.GRADED:
            return 2, 0
        case _:
            assert_never(of.kind)
