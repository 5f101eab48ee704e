"""A graph in the making."""

from __future__ import annotations

from lapilli.ir import ops
from lapilli.ir.graph import Graph, Node
from lapilli.ir.infer import infer
from lapilli.ir.types import TensorType


class GraphBuilder:
    """Nodes in order, and the types of their values by name.

    Attributes:
        T: time steps; types: of the values so far.
    """

    def __init__(self, T: int) -> None:
        self.T = T
        self.types: dict[str, TensorType] = {}
        self._nodes: list[Node] = []

    def free(self, wanted: str) -> str:
        """Return a name that no node has: the wanted one, or else the next with a number."""
        name, number = wanted, 1
        while name in self.types:
            number += 1
            name = f"{wanted}.{number}"
        return name

    def put(self, name: str, op: ops.Op, *inputs: str) -> str:
        """Add a node under exactly this name; return the name.

        Raises:
            ValueError: the inputs do not fit the op.
        """
        self.types[name] = infer(op, tuple(self.types[i] for i in inputs), self.T)
        self._nodes.append(Node(name, op, inputs))
        return name

    def built(self, *outputs: str) -> Graph:
        """Return the graph with these outputs.

        Raises:
            GraphError: it is not valid.
        """
        return Graph(tuple(self._nodes), outputs, self.T)
