"""The values that counts look at: recorded ones, and those that wiring and sums make of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lapilli.ir import ops
from lapilli.ir.errors import InputError
from lapilli.ir.graph import Graph, Node
from lapilli.ir.recording import Recording
from lapilli.ir.semantics import evaluate
from lapilli.ir.tensor import IntArray
from lapilli.ir.types import Kind

_CHEAP = ops.Immediate | ops.Delay | ops.Sum  # made again from operands; the rest is recorded


def watched(graph: Graph) -> Graph:
    """The same graph, with all that counting needs among its outputs, so that it is recorded."""
    known = {*graph.inputs, *graph.recorded}
    missing = [name for name in _needed(graph) if name not in known]
    return Graph(graph.nodes, (*graph.outputs, *missing), graph.T)


def _needed(graph: Graph) -> list[str]:
    """Names of the values that decide a count, or from which those are made, in order."""
    wanted: set[str] = set()
    for node in reversed(graph.nodes):
        if node.name in wanted and isinstance(node.op, _CHEAP) and not _is_shown(node):
            wanted.update(node.inputs)
            wanted.discard(node.name)
        if isinstance(node.op, ops.Relu):
            wanted.add(node.name)
        wanted.update(name for name in node.inputs if _decides(graph, node, name))
    return [node.name for node in graph.nodes if node.name in wanted]


def _is_shown(node: Node) -> bool:
    """Whether every simulator records it, or is asked to."""
    return isinstance(node.op, ops.Firing | ops.Relu)


def _decides(graph: Graph, node: Node, operand: str) -> bool:
    """Whether the count of a node depends on the values of an operand."""
    if isinstance(node.op, ops.Wiring | ops.Concat | ops.Delay):
        return False
    own = ops.Weighted | ops.SpikeMatmul | ops.Gate | ops.ShiftSum
    return isinstance(node.op, own) or graph.types[operand].kind is not Kind.GRADED


@dataclass(slots=True, eq=False)
class Values:
    """Values of one run by name.

    Attributes:
        graph: that ran; inputs: that it was given; recording: of it.
    """

    graph: Graph
    inputs: Mapping[str, IntArray]
    recording: Recording
    made: dict[str, IntArray] = field(default_factory=dict)

    def of(self, name: str) -> IntArray:
        """Value (T, B, *shape) of a node.

        Raises:
            InputError: it was not recorded, and is not made of what was.
        """
        if name in self.inputs:
            return self.inputs[name]
        if name in self.recording.values:
            return self.recording.values[name]
        if name not in self.made:
            self.made[name] = self._remade(self.graph[name])
        return self.made[name]

    def _remade(self, node: Node) -> IntArray:
        if not isinstance(node.op, _CHEAP):
            raise InputError(f"the recording lacks {node.name!r}: run `watched(graph)`")
        operands = [self.of(name) for name in node.inputs]
        T, B = operands[0].shape[:2]
        flat = tuple(x.reshape(T * B, *x.shape[2:]) for x in operands)
        y = evaluate(node.op, flat)
        return y.reshape(T, B, *y.shape[1:])
