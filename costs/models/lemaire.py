"""Lemaire et al. 2022: operations, addressing, and SRAM whose price grows with its size."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from lapilli.costs.models.model import Measured, Model, Term
from lapilli.ir import ops
from lapilli.ir.graph import Node

ADD, MULTIPLY = "add", "multiply"
_SIZES = ((8, "access of 8 KiB"), (32, "access of 32 KiB"), (1024, "access of 1024 KiB"))
_WORD = 4  # bytes: every number of the paper is one
_FIFO = 1000  # messages


def accessed(words: int, capacity: int) -> Iterator[tuple[str, Fraction]]:
    """Share accesses out to the sizes of SRAM that have a price: linear between them.

    Args:
        words: how many accesses of 32 bits.
        capacity: bytes of the memory; nothing below 0 costs nothing, above 1 MiB costs as there.
    """
    below: tuple[int, str | None] = (0, None)
    size = Fraction(capacity, 1024)
    for limit, key in _SIZES:
        if size <= limit:
            upper = (size - below[0]) / (limit - below[0])
            yield key, words * upper
            if below[1] is not None:
                yield below[1], words * (1 - upper)
            return
        below = (limit, key)
    yield _SIZES[-1][1], Fraction(words)


@dataclass(frozen=True, slots=True)
class _Of:
    """Terms of one node."""

    node: str

    def adds(self, count: int, *, driven: bool) -> Iterator[Term]:
        yield Term(self.node, ADD, Fraction(count), driven)

    def products(self, count: int, *, driven: bool) -> Iterator[Term]:
        """Each is added up, too."""
        yield Term(self.node, MULTIPLY, Fraction(count), driven)
        yield Term(self.node, ADD, Fraction(count), driven)

    def words(self, count: int, capacity: int, *, driven: bool) -> Iterator[Term]:
        for key, share in accessed(count, capacity):
            yield Term(self.node, key, share, driven)


def _terms(measured: Measured) -> Iterator[Term]:
    for node in measured.graph.nodes:
        match node.op:
            case ops.Linear() | ops.Conv2d() as op:
                if measured.graph.types[node.inputs[0]].is_binary and not op.graded:
                    yield from _spiking(measured, node, op)
                else:
                    yield from _graded(measured, node, op, measured.steps)
            case ops.Neuron() | ops.GeneralNeuron() as neuron:
                yield from _neuron(measured, node, neuron)
            case _:
                continue


def _spiking(measured: Measured, node: Node, op: ops.Weighted) -> Iterator[Term]:
    """Each event reads a kernel, and every potential that it may reach, and writes it back."""
    of, events = _Of(node.name), measured.counts[node.name].events
    outputs = measured.dense[node.name].outputs
    per_event, reached = _fan_out(op)
    yield from of.adds(events * per_event, driven=True)
    yield from of.adds(events * reached, driven=True)  # addresses
    if isinstance(op, ops.Conv2d):
        yield from of.products(2 * events, driven=True)  # to find the first output
    yield from of.words(events, _FIFO * _WORD, driven=True)
    yield from of.words(events * reached, _parameter_bytes(op), driven=True)
    yield from of.words(2 * events * reached, outputs * _WORD, driven=True)
    if op.bias.array.any():
        yield from of.adds(outputs * measured.steps, driven=False)
        yield from of.words(outputs * measured.steps, _parameter_bytes(op), driven=False)


def _graded(measured: Measured, node: Node, op: ops.Weighted, steps: int) -> Iterator[Term]:
    """A dense layer: every weight is multiplied, every input is read for each of its products."""
    of, dense = _Of(node.name), measured.dense[node.name]
    inputs = math.prod(measured.graph.types[node.inputs[0]].shape)
    operations, outputs = dense.operations * steps, dense.outputs * steps
    is_conv = isinstance(op, ops.Conv2d)
    kernels = op.weight.shape[0] * math.prod(op.weight.shape[2:]) * steps if is_conv else 0
    yield from of.products(operations, driven=False)
    yield from of.adds(inputs * steps + outputs + kernels, driven=False)  # addresses
    read = operations if is_conv else inputs * steps
    yield from of.words(read, inputs * _WORD, driven=False)
    yield from of.words(operations, _parameter_bytes(op), driven=False)
    if op.bias.array.any():
        yield from of.adds(outputs, driven=False)
        yield from of.words(outputs, _parameter_bytes(op), driven=False)


def _neuron(measured: Measured, node: Node, op: ops.Integrating) -> Iterator[Term]:
    """A potential is read and written at each step; a spike is an addition and a message."""
    of, counted = _Of(node.name), measured.counts[node.name]
    capacity = math.prod(measured.graph.types[node.name].shape) * _WORD
    yield from of.words(2 * counted.updates, capacity, driven=False)
    decays = op.dv.array if isinstance(op, ops.GeneralNeuron) else np.array(op.dv)
    if ((decays > 0) & (decays < ops.DECAY_ONE)).any():
        yield from of.products(counted.updates, driven=False)
    yield from of.products(counted.multiplies, driven=False)  # by taps
    yield from of.adds(counted.sent, driven=True)
    yield from of.words(counted.sent, _FIFO * _WORD, driven=True)


def _fan_out(op: ops.Weighted) -> tuple[int, int]:
    """Synaptic operations of an event by the paper's formula, and memory that it touches."""
    outputs = op.weight.shape[0]
    match op:
        case ops.Linear():
            return outputs, outputs
        case ops.Conv2d():
            outputs //= op.groups
            kernel = op.weight.shape[2:]
            seen = math.prod(-(-k // s) for k, s in zip(kernel, op.stride, strict=True))
            return outputs * seen, outputs * math.prod(kernel)


def _parameter_bytes(op: ops.Weighted) -> int:
    biases = op.bias.size if op.bias.array.any() else 0
    return (op.weight.size + biases) * _WORD


def _quantized(measured: Measured, node: Node) -> Iterator[Term]:
    if isinstance(node.op, ops.Linear | ops.Conv2d):
        yield from _graded(measured, node, node.op, measured.images)
        outputs = measured.dense[node.name].outputs
        of = _Of(node.name)
        yield from of.words(outputs * measured.images, outputs * _WORD, driven=False)


LEMAIRE = Model(
    name="lemaire",
    keys=(ADD, MULTIPLY, *(key for _, key in _SIZES)),
    equation=(
        "E = E_add * additions + E_mul * products + sum over memories of accesses * E(size); a "
        "spike reads its kernel and every potential under it, writes these back, and takes "
        "additions and two products to address them; E(size) is linear between 8, 32, 1024 KiB"
    ),
    omits=(
        "attention's products, residual sums, pooling, masks: the paper has none",
        "every number takes 32 bits, whatever it needs",
        "borders: a spike beside one is taken to reach all of its kernel",
        "a memory above 1 MiB costs what one of 1 MiB does",
        "clock, leakage, routing",
    ),
    terms=_terms,
    quantized=_quantized,
    table="lemaire-45nm",
    integers="lemaire-45nm",
)
