"""What Lava cannot run, and which neurons its own cannot be: known before anything starts."""

from __future__ import annotations

from collections.abc import Mapping

from lapilli.ir import ops
from lapilli.ir.bounds import NeuronBounds
from lapilli.ir.certificate import certify, register_faults
from lapilli.ir.errors import Unsupported
from lapilli.ir.graph import Graph, Node

MESSAGE_BITS = 32


def refusals(graph: Graph) -> tuple[Unsupported, ...]:
    """Every reason why Lava cannot run `graph`; empty if it can."""
    return tuple(
        Unsupported(node.name, reason)
        for node in graph.nodes
        for reason in _message_faults(node, graph)
    )


def not_stock(graph: Graph) -> Mapping[str, tuple[str, ...]]:
    """Nodes that fire and that no neuron of `lava.proc` can be, with each reason.

    A process of ours takes their place: exact, but not what Intel's chip runs.
    """
    bounds = {b.name: b for b in certify(graph)}
    reasons = {node.name: _faults(node, bounds) for node in graph.nodes}
    return {name: faults for name, faults in reasons.items() if faults}


def _message_faults(node: Node, graph: Graph) -> tuple[str, ...]:
    proven = graph.types[node.name].range
    if proven.magnitude < 1 << (MESSAGE_BITS - 1):
        return ()
    return (f"value in [{proven.lo}, {proven.hi}]; messages have {MESSAGE_BITS} bits",)


def _faults(node: Node, bounds: Mapping[str, NeuronBounds]) -> tuple[str, ...]:
    op = node.op
    if isinstance(op, ops.Staircase):
        return ("several spikes in one step",)
    if not isinstance(op, ops.Neuron):
        return ()
    faults = list(register_faults(node, bounds[node.name]))
    if op.reset is not ops.Reset.TO_ZERO:
        how = "subtraction" if op.reset is ops.Reset.BY_SUBTRACTION else "no reset"
        faults.append(f"{how} on a spike; Lava's neurons set their membrane to zero")
    if op.du == 0:
        faults.append("a current that never decays; the register counts from 1 of 4096")
    if op.dv == ops.DECAY_ONE and op.du < ops.DECAY_ONE:
        faults.append("a full leak of v under a decaying current; dv ends at 4095 of 4096")
    return tuple(faults)
