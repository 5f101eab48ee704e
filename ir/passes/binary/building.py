"""A graph in the making: nodes with their types, and the synapses of one weight."""

from __future__ import annotations

from lapilli.ir import ops
from lapilli.ir.builder import GraphBuilder
from lapilli.ir.graph import Graph
from lapilli.ir.tensor import IntTensor


class Building(GraphBuilder):
    """Nodes of the new graph, in order, beside the graph that they replace.

    Attributes:
        graph: the original. A value that keeps its name keeps its range, which is often tighter
            than what can be inferred from the new nodes.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph.T)
        self.graph = graph
        self._taken = {node.name for node in graph.nodes}

    def new(self, name: str, op: ops.Op, *inputs: str) -> str:
        """Add a helper; a name that is taken gets an underscore."""
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return self.put(name, op, *inputs)

    def scaled(self, name: str, x: str, weight: int, bias: int = 0) -> str:
        """A synapse for each element, weight * x + bias; x itself where that is all."""
        if (weight, bias) == (1, 0):
            return x
        shape = self.types[x].shape
        synapse = ops.Linear(
            weight=IntTensor.of([[weight]]), bias=IntTensor.of([bias]), graded=True
        )
        column = self.new(f"{name}.column", ops.Reshape(shape=(*shape, 1)), x)
        return self.new(
            name, ops.Reshape(shape=shape), self.new(f"{name}.synapse", synapse, column)
        )

    def total(self, name: str, values: list[str]) -> str:
        """Sum of one or more values; the only one itself."""
        result = values[0]
        for i, value in enumerate(values[1:], start=1):
            last = i == len(values) - 1
            result = self.new(name if last else f"{name}.{i}", ops.Add(), result, value)
        return result

    def named(self, name: str, x: str) -> str:
        """Give a value the name of the original node that it replaces."""
        return self.put(name, ops.Reshape(shape=self.types[x].shape), x)

    def spread(self, name: str, x: str, shape: tuple[int, ...]) -> str:
        """Repeat a value of as many axes, or of one element, over `shape`."""
        if len(self.types[x].shape) != len(shape):
            x = self.new(f"{name}.one", ops.Reshape(shape=(1,) * len(shape)), x)
        return self.new(name, ops.Expand(shape=shape), x)

    def finish(self) -> Graph:
        """The nodes that an output or a firing node of the original needs, and the inputs."""
        return self.built(*self.graph.outputs).without_dead(keep=self.graph.firing)
