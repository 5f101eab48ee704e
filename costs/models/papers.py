"""What papers on spiking transformers print: E = 4.6 pJ * MAC + 0.9 pJ * AC, from firing rates.

The rule is that of Spikingformer's `energy_consumption_calculation` (commit 4378623), which others
share: AC = dense operations * firing rate of the input, borders counted whole; a layer whose input
has more than two values counts all its operations as MAC; attention by `attended`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

from lapilli.costs.models.model import Measured, Model, Term
from lapilli.ir import ops
from lapilli.ir.graph import Node

MAC, AC = "multiply-accumulate", "accumulate"


def fired(operations: int, rate: Fraction) -> Fraction:
    """Accumulates of a layer whose input fires at a rate; borders are not looked at."""
    return operations * rate


def attended(operations: int, first: Fraction, second: Fraction) -> Fraction:
    """Accumulates of a product of two binary operands, of whose firing rates the smaller counts."""
    return operations * min(first, second)


def coincident(operations: int, first: Fraction, second: Fraction) -> Fraction:
    """The same if spikes of the two operands had nothing to do with each other."""
    return operations * first * second


def rate(measured: Measured, operand: str, events: int) -> Fraction:
    """Firing rate of a binary operand, from its events in a run."""
    size = math.prod(measured.graph.types[operand].shape) * measured.steps
    return Fraction(events, size)


def operand_events(measured: Measured, node: Node) -> tuple[int, int]:
    """Events of the two operands of a product of spikes, told from its counts."""
    counted, size = measured.counts[node.name], measured.dense[node.name]
    by_gate = counted.accumulates // (size.operations // _elements(measured, node.inputs[0]))
    return by_gate, counted.events - by_gate


def _elements(measured: Measured, operand: str) -> int:
    return math.prod(measured.graph.types[operand].shape)


def _terms(measured: Measured) -> Iterator[Term]:
    graph = measured.graph
    for node in graph.nodes:
        if node.name not in measured.dense:
            continue
        operations = measured.dense[node.name].operations * measured.steps
        binary = [graph.types[name].is_binary for name in node.inputs]
        counted = measured.counts[node.name]
        if isinstance(node.op, ops.Weighted) and binary[0]:
            part = rate(measured, node.inputs[0], counted.events)
            yield Term(node.name, AC, fired(operations, part), driven=True)
        elif isinstance(node.op, ops.SpikeMatmul) and all(binary):
            events = operand_events(measured, node)
            one, other = (
                rate(measured, name, n) for name, n in zip(node.inputs, events, strict=True)
            )
            yield Term(node.name, AC, attended(operations, one, other), driven=True)
        elif isinstance(node.op, ops.SpikeMatmul) and any(binary):
            yield Term(node.name, AC, Fraction(counted.accumulates), driven=True)
        elif isinstance(node.op, ops.Weighted | ops.SpikeMatmul | ops.ShiftSum):
            yield Term(node.name, MAC, Fraction(operations), driven=False)


def _quantized(measured: Measured, node: Node) -> Iterator[Term]:
    operations = measured.dense[node.name].operations * measured.images
    yield Term(node.name, MAC, Fraction(operations), driven=False)


PAPERS = Model(
    name="papers",
    keys=(MAC, AC),
    equation=(
        "E = E_MAC * MAC + E_AC * AC; AC = dense operations * T * firing rate of a binary input, "
        "MAC = dense operations * T of any other; a product of two binary operands counts "
        "dense * min of both rates"
    ),
    omits=(
        "memory: weights, states and spikes move for nothing",
        "neurons, batch norm, biases, residual sums, pooling, masks",
        "borders: what lies in the padding is counted as if it were there",
        "float32 at 45 nm is priced, the network is integers",
    ),
    terms=_terms,
    quantized=_quantized,
    table="papers-float32",
    integers="papers-int8",
)
