"""Small graphs, and chips whose cores hold little, for tests of cuts and placements."""

from __future__ import annotations

import numpy as np

from lapilli.ir import ops
from lapilli.ir.graph import Graph, Node
from lapilli.ir.targets.target import Cores, Figure, Grade, Resource
from lapilli.ir.tensor import IntTensor
from lapilli.ir.types import TensorType


def chip_with(**each: int) -> Cores:
    """A chip of two cores, with as much as is said, and enough of all else."""
    return Cores(
        count=Figure.known(2, "test", Grade.OWN_CODE),
        each={
            r: Figure.known(each.get(r.name.lower(), 1 << 30), "test", Grade.OWN_CODE)
            for r in Resource
        },
        systems={
            name: Figure.known(chips, "test", Grade.OWN_CODE)
            for name, chips in (("board", 2), ("rack", 8))
        },
    )


def neurons_of(name: str, x: str) -> Node:
    return Node(name, ops.Neuron(threshold=IntTensor.of([65]), dv=0), (x,))


def convolution(groups: int, stride: tuple[int, int]) -> tuple[Graph, ops.Conv2d]:
    weight = np.ones((6, 4 // groups, 3, 2), np.int64)
    op = ops.Conv2d(
        weight=IntTensor.of(weight), bias=IntTensor.of([0] * 6), stride=stride, groups=groups
    )
    nodes = (
        Node("x", ops.Input(type=TensorType.spikes(4, 9, 8))),
        neurons_of("first", "x"),
        Node("conv", op, ("first",)),
        neurons_of("second", "conv"),
    )
    return Graph(nodes, ("second",), 1), op


def linear() -> Graph:
    """Five tokens of 8 features -> 12."""
    op = ops.Linear(weight=IntTensor.of(np.full((12, 8), 100)), bias=IntTensor.of([0] * 12))
    nodes = (
        Node("x", ops.Input(type=TensorType.spikes(5, 8))),
        Node("fc", op, ("x",)),
        neurons_of("lif", "fc"),
        Node("sum", ops.Sum(axes=(0,)), ("lif",)),
        Node("logits", ops.Readout(), ("sum",)),
    )
    return Graph(nodes, ("logits",), 1)
