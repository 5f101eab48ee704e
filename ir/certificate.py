"""What can be proved about a graph's numbers before it runs.

For each neuron: the interval of its current and membrane over a whole sample, and whether
a decay can ever truncate. From these follow what fits Loihi's registers and what a float
runtime holds exactly (24 bits of float32, 53 of float64).
"""

from __future__ import annotations

from lapilli.ir import ops
from lapilli.ir.bounds import NeuronBounds, neuron_bounds
from lapilli.ir.errors import RangeError
from lapilli.ir.graph import Graph, Node

STATE_BITS = 24  # u and v on Loihi; u wraps and v saturates silently beyond
THRESHOLD_BITS = 17  # vth, unsigned
BIAS_BITS = 13  # bias_mant, signed
TIE = 1 << ops.LOIHI_FRACTION_BITS  # Loihi fires on v > vth * 64


def certify(graph: Graph) -> tuple[NeuronBounds, ...]:
    """Bounds of every neuron and of every membrane that is read, in topological order."""
    return tuple(
        neuron_bounds(node.name, op, graph.types[node.inputs[0]], graph.T)
        for node in graph.nodes
        if (op := _integrates(node)) is not None
    )


def _integrates(node: Node) -> ops.Neuron | None:
    if isinstance(node.op, ops.Membrane):
        return node.op.neuron
    return node.op if isinstance(node.op, ops.Neuron) else None


def beyond_registers(bounds: NeuronBounds) -> str:
    """Which of Loihi's 24 bits a state could leave; empty if it fits."""
    if max(bounds.u.magnitude, bounds.v.magnitude) < 1 << (STATE_BITS - 1):
        return ""
    reach = bounds.u | bounds.v
    return (
        f"its state can reach [{reach.lo}, {reach.hi}] and needs {max(25, bounds.state_bits)} "
        f"bits; Loihi's registers have {STATE_BITS}"
    )


def check_registers(graph: Graph) -> None:
    """Refuse a graph whose state could leave Loihi's 24 bits.

    Raises:
        RangeError: the node, the bits it needs and the bits there are.
    """
    for bounds in certify(graph):
        if problem := beyond_registers(bounds):
            raise RangeError(bounds.name, f"{problem}; quantize this layer to fewer bits")


def register_faults(node: Node, bounds: NeuronBounds) -> tuple[str, ...]:
    """Why stock Loihi registers cannot hold this neuron; empty if they can."""
    op = node.op
    if not isinstance(op, ops.Neuron):
        return ()
    faults = []
    if op.threshold.array.size != 1:
        faults.append("one threshold per neuron; a stock population has one for all")
    elif (theta := int(op.threshold.array.ravel()[0])) % TIE != 1:
        faults.append(f"threshold {theta} is not 64 * vth + 1, so that >= and > would differ")
    elif theta >> ops.LOIHI_FRACTION_BITS >= 1 << THRESHOLD_BITS:
        faults.append(
            f"vth {theta >> ops.LOIHI_FRACTION_BITS} needs more than {THRESHOLD_BITS} bits"
        )
    if op.bias.range.magnitude >= 1 << (BIAS_BITS - 1):
        faults.append(f"bias up to {op.bias.range.magnitude} needs more than {BIAS_BITS} bits")
    if op.fraction_bits < ops.LOIHI_FRACTION_BITS:
        faults.append(f"{op.fraction_bits} fraction bits; Loihi shifts its input by 6")
    if beyond_registers(bounds):
        faults.append(f"state needs {max(25, bounds.state_bits)} bits, there are {STATE_BITS}")
    return tuple(faults)
