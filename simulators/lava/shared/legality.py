"""What Lava cannot run, and which neurons its own cannot be: known before anything starts."""

from __future__ import annotations

from lapilli.ir import loihi, ops
from lapilli.ir.certificate import certify
from lapilli.ir.errors import Unsupported
from lapilli.ir.graph import Graph
from lapilli.ir.targets.lava import MESSAGE


def unsupported(graph: Graph) -> tuple[Unsupported, ...]:
    """Every reason why Lava cannot run `graph`; empty if it can."""
    return tuple(
        Unsupported(name, f"value in [{r.lo}, {r.hi}]; messages have {MESSAGE.bits} bits")
        for name, r in ((node.name, graph.types[node.name].range) for node in graph.nodes)
        if not MESSAGE.holds(r)
    )


def unsupported_by_lif(graph: Graph) -> tuple[Unsupported, ...]:
    """Nodes that fire and that no neuron of `lava.proc` can be, with each reason.

    A process of ours takes their place: exact, but not what Intel's chip runs.
    """
    bounds = {b.name: b for b in certify(graph)}
    found: list[Unsupported] = []
    for node in graph.nodes:
        op = node.op
        if isinstance(op, ops.Staircase):
            found.append(Unsupported(node.name, "several spikes in one step"))
        elif isinstance(op, ops.GeneralNeuron):
            found.append(
                Unsupported(node.name, "constants of each step or channel, taps or a floor")
            )
        elif isinstance(op, ops.Neuron):
            found.extend(loihi.unsupported(op, bounds[node.name]))
            if op.reset is not ops.Reset.TO_ZERO:
                how = "subtraction" if op.reset is ops.Reset.BY_SUBTRACTION else "no reset"
                reason = f"{how} on a spike; Lava's neurons set their membrane to zero"
                found.append(Unsupported(node.name, reason))
    return tuple(found)
