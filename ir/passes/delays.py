"""Make both operands of every join arrive in the same step of a pipelined target."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise

import numpy as np
from typing_extensions import assert_never

from lapilli.ir import ops
from lapilli.ir.graph import Graph, Node
from lapilli.ir.types import TensorType


def cost(op: ops.Op) -> int:
    """Steps between a value and its effect: one for each synapse, as on Loihi."""
    if isinstance(op, ops.Delay):
        return op.steps
    if isinstance(op, ops.Synaptic):
        return 1
    if isinstance(op, ops.Input | ops.Immediate | ops.Stateful):
        return 0
    assert_never(op)


def latencies(graph: Graph) -> Mapping[str, int]:
    """Step at which each node first shows the first model step, by name."""
    latency: dict[str, int] = {}
    for node in graph.nodes:
        latency[node.name] = max((latency[i] for i in node.inputs), default=0) + cost(node.op)
    return latency


def bits_held(kind: TensorType) -> int:
    """Bits that one step of delay keeps of a value."""
    return math.prod(kind.shape) * kind.range.bits


def delay_bits(graph: Graph) -> int:
    """Bits that all delays of a graph hold at a time."""
    return sum(
        node.op.steps * bits_held(graph.types[node.name])
        for node in graph.nodes
        if isinstance(node.op, ops.Delay)
    )


def schedule(graph: Graph) -> Mapping[str, int]:
    """The latency of each node for which balancing holds the fewest bits.

    No output comes later than its longest path makes it. A value waits for the last of its
    readers, all on one line, so a node i with readers n holds bits_held(i) times
    max(latency(n) - cost(n)) - latency(i): a linear program of differences, whose corners are
    integers. Source: Leiserson and Saxe, "Retiming synchronous circuitry", Algorithmica 1991.
    """
    from scipy.optimize import linprog
    from scipy.sparse import coo_array

    earliest = latencies(graph)
    at = {node.name: k for k, node in enumerate(graph.nodes)}
    read_until = {name: len(at) + k for name, k in at.items()}  # when its last reader takes it
    most = max(earliest.values())
    # Each pair says that the first variable is at least the second plus a constant.
    differences = [(read_until[name], at[name], 0) for name in at]
    for node in graph.nodes:
        for source in node.inputs:
            differences.append((at[node.name], at[source], cost(node.op)))
            differences.append((read_until[source], at[node.name], -cost(node.op)))
    later, sooner, least = np.array(differences).T
    rows = np.arange(len(differences))
    signs = np.concatenate([np.full(len(rows), -1), np.ones(len(rows))])
    matrix = coo_array((signs, (np.tile(rows, 2), np.concatenate([later, sooner]))))
    weight = np.array([bits_held(graph.types[name]) for name in at], np.float64)
    fixed = {*graph.inputs, *graph.outputs}
    bounds = [(earliest[n] if n in fixed else 0, earliest[n] if n in fixed else most) for n in at]
    solved = linprog(
        np.concatenate([-weight, weight]),
        A_ub=matrix.tocsr(),
        b_ub=-least,
        bounds=[*bounds, *[(0, most)] * len(at)],
        method="highs-ds",
    )
    return {name: round(solved.x[k]) for name, k in at.items()}


def balance_delays(graph: Graph) -> Graph:
    """Insert a `Delay` wherever an operand would arrive before its sibling.

    Consumers of one value share one delay line: `x.delay3` hangs on `x.delay1`. No other
    choice of delays holds fewer bits, or shows an output sooner.
    Every value stays what it was; only the step at which a target shows it moves.
    """
    latency = schedule(graph)
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
            line = ops.Delay(steps=after - before)
            nodes.append(Node(_tap(node.name, after), line, (_tap(node.name, before),)))
    return Graph(tuple(nodes), graph.outputs, graph.T)


def _tap(source: str, steps: int) -> str:
    return f"{source}.delay{steps}" if steps else source
