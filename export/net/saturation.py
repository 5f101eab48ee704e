"""Membranes of a `.net` file that inhibition can take to the end of their register.

Lava clips a membrane to 24 bits, where a current wraps. At the upper end a neuron has fired before;
at the lower one it stays, which a general neuron with a floor says.
"""

from __future__ import annotations

from dataclasses import replace

from lapilli.ir import ops
from lapilli.ir.certificate import certify
from lapilli.ir.errors import RangeError
from lapilli.ir.graph import Graph
from lapilli.ir.loihi import state_fault
from lapilli.ir.targets.loihi1 import STATE
from lapilli.ir.tensor import IntTensor


def saturating(graph: Graph) -> Graph:
    """Return the graph with states that netx's registers hold, or that stay at their lower end.

    Raises:
        RangeError: a current, or a membrane above 0, that leaves its register.
    """
    beyond = {bounds.name for bounds in certify(graph) if state_fault(bounds)}
    if not beyond:
        return graph
    nodes = (replace(n, op=_clipped(n.op)) if n.name in beyond else n for n in graph.nodes)
    graph = Graph(tuple(nodes), graph.outputs, graph.T)
    for bounds in certify(graph):
        if fault := state_fault(bounds):
            raise RangeError(bounds.name, fault)
    return graph


def _clipped(op: ops.Op) -> ops.Op:
    if not isinstance(op, ops.Neuron):
        return op
    return ops.GeneralNeuron(
        taps=IntTensor.of([[[1 << op.fraction_bits]]]),
        threshold=IntTensor.of(op.threshold.array[None, None]),
        dv=IntTensor.of([[op.dv]]),
        du=IntTensor.of([[op.du]]),
        bias=IntTensor.of(op.bias.array[None]),
        reset=op.reset,
        fraction_bits=op.fraction_bits,
        floored=True,
        floor=-STATE.largest,
    )
