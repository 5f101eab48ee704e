"""NIR nodes and edges in the making, under names that every importer takes."""

from __future__ import annotations

import keyword
import math
import re
from dataclasses import replace
from typing import Any

import nir
import numpy as np

from lapilli.export import limits
from lapilli.export.nir.write import canonical as nir_nodes
from lapilli.export.nir.write.dialect import Dialect
from lapilli.export.nir.write.placement import Placed, RefusedError
from lapilli.export.nir.write.routing import Branches, Stage
from lapilli.ir.graph import Graph
from lapilli.ir.tensor import IntArray
from lapilli.ir.types import IntRange


class Emission:
    """The nodes so far.

    Attributes:
        graph: what they say; say: how.
        nodes, edges: of NIR; names: NIR name -> ours.
        layouts: of each value that a NIR neuron shows.
        weights: how many all nodes have; most: how many they may.
    """

    def __init__(self, graph: Graph, say: Dialect, most: int) -> None:
        self.graph = graph
        self.say = say
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []
        self.names: dict[str, str] = {}
        self.layouts: dict[str, Any] = {}
        self.weights, self.most = 0, most
        self._moved: dict[Any, Placed] = {}  # by where from and where to

    def put(
        self, name: str, node: Any, x: Placed, shape: tuple[int, ...], reach: IntRange | None = None
    ) -> Placed:
        """A node behind a value: it gives a tensor of this shape, and as its reach, if stated.

        Raises:
            RefusedError: the dialect has no such node, or the file would have too many weights.
        """
        made = self.say.dressed(node, x.shape)
        count = made.weight.size if isinstance(made, nir.Affine | nir.Conv2d) else 0
        self.reserve(count)
        self.weights += count
        key = self.name(name)
        self.nodes[key] = made
        self.edges += [(term, key) for term in x.terms]
        return Placed.whole(key, shape, x.reach if reach is None else reach)

    def reserve(self, count: int) -> None:
        """Refuse weights that the file has no room for, before they are made.

        Raises:
            RefusedError: it would hold more than it may.
        """
        if self.weights + count > self.most:
            raise RefusedError(
                f"the file passes {self.most:,} weights here; give a higher limit: {limits.OPTION}"
            )

    def same(self, name: str, x: Placed) -> Placed:
        """The value in one node of its own."""
        return replace(self.put(name, nir_nodes.same(x.shape), x, x.shape), home=x.home)

    def stages(self, name: str, stages: list[Stage], x: Placed, home: IntArray) -> Placed:
        """Nodes in a row; the last one has the name."""
        for i, stage in enumerate(stages, start=1):
            own = name if i == len(stages) else f"{name}.{i}"
            self.reserve(stage.weights)
            x = self.put(own, stage.make(), x, stage.shape)
        return replace(x, home=home)

    def moved(self, name: str, branches: Branches, x: Placed, home: IntArray) -> Placed:
        """The sum of what branches of moves give. What was moved there before is not again."""
        shapes = tuple(stage.shape for stages in branches for stage in stages)
        key = (x.terms, shapes, x.home.tobytes(), home.tobytes())
        if not branches:
            return replace(x, home=home)
        if key not in self._moved:
            ends = [
                self.stages(f"{name}.part{i}" if len(branches) > 1 else name, stages, x, home)
                for i, stages in enumerate(branches)
            ]
            terms = tuple(term for end in ends for term in end.terms)
            self._moved[key] = replace(ends[0], terms=terms)
        return self._moved[key]

    def elements(
        self, name: str, stages: list[Stage], x: Placed, shape: tuple[int, ...], reach: IntRange
    ) -> Placed:
        """The result of `onto_elements`, as a value of this shape."""
        home = np.arange(math.prod(shape)).reshape(shape)
        return replace(self.stages(name, stages, x, home), reach=reach)

    def check_exact(self, reach: int) -> None:
        """Refuse what a reader's floats could round.

        Raises:
            RefusedError: the bits needed and the bits there.
        """
        if reach >= self.say.EXACT:
            bits, held = reach.bit_length(), (self.say.EXACT - 1).bit_length()
            raise RefusedError(
                f"its sums can need {bits} bits; {self.say.FLOAT} is exact up to {held}"
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
