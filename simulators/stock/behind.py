"""What is behind the last neurons: linear in their spikes, and the host's to add up."""

from __future__ import annotations

from collections.abc import Mapping

from lapilli.ir import ops
from lapilli.ir.graph import Graph
from lapilli.ir.semantics import evaluate
from lapilli.ir.tensor import IntArray


def last_neurons(graph: Graph, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """The neurons nearest to what is wanted: the rest of the way is linear, and the host's."""
    needed = graph.ancestors(wanted, stop=lambda node: isinstance(node.op, ops.Neuron))
    return tuple(name for name in graph.neurons if name in needed)


def behind(
    graph: Graph, known: Mapping[str, IntArray], wanted: tuple[str, ...]
) -> dict[str, IntArray]:
    """Values (T, B, *shape) of nodes that are linear in spikes and inputs: a read-out, mostly."""
    needed = graph.ancestors(wanted, stop=lambda node: isinstance(node.op, ops.Neuron))
    values = dict(known)
    for node in graph.nodes:
        if node.name not in needed or node.name in values:
            continue
        operands = [values[i] for i in node.inputs]
        match node.op:
            case ops.Readout():
                values[node.name] = operands[0].cumsum(axis=0)
            case ops.Input() | ops.Neuron() | ops.GeneralNeuron() | ops.Membrane():
                raise TypeError(f"{node.name} is not linear in spikes and inputs")
            case op:
                T, B = operands[0].shape[:2]
                made = evaluate(op, tuple(x.reshape(T * B, *x.shape[2:]) for x in operands))
                values[node.name] = made.reshape(T, B, *made.shape[1:])
    return {name: values[name] for name in wanted}
