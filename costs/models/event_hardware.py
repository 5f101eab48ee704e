"""A chip that works by events: synaptic events, neuron updates and spikes, each at its price."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from lapilli.costs.models.model import Measured, Model, Term
from lapilli.ir import ops

EVENT, UPDATE, SPIKE = "synaptic event", "neuron update", "spike"


def _terms(measured: Measured) -> Iterator[Term]:
    for node in measured.graph.nodes:
        counted = measured.counts[node.name]
        caused = counted.accumulates + counted.multiplies
        if caused:
            yield Term(node.name, EVENT, Fraction(caused), driven=True)
        if counted.updates:
            yield Term(node.name, UPDATE, Fraction(counted.updates), driven=False)
        elif isinstance(node.op, ops.Readout):
            yield Term(node.name, UPDATE, Fraction(counted.additions), driven=False)
        if counted.sent:
            yield Term(node.name, SPIKE, Fraction(counted.sent), driven=True)


EVENT_HARDWARE = Model(
    name="event-hardware",
    keys=(EVENT, UPDATE, SPIKE),
    equation=(
        "E = E_event * synaptic events + E_update * neuron updates + E_spike * spikes; additions "
        "that events cause in products, sums and residuals are synaptic events, too"
    ),
    omits=(
        "routing between cores and chips, and copies of a spike for several cores",
        "what it takes to lower products and pooling to neurons of the chip: planes and ANDs",
        "host, input and output, static power, the time that a step takes",
        "a graded value is one event for each synapse that it reaches",
    ),
    terms=_terms,
    quantized=None,
    table="loihi1-active",
    integers="loihi1-active",
)
