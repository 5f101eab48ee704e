"""Make both operands of every join arrive in the same step of a pipelined target."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from lapilli.ir.graph import Graph, Node
from lapilli.ir.ops import Conv2d, Delay, Gate, Linear, MaxPool2d, Op, ShiftSum, SpikeMatmul, Sum


def cost(op: Op) -> int:
    """Steps between a value and its effect: one for each synapse, as on Loihi."""
    if isinstance(op, Delay):
        return op.steps
    synapses = Linear | Conv2d | SpikeMatmul | Gate | ShiftSum | Sum | MaxPool2d
    return int(isinstance(op, synapses))


def latencies(graph: Graph) -> Mapping[str, int]:
    """Step at which each node first shows the first model step, by name."""
    latency: dict[str, int] = {}
    for node in graph.nodes:
        latency[node.name] = max((latency[i] for i in node.inputs), default=0) + cost(node.op)
    return latency


def balance_delays(graph: Graph) -> Graph:
    """Insert a `Delay` wherever an operand would arrive before its sibling.

    Consumers of one value share one delay line: `x.delay3` hangs on `x.delay1`.
    Every value stays what it was; only the step at which a target shows it moves.
    """
    latency = latencies(graph)
    needed: dict[str, set[int]] = {}
    for node in graph.nodes:
        for source in node.inputs:
            if late := latency[node.name] - cost(node.op) - latency[source]:
                needed.setdefault(source, set()).add(late)
    nodes: list[Node] = []
    for node in graph.nodes:
        at = latency[node.name] - cost(node.op)
        sources = tuple(_tap(i, at - latency[i]) for i in node.inputs)
        nodes.append(Node(node.name, node.op, sources))
        taps = [0, *sorted(needed.get(node.name, ()))]
        for before, after in pairwise(taps):
            line = Delay(steps=after - before)
            nodes.append(Node(_tap(node.name, after), line, (_tap(node.name, before),)))
    return Graph(tuple(nodes), graph.outputs, graph.T)


def _tap(source: str, steps: int) -> str:
    return f"{source}.delay{steps}" if steps else source
