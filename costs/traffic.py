"""What is read and written, in bits, at the widths that are proved: counts times widths."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

from typing_extensions import assert_never

from lapilli.costs.shapes import gates
from lapilli.ir import ops
from lapilli.ir.bounds import neuron_bounds
from lapilli.ir.counts import Counts
from lapilli.ir.graph import Graph, Node
from lapilli.ir.partial_sums import partial_sum
from lapilli.ir.types import IntRange

BYTE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Widths:
    """Bits of what one node holds, proved; 0 of what it has not.

    Attributes:
        weight, bias: of one of them, sign included, without the powers of two that all share.
        value: of an element of the operand that is added up by a product.
        sum: of a sum on its way, whatever the order of addition.
        state: that a neuron remembers from step to step: its membrane, its current if that decays
            slowly; of a read-out its sum.
    """

    weight: int = 0
    bias: int = 0
    value: int = 0
    sum: int = 0
    state: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Bits that one node reads and writes in a run.

    Attributes:
        weights: read, one for each synaptic event or product; biases: read, one for each output.
        values: of a product's other operand, read for each event.
        sums: read and written back, once for each addition that an event causes.
        states: read, and written back, at each update.
    """

    weights: int = 0
    biases: int = 0
    values: int = 0
    sums: int = 0
    states: int = 0

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(**{n: getattr(self, n) + getattr(other, n) for n in TRAFFIC_FIELDS})


TRAFFIC_FIELDS = tuple(field.name for field in fields(Traffic))


def widths(graph: Graph) -> dict[str, Widths]:
    """Return how wide what each node holds is."""
    return {node.name: _widths(graph, node) for node in graph.nodes}


def traffic(counts: Mapping[str, Counts], of: Mapping[str, Widths]) -> dict[str, Traffic]:
    """Multiply counts by widths.

    What is registers of a core in every design that we know is left out: thresholds and biases of
    neurons; so are inputs, spikes on their way and addresses, which no graph decides.
    """
    return {name: _traffic(counted, of[name]) for name, counted in counts.items()}


def _traffic(counted: Counts, width: Widths) -> Traffic:
    if width.state:
        steps = counted.updates or counted.additions  # of a read-out
        return Traffic(states=2 * steps * width.state)
    caused = counted.accumulates + counted.multiplies
    return Traffic(
        weights=caused * width.weight,
        biases=counted.additions * width.bias,
        values=counted.accumulates * width.value,
        sums=2 * caused * width.sum,
    )


def _widths(graph: Graph, node: Node) -> Widths:
    match node.op:
        case ops.Linear(weight=w, bias=b) | ops.Conv2d(weight=w, bias=b):
            return Widths(
                weight=_signed(w.mantissa.range),
                bias=_signed(b.range) if b.array.any() else 0,
                sum=_sum_bits(graph, node),
            )
        case ops.SpikeMatmul() | ops.Gate():
            other = graph.types[node.inputs[1 - gates(graph, node)]]
            return Widths(value=other.range.bits, sum=_sum_bits(graph, node))
        case ops.ShiftSum():
            values = graph.types[node.inputs[1]]
            return Widths(value=values.range.bits, sum=_sum_bits(graph, node))
        case ops.Add() | ops.Sum():
            return Widths(sum=graph.types[node.name].range.bits)
        case ops.Neuron() | ops.GeneralNeuron() as op:
            return Widths(state=_state(graph, node, op))
        case ops.Membrane(neuron=op):
            return Widths(state=_state(graph, node, op))
        case ops.Readout():
            return Widths(state=_signed(graph.types[node.name].range))
        case (
            ops.Input() | ops.MaxPool2d() | ops.Reshape() | ops.Permute() | ops.Expand()
            | ops.Slice() | ops.Concat() | ops.Delay() | ops.Staircase() | ops.Relu()
        ):  # fmt: skip  # they hold nothing from step to step, and add nothing up
            return Widths()
        case _:
            assert_never(node.op)


def _signed(values: IntRange) -> int:
    return (values | IntRange(-1, 0)).bits


def _sum_bits(graph: Graph, node: Node) -> int:
    most = partial_sum(graph, node)
    return IntRange(-most, most).bits


def _state(graph: Graph, node: Node, op: ops.Integrating) -> int:
    """Bits of what a neuron remembers; a neuron that forgets all at each step has none."""
    x = graph.types[node.inputs[0]]
    bounds = neuron_bounds(node.name, op, x, graph.T)
    if isinstance(op, ops.GeneralNeuron):
        dv, du = op.dv.range.lo, op.du.range.lo
        earlier = (op.taps.shape[1] - 1) * x.range.bits
    else:
        dv, du, earlier = op.dv, op.du, 0
    membrane = _signed(bounds.after) if dv < ops.DECAY_ONE else 0
    current = _signed(bounds.u) if du < ops.DECAY_ONE else 0
    return membrane + current + earlier


def state_bits(graph: Graph, of: Mapping[str, Widths]) -> int:
    """Bits of all states of one sample: the memory that a chip must have for them."""
    return sum(of[n.name].state * math.prod(graph.types[n.name].shape) for n in graph.nodes)
