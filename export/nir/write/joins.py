"""Align the layouts of two operands before a sum or a concatenation: NIR adds element by element.

Both must lie alike in tensors of one shape; where they do not, one is brought to the other, or
both to a third layout.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from lapilli.export.nir.write import canonical as nir_nodes
from lapilli.export.nir.write.builder import NirBuilder
from lapilli.export.nir.write.layouts import (
    Layout,
    concatenated,
    cropped,
    existing_layouts,
    new_layouts,
)
from lapilli.export.nir.write.placement import NotRepresentableError, Placed, spreads
from lapilli.export.nir.write.routing import Branches, moved, weights_of
from lapilli.ir import ops
from lapilli.ir.tensor import IntArray

_EXPENSIVE = 1 << 22  # weights for which another layout is looked for
_FANOUT_GUESS = 16  # so often weights from each channel to each come behind
_MOST_TERMS = 4  # importers take time that grows with the square of the edges, or worse


def add(file: NirBuilder, name: str, a: Placed, b: Placed) -> Placed:
    """The sum, without a node: both arrive at every consumer, and NIR adds up what arrives."""
    if spreads(a, b):
        a = _spread(file, f"{name}.spread", a, b)
    elif spreads(b, a):
        b = _spread(file, f"{name}.spread", b, a)
    if a.shape != b.shape or not np.array_equal(a.positions, b.positions):
        a, b = _align(file, name, a, b)
    if set(a.sources) & set(b.sources):  # NIR allows one edge between two nodes
        b = file.same(f"{name}.twin", b)
    total = Placed((*a.sources, *b.sources), a.shape, a.positions)
    return total if len(total.sources) <= _MOST_TERMS else file.same(f"{name}.same", total)


@dataclass(frozen=True, slots=True, eq=False)
class _Route:
    """Two values to one layout: the branches of each, and where their elements are at the end."""

    branches: tuple[Branches, Branches]
    positions: IntArray
    channels: int

    @property
    def weights(self) -> int:
        return sum(weights_of(branches) for branches in self.branches)


def _routes(
    a: Placed, b: Placed, layouts: Iterable[Layout]
) -> tuple[list[_Route], NotRepresentableError]:
    """Those of the layouts that both can get to, and why one of the others is none."""
    ways = []
    reason = NotRepresentableError(
        "its operands do not lie alike, and no square kernel moves them so"
    )
    for shape, home in layouts:
        try:
            left, right = ([] if p.positions is home else moved(p, shape, home) for p in (a, b))
        except NotRepresentableError as refused:
            reason = refused
            continue
        ends = {way[-1][-1].shape if way else shape for way in (left, right)}
        if len(ends) == 1:
            ways.append(_Route((left, right), cropped(home, shape, ends.pop()), shape[0]))
    return ways, reason


def _align(file: NirBuilder, name: str, a: Placed, b: Placed) -> tuple[Placed, Placed]:
    """Two values in one layout: the one that takes the fewest weights to get both there."""
    ways, refused = _routes(a, b, existing_layouts(a, b))
    best = min(ways, key=lambda way: way.weights, default=None)
    if best is None or best.weights > _EXPENSIVE:
        made, _ = _routes(a, b, new_layouts(a, b))
        best = min(
            [*ways, *made],
            key=lambda way: way.weights + _FANOUT_GUESS * way.channels**2,
            default=None,
        )
    if best is None:
        raise refused
    left, right = (
        file.moved(f"{name}.{side}", branches, p, best.positions)
        for side, branches, p in zip("ab", best.branches, (a, b), strict=True)
    )
    return left, right


def join(file: NirBuilder, name: str, op: ops.Concat, inputs: list[Placed]) -> Placed:
    """Each part to its place among zeros, and the sum of both."""
    tensor, homes = concatenated(inputs[0], inputs[1])
    a, b = (
        move(file, f"{name}.{side}", p, tensor, part)
        for side, p, part in zip("ab", inputs, homes, strict=True)
    )
    home = np.concatenate([a.positions, b.positions], op.axis)
    return Placed((*a.sources, *b.sources), a.shape, home)


def _spread(file: NirBuilder, name: str, x: Placed, over: Placed) -> Placed:
    file.reserve((over.shape[0] * max(over.shape[1:])) ** 2)
    y = file.put(name, nir_nodes.spread(over.shape), x, over.shape)
    return Placed(y.sources, y.shape, over.positions)


def move(file: NirBuilder, name: str, x: Placed, shape: tuple[int, ...], home: IntArray) -> Placed:
    """Each element to its home in a tensor of this shape, or of one with zeros at its ends."""
    branches = moved(x, shape, home)
    return file.moved(name, branches, x, cropped(home, shape, branches[-1][-1].shape))
