"""The pass: every node by nodes that are wiring, static synapses, sums and binary neurons."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

import numpy as np
from typing_extensions import assert_never

from lapilli.ir import ops
from lapilli.ir.errors import Unsupported, UnsupportedError
from lapilli.ir.graph import Graph, Node
from lapilli.ir.passes.binary import copies
from lapilli.ir.passes.binary.association import associate
from lapilli.ir.passes.binary.building import Building
from lapilli.ir.passes.binary.clock import Clock
from lapilli.ir.passes.binary.maxima import any_of, largest_of
from lapilli.ir.passes.binary.products import gate, matmul
from lapilli.ir.passes.binary.shifts import shift_sum
from lapilli.ir.passes.binary.sizes import BinarySize, measure
from lapilli.ir.passes.binary.terms import Decomposition, Terms, value
from lapilli.ir.passes.binary.thresholds import compare, rectified
from lapilli.ir.types import Kind

Kept: TypeAlias = Callable[[Graph, Node], bool]


def _nothing(graph: Graph, node: Node) -> bool:
    del graph, node
    return False


def to_binary_neurons(
    graph: Graph, max_neurons: int | None = None, *, kept: Kept = _nothing
) -> Graph:
    """Lower a graph to Linear, Conv2d, Add, Sum, Readout, wiring and binary neurons.

    Every firing node keeps its name and its spikes at every step; so does every other node that
    is still needed, but for an intermediate of matrix products in a row. What is new is named
    after the node that it stands for. Membranes stay those of the original, but where a neuron
    became copies.

    Args:
        graph: any; what has no such form is refused by name.
        max_neurons: refuse a larger result. A graph names tensors, whatever their size, so that
            the number is known before anything of that size exists.
        kept: which general neurons and membranes stay what they are, for a format that has them.

    Raises:
        UnsupportedError: nodes that have no such form, or the limit with its contributors.
    """
    if reasons := unsupported(graph, kept=kept):
        raise UnsupportedError("a graph of binary neurons", reasons)
    graph = associate(graph)
    lowering = _BinaryLowering(graph, kept)
    for node in graph.nodes:
        try:
            lowering.visit(node)
        except ValueError as too_wide:  # for what neurons, or 64 bits, compare
            reason = Unsupported(node.name, str(too_wide))
            raise UnsupportedError("a graph of binary neurons", (reason,)) from None
    lowered = lowering.build.finish()
    if max_neurons is not None:
        measure(lowered, graph).require(max_neurons)
    return lowered


def unsupported(graph: Graph, *, kept: Kept = _nothing) -> tuple[Unsupported, ...]:
    """Nodes that have no form in binary neurons, each with the reason; empty if all have.

    `kept` is that of `to_binary_neurons`.
    """
    return tuple(
        reason
        for node in graph.nodes
        if not kept(graph, node)
        for reason in _unsupported(node.name, node.op)
    )


def _unsupported(name: str, op: ops.Op) -> tuple[Unsupported, ...]:
    match op:
        case ops.Neuron():
            return copies.unsupported(name, op)
        case ops.GeneralNeuron():
            return (Unsupported(name, "a general neuron; binary ones have one decay, one level"),)
        case ops.Membrane():
            return (Unsupported(name, "shows a membrane; binary neurons show spikes"),)
        case ops.Input() | ops.Readout() | ops.Linear() | ops.Conv2d() | ops.Add() | ops.Sum():
            return ()
        case ops.Reshape() | ops.Permute() | ops.Expand() | ops.Slice():
            return ()
        case ops.Concat() | ops.Delay() | ops.Relu() | ops.Staircase() | ops.MaxPool2d():
            return ()
        case ops.Gate() | ops.SpikeMatmul() | ops.ShiftSum():
            return ()
        case _:
            assert_never(op)


def size(graph: Graph) -> BinarySize:
    """Neurons, depth and synapses of `to_binary_neurons(graph)`.

    Raises:
        UnsupportedError: nodes that have no such form.
    """
    return measure(to_binary_neurons(graph), graph)


class _BinaryLowering:
    def __init__(self, graph: Graph, kept: Kept) -> None:
        self.kept = kept
        self.build = Building(graph)
        self.clock = Clock(self.build)
        self.known = Decomposition(self.build)

    def visit(self, node: Node) -> None:
        """Add what stands for a node, the value under its own name last."""
        build, name, op = self.build, node.name, node.op
        match op:
            case (
                ops.Input()
                | ops.Add()
                | ops.Sum()
                | ops.Readout()
                | ops.Reshape()
                | ops.Permute()
                | ops.Expand()
                | ops.Slice()
                | ops.Concat()
                | ops.Delay()
            ):
                build.put(name, op, *node.inputs)
            case ops.Linear() | ops.Conv2d():
                graded = op.graded or build.types[node.inputs[0]].kind is Kind.GRADED
                build.put(name, replace(op, graded=graded), *node.inputs)
            case ops.Neuron():
                self.known.know(name, copies.fire(build, self.clock, name, op, node.inputs[0]))
            case ops.Staircase():
                self._climb(name, op, node.inputs[0])
            case ops.Relu():
                self._rectify(name, node.inputs[0])
            case ops.MaxPool2d():
                pool = any_of if build.types[node.inputs[0]].is_binary else largest_of
                pool(build, name, op, node.inputs[0])
            case ops.Gate():
                a, b = ((i, self.known.terms(i)) for i in node.inputs)
                if (terms := gate(build, name, a, b)) is not None:
                    self.known.know(name, terms)
            case ops.SpikeMatmul():
                a, b = ((i, self.known.terms(i)) for i in node.inputs)
                matmul(build, name, a, b)
            case ops.ShiftSum():
                shift_sum(build, self.known, name, op, *node.inputs)
            case ops.Membrane() | ops.GeneralNeuron() if self.kept(build.graph, node):
                build.put(name, op, *node.inputs)
            case ops.Membrane() | ops.GeneralNeuron():
                raise TypeError(f"{type(op).__name__} is unsupported, and was let through")
            case _:
                assert_never(op)

    def _climb(self, name: str, op: ops.Staircase, x: str) -> None:
        """A neuron for each level; y is how many of them fire."""
        build, levels = self.build, []
        shape = op.thresholds.shape[1:] or (1,)
        for k, level in enumerate(op.thresholds.array):
            given, neuron = compare(build, f"{name}.level{k}", x, np.reshape(level, shape))
            if len(op.thresholds.array) == 1:
                build.put(name, neuron, given)
                return
            levels.append(build.new(f"{name}.level{k}", neuron, given))
        build.named(name, build.total(f"{name}.total", levels))
        self.known.know(name, Terms(tuple((1, level) for level in levels)))

    def _rectify(self, name: str, x: str) -> None:
        build, bounds = self.build, self.build.graph.types[x].range
        if bounds.lo >= 0:
            build.named(name, x)
            return
        terms = Terms(rectified(build, name, x, max(0, bounds.hi)))
        if not terms.spikes:  # never positive
            build.named(name, build.scaled(f"{name}.none", x, 0))
            return
        build.named(name, value(build, f"{name}.value", terms))
        self.known.know(name, terms)
