"""When Lava shows each node, and what waits so that branches meet: `lapilli inspect --latency`."""

from __future__ import annotations

from dataclasses import dataclass

from lapilli.ir.graph import Graph
from lapilli.ir.passes.delays import balance_delays, bits_held, cost, latencies


@dataclass(frozen=True, slots=True)
class NodeLatency:
    """One node.

    Attributes:
        latency: Lava steps until it shows the first time step.
        waits: steps of the longest delay inserted behind it; bits: that its delays hold.
    """

    node: str
    latency: int
    waits: int
    bits: int


@dataclass(frozen=True, slots=True)
class Latencies:
    """Of a whole graph.

    Attributes:
        rows: one for each node, in order.
        path: the synapses of a longest path, each of which takes one step; delays of the graph's
            own among them.
    """

    rows: tuple[NodeLatency, ...]
    path: tuple[str, ...]

    @property
    def steps(self) -> int:
        """Of the longest path."""
        return max(row.latency for row in self.rows)

    @property
    def delay_bits(self) -> int:
        """Of all inserted delays."""
        return sum(row.bits for row in self.rows)


def lava_latencies(graph: Graph) -> Latencies:
    """What `balance_delays` makes of a graph, node by node."""
    balanced = balance_delays(graph)
    at = latencies(balanced)
    own = {node.name for node in graph.nodes}
    waits, bits = dict.fromkeys(own, 0), dict.fromkeys(own, 0)
    for node in balanced.nodes:
        if node.name not in own:
            source = node.inputs[0]
            while source not in own:
                source = balanced[source].inputs[0]
            waits[source] = max(waits[source], at[node.name] - at[source])
            bits[source] += cost(node.op) * bits_held(graph.types[source])
    rows = tuple(NodeLatency(n.name, at[n.name], waits[n.name], bits[n.name]) for n in graph.nodes)
    return Latencies(rows, _longest(graph))


def _longest(graph: Graph) -> tuple[str, ...]:
    """From the input to the node that comes last, whatever the delays."""
    earliest = latencies(graph)
    name, path = max(earliest, key=lambda n: earliest[n]), []
    while earliest[name]:
        node = graph[name]
        if cost(node.op):
            path.append(name)
        name = max(node.inputs, key=lambda n: earliest[n])
    return tuple(reversed(path))
