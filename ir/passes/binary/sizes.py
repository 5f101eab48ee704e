"""What a graph costs in neurons, depth and synapses."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from typing_extensions import assert_never

from lapilli.ir import ops
from lapilli.ir.errors import Unsupported, UnsupportedError
from lapilli.ir.graph import Graph, Node
from lapilli.ir.types import TensorType

_SHOWN = 8  # biggest contributors of a refusal


@dataclass(frozen=True, slots=True)
class BinarySize:
    """Of a graph of binary neurons.

    Attributes:
        neurons: of one sample.
        depth: neurons in a row within one time step, at most.
        synapses: weights that are not zero, each as often as it is used (padding included),
            and the wires of sums: one for each spike that is added up.
        contributors: node of the original graph -> neurons that stand for it, most first.
    """

    neurons: int
    depth: int
    synapses: int
    contributors: Mapping[str, int]

    def __str__(self) -> str:
        return f"{self.neurons:,} neurons, {self.depth} in a row, {self.synapses:,} synapses"

    def require(self, max_neurons: int) -> None:
        """Refuse what is larger.

        Raises:
            UnsupportedError: the number, and the nodes that take most of it.
        """
        if self.neurons <= max_neurons:
            return
        most = list(self.contributors.items())[:_SHOWN]
        reasons = (
            Unsupported("the whole", str(self)),
            *(Unsupported(name, f"{count:,} neurons") for name, count in most),
        )
        raise UnsupportedError(f"a limit of {max_neurons:,} neurons", reasons)


def measure(graph: Graph, original: Graph) -> BinarySize:
    """Size of a graph that was made from another one, node by node."""
    depth: dict[str, int] = {}
    contributors: Counter[str] = Counter()
    known = {node.name for node in original.nodes}
    synapses = 0
    for node in graph.nodes:
        fires = isinstance(node.op, ops.Integrating)
        depth[node.name] = max((depth[i] for i in node.inputs), default=0) + fires
        synapses += _synapses(node, graph.types)
        if fires:
            contributors[origin(node.name, known)] += math.prod(graph.types[node.name].shape)
    return BinarySize(
        neurons=contributors.total(),
        depth=max(depth.values(), default=0),
        synapses=synapses,
        contributors=dict(contributors.most_common()),
    )


def origin(name: str, known: set[str]) -> str:
    """Name of the original node that a node of the new graph stands for: how its own begins."""
    parts = name.split(".")
    heads = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
    return next((head for head in heads if head in known), parts[0])


def _synapses(node: Node, types: Mapping[str, TensorType]) -> int:
    shape = types[node.name].shape
    match node.op:
        case ops.Linear(weight=w):
            return int(np.count_nonzero(w.array)) * math.prod(shape[:-1])
        case ops.Conv2d(weight=w):
            return int(np.count_nonzero(w.array)) * math.prod(shape[1:])
        case ops.Sum():
            return math.prod(types[node.inputs[0]].shape)
        case ops.Add():
            return math.prod(shape) * sum(types[i].is_binary for i in node.inputs)
        case ops.Reshape() | ops.Permute() | ops.Expand() | ops.Slice() | ops.Concat():
            return 0
        case ops.Input() | ops.Delay() | ops.Neuron() | ops.Readout():
            return 0
        case ops.GeneralNeuron() | ops.Membrane():  # kept as they are
            return 0
        case (
            ops.Staircase() | ops.Relu() | ops.MaxPool2d()
            | ops.Gate() | ops.SpikeMatmul() | ops.ShiftSum()
        ):  # fmt: skip
            raise TypeError(f"{node.name} is no op of a graph of binary neurons")
        case _:
            assert_never(node.op)
