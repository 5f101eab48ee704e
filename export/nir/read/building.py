"""A graph in the making, node by node, within the limits for files that nobody trusts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from lapilli.export import limits
from lapilli.export.malformed import MalformedError
from lapilli.ir import ops
from lapilli.ir.graph import Graph, Node
from lapilli.ir.infer import infer
from lapilli.ir.types import TensorType


@dataclass(frozen=True, slots=True)
class Value:
    """A value of the graph: real = integer * unit.

    `layers` are those whose synapses can be written with a finer unit to make this one's finer;
    none, if it holds spikes or the input.
    """

    name: str
    unit: Fraction
    layers: frozenset[str] = frozenset()


class Building:
    """The nodes so far, and the types of their values by name."""

    def __init__(self, T: int) -> None:
        self.T = T
        self.types: dict[str, TensorType] = {}
        self._nodes: list[Node] = []

    def name(self, wanted: str) -> str:
        """Return a name that no node has: the wanted one, or that with a number."""
        name, number = wanted, 1
        while name in self.types:
            number += 1
            name = f"{wanted}.{number}"
        return name

    def add(self, name: str, op: ops.Op, *inputs: str) -> str:
        """Add a node under a free name; return the name.

        Raises:
            MalformedError: the op does not take these inputs, or its value is too large.
        """
        try:
            made = infer(op, tuple(self.types[i] for i in inputs), self.T)
        except ValueError as error:
            raise MalformedError(str(error)) from error
        if math.prod(made.shape) > limits.MOST_ELEMENTS:
            raise MalformedError(f"a value of shape {list(made.shape)}")
        self.types[name] = made
        self._nodes.append(Node(name, op, inputs))
        return name

    def graph(self, output: str) -> Graph:
        """Return the graph that ends in this value.

        Raises:
            GraphError: it is not valid.
        """
        return Graph(tuple(self._nodes), (output,), self.T)
