"""Which node alone reads a current, so that it and what makes the current are one function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

from typing_extensions import assert_never

from lapilli.export.c.answers import Answering
from lapilli.export.c.general import constants_of
from lapilli.export.c.views import View, wired
from lapilli.ir import ops
from lapilli.ir.graph import Graph, Node
from lapilli.ir.tensor import IntTensor


@dataclass(frozen=True, slots=True)
class Alone:
    """The layout of a row function: its places' order, its row's axis, and who alone reads it."""

    order: tuple[int, ...]
    axis: int
    chain: tuple[Node, ...]
    last: Node | None

    def view(self, value: View) -> View:
        """The value as the last of them shows it."""
        for node in self.chain:
            if not isinstance(node.op, ops.Reshape | ops.Permute | ops.Delay):
                raise TypeError(f"{node.name} is no wiring")
            moved = wired(node.op, value)
            if moved is None:
                raise TypeError(f"{node.name} moves data")
            value = moved
        return value


def read_alone(graph: Graph, readers: Mapping[str, Sequence[Node]], node: Node) -> Alone:
    """Find how a row function lays its value out, and what is fused with it.

    Args:
        graph: of the node.
        readers: of each of its nodes.
        node: a linear map, a convolution or a product.
    """
    shape = graph.types[node.name].shape
    axis = 0 if isinstance(node.op, ops.Conv2d) else len(shape) - 1
    places = tuple(a for a in range(len(shape)) if a != axis)
    # Another order of the places may spare a copy behind them; a window's are counted as they are.
    orders = [places] if isinstance(node.op, ops.Conv2d) else permutations(places)
    for order in orders:
        chain, last = _chain(graph, readers, node, View.whole("", shape, (*order, axis)))
        if last is not None:
            return Alone(order, axis, chain, last)
    return Alone(places, axis, (), None)


def _chain(
    graph: Graph, readers: Mapping[str, Sequence[Node]], node: Node, view: View
) -> tuple[tuple[Node, ...], Node | None]:
    """The wiring, and the node behind it, that alone read a node's value as a current."""
    chain: list[Node] = []
    while True:
        reading = readers.get(node.name, [])
        if node.name in graph.outputs or len(reading) != 1:
            return (), None
        (node,) = reading
        if isinstance(node.op, Answering):
            scalar = all(t.array.size == 1 for t in _tensors(node.op))
            return (tuple(chain), node) if scalar or not chain else ((), None)
        if not isinstance(node.op, ops.Reshape | ops.Permute | ops.Delay):
            return (), None
        moved = wired(node.op, view)
        if moved is None:
            return (), None
        view = moved
        chain.append(node)


def _tensors(op: Answering) -> tuple[IntTensor, ...]:
    """The constants of a node that might differ from element to element."""
    match op:
        case ops.Neuron(threshold=threshold, bias=bias):
            return threshold, bias
        case ops.GeneralNeuron():
            return tuple(
                IntTensor(t.array[0, 0] if role in ("taps", "threshold") else t.array[0])
                for role, t in constants_of(op).items()
            )
        case ops.Membrane(neuron=neuron):
            return neuron.threshold, neuron.bias
        case ops.Staircase(thresholds=thresholds):
            return (IntTensor(thresholds.array[0]),)
        case ops.Relu():
            return ()
        case _:
            assert_never(op)
