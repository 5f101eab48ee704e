"""What Lava's stock neuron cannot be, node by node: declined before anything starts."""

from __future__ import annotations

from lapilli.ir.certificate import NeuronBounds, certify, register_faults
from lapilli.ir.errors import Unsupported
from lapilli.ir.graph import Graph, Node
from lapilli.ir.ops import DECAY_ONE, Neuron, Reset

MESSAGE_BITS = 32


def refusals(graph: Graph) -> tuple[Unsupported, ...]:
    """Every reason why Lava cannot run `graph`; empty if it can."""
    bounds = {b.name: b for b in certify(graph)}
    return tuple(
        Unsupported(node.name, reason)
        for node in graph.nodes
        for reason in (*_message_faults(node, graph), *_neuron_faults(node, bounds))
    )


def _message_faults(node: Node, graph: Graph) -> tuple[str, ...]:
    proven = graph.types[node.name].range
    if proven.magnitude < 1 << (MESSAGE_BITS - 1):
        return ()
    return (f"value in [{proven.lo}, {proven.hi}]; messages have {MESSAGE_BITS} bits",)


def _neuron_faults(node: Node, bounds: dict[str, NeuronBounds]) -> tuple[str, ...]:
    op = node.op
    if not isinstance(op, Neuron):
        return ()
    faults = list(register_faults(node, bounds[node.name]))
    if op.reset is not Reset.TO_ZERO:
        how = "subtraction" if op.reset is Reset.BY_SUBTRACTION else "no reset"
        faults.append(f"{how} on a spike; Lava's LIF sets its membrane to zero")
    if op.ternary:
        faults.append("ternary spikes; Lava's TernaryLIF cannot be reset between samples")
    if op.du == 0:
        faults.append("a current that never decays; the register counts from 1 of 4096")
    if op.dv == DECAY_ONE and op.du < DECAY_ONE:
        faults.append("a full leak of v under a decaying current; dv ends at 4095 of 4096")
    return tuple(faults)
