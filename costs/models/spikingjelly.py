"""SpikingJelly 2.0's simple energy: operations, and bytes of weights and states."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from lapilli.costs.models.model import Measured, Model, Term
from lapilli.costs.traffic import BYTE
from lapilli.ir import ops
from lapilli.ir.graph import Node

MAC, AC, MOVED = "multiply-accumulate", "accumulate", "byte"


def _terms(measured: Measured) -> Iterator[Term]:
    for node in measured.graph.nodes:
        yield from _of(measured, node)


def _of(measured: Measured, node: Node) -> Iterator[Term]:
    graph, counted = measured.graph, measured.counts[node.name]
    moved, width = measured.traffic[node.name], measured.widths[node.name]
    binary = [graph.types[name].is_binary for name in node.inputs]
    if isinstance(node.op, ops.Weighted):
        yield Term(node.name, MOVED, Fraction(moved.biases, BYTE), driven=False)
        if binary[0]:
            added = counted.accumulates + counted.multiplies  # of an image of zeros and ones
            yield Term(node.name, AC, Fraction(added), driven=True)
            yield Term(node.name, MOVED, Fraction(moved.weights, BYTE), driven=True)
        else:
            operations = measured.dense[node.name].operations * measured.steps
            yield Term(node.name, MAC, Fraction(operations), driven=False)
            read = Fraction(operations * width.weight, BYTE)
            yield Term(node.name, MOVED, read, driven=False)
    elif isinstance(node.op, ops.SpikeMatmul | ops.Gate):
        if all(binary):
            yield Term(node.name, AC, Fraction(counted.coincidences), driven=True)
        elif any(binary):
            yield Term(node.name, AC, Fraction(counted.accumulates), driven=True)
        else:
            operations = measured.dense[node.name].operations * measured.steps
            yield Term(node.name, MAC, Fraction(operations), driven=False)
    elif isinstance(node.op, ops.ShiftSum):
        yield Term(node.name, AC, Fraction(counted.accumulates), driven=False)
    elif isinstance(node.op, ops.Add) and all(binary):
        yield Term(node.name, AC, Fraction(counted.accumulates), driven=True)
    elif isinstance(node.op, ops.Add | ops.Sum):
        yield Term(node.name, AC, Fraction(_dense_additions(measured, node)), driven=False)
    elif moved.states:
        yield Term(node.name, MOVED, Fraction(moved.states, BYTE), driven=False)
        if isinstance(node.op, ops.Readout):
            yield Term(node.name, AC, Fraction(counted.additions), driven=False)


def _dense_additions(measured: Measured, node: Node) -> int:
    """One for each element of a sum of two; of a reduction those that it takes to reduce."""
    sizes = [_size(measured, name) for name in (node.inputs[0], node.name)]
    each = sizes[1] if isinstance(node.op, ops.Add) else sizes[0] - sizes[1]
    return each * measured.steps


def _size(measured: Measured, name: str) -> int:
    size = 1
    for length in measured.graph.types[name].shape:
        size *= length
    return size


def _quantized(measured: Measured, node: Node) -> Iterator[Term]:
    dense, width = measured.dense[node.name], measured.widths[node.name]
    operations = dense.operations * measured.images
    yield Term(node.name, MAC, Fraction(operations), driven=False)
    bits = operations * width.weight + dense.outputs * measured.images * width.bias
    yield Term(node.name, MOVED, Fraction(bits, BYTE), driven=False)


SPIKINGJELLY = Model(
    name="spikingjelly",
    keys=(MAC, AC, MOVED),
    equation=(
        "E = E_MAC * MAC + E_AC * AC + E_byte * bytes; bytes are weights read for each synaptic "
        "operation, biases for each output, and states read and written at each update, at the "
        "widths of the integers"
    ),
    omits=(
        "inputs, currents and spikes on their way, FIFOs, addresses, routing",
        "sums that are read and written back while they are added up",
        "arithmetic inside neurons: decays, compares, resets",
        "one price for a byte, however large the memory is",
    ),
    terms=_terms,
    quantized=_quantized,
    table="spikingjelly-fp32",
    integers="spikingjelly-int8",
)
