"""NIR nodes and edges in the making, under names that every importer takes."""

from __future__ import annotations

import keyword
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import nir
import numpy as np

from lapilli.export import limits
from lapilli.export.nir.write import canonical as nir_nodes
from lapilli.export.nir.write.dialect import Dialect
from lapilli.export.nir.write.placement import NotRepresentableError, Placed
from lapilli.export.nir.write.routing import Branches, Stage
from lapilli.ir.graph import Graph
from lapilli.ir.tensor import IntArray
from lapilli.ir.types import IntRange


class NirBuilder:
    """The nodes so far.

    Attributes:
        graph: what they say; say: how.
        nodes, edges: of NIR; names: NIR name -> ours.
        layouts: of each value that a NIR neuron shows.
        sums: where all partial sums of our values lie, in whatever order they are taken.
        weights: how many all nodes have; most: how many they may.
    """

    def __init__(
        self, graph: Graph, dialect: Dialect, most: int, sums: Mapping[str, IntRange]
    ) -> None:
        self.graph = graph
        self.dialect = dialect
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []
        self.names: dict[str, str] = {}
        self.layouts: dict[str, Any] = {}
        self.sums = sums
        self.weights, self.most = 0, most
        self._moved: dict[Any, Placed] = {}  # by where from and where to

    def put(self, name: str, node: Any, x: Placed, shape: tuple[int, ...]) -> Placed:
        """A node behind a value: it gives a tensor of this shape.

        Raises:
            NotRepresentableError: the dialect has no such node, or the file has no room for it.
        """
        made = self.dialect.dressed(node, x.shape)
        count = made.weight.size if isinstance(made, nir.Affine | nir.Conv2d) else 0
        self.reserve(count)
        self.weights += count
        key = self.name(name)
        self.nodes[key] = made
        self.edges += [(term, key) for term in x.sources]
        return Placed.whole(key, shape)

    def reserve(self, count: int) -> None:
        """Refuse weights that the file has no room for, before they are made.

        Raises:
            NotRepresentableError: it would hold more than it may.
        """
        if self.weights + count > self.most:
            raise NotRepresentableError(
                f"the file passes {self.most:,} weights here; give a higher limit: {limits.OPTION}"
            )

    def same(self, name: str, x: Placed) -> Placed:
        """The value in one node of its own."""
        return replace(self.put(name, nir_nodes.same(x.shape), x, x.shape), positions=x.positions)

    def stages(self, name: str, stages: list[Stage], x: Placed, home: IntArray) -> Placed:
        """Nodes in a row; the last one has the name."""
        for i, stage in enumerate(stages, start=1):
            own = name if i == len(stages) else f"{name}.{i}"
            self.reserve(stage.weights)
            x = self.put(own, stage.make(), x, stage.shape)
        return replace(x, positions=home)

    def moved(self, name: str, branches: Branches, x: Placed, home: IntArray) -> Placed:
        """The sum of what branches of moves give. What was moved there before is not again."""
        shapes = tuple(stage.shape for stages in branches for stage in stages)
        key = (x.sources, shapes, x.positions.tobytes(), home.tobytes())
        if not branches:
            return replace(x, positions=home)
        if key not in self._moved:
            ends = [
                self.stages(f"{name}.part{i}" if len(branches) > 1 else name, stages, x, home)
                for i, stages in enumerate(branches)
            ]
            terms = tuple(term for end in ends for term in end.sources)
            self._moved[key] = replace(ends[0], sources=terms)
        return self._moved[key]

    def elements(self, name: str, stages: list[Stage], x: Placed, shape: tuple[int, ...]) -> Placed:
        """The result of `onto_elements`, as a value of this shape."""
        return self.stages(name, stages, x, np.arange(math.prod(shape)).reshape(shape))

    def check_exact(self, magnitude: int) -> None:
        """Refuse what a reader's floats could round.

        Raises:
            NotRepresentableError: the bits needed and the bits there.
        """
        if magnitude >= self.dialect.EXACT:
            bits, held = magnitude.bit_length(), (self.dialect.EXACT - 1).bit_length()
            raise NotRepresentableError(
                f"its sums can need {bits} bits; {self.dialect.FLOAT} is exact up to {held}"
            )

    def name(self, ours: str) -> str:
        """A name that is an identifier: dots become underscores, twins get a number."""
        base = re.sub(r"[^0-9A-Za-z_]", "_", ours)
        if not base.isidentifier() or keyword.iskeyword(base):
            base = f"n_{base}"
        key, number = base, 1
        while key in self.names:
            number += 1
            key = f"{base}_{number}"
        self.names[key] = ours
        return key
