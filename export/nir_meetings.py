"""Values that meet: in a sum, or one behind the other. NIR adds up element by element.

Both must lie alike in tensors of one shape; where they do not, one is brought to the other, or
both to a third layout.
"""

from __future__ import annotations

import math

import numpy as np

from lapilli.export import nir_nodes
from lapilli.export.nir_emission import Emission
from lapilli.export.nir_layout import Placed, RefusedError, spreads
from lapilli.export.nir_moves import moved
from lapilli.ir.ops import Concat
from lapilli.ir.tensor import IntArray

_MOST_TERMS = 4  # importers take time that grows with the square of the edges, or worse


def add(file: Emission, name: str, a: Placed, b: Placed) -> Placed:
    """The sum, without a node: both arrive at every consumer, and NIR adds up what arrives."""
    if spreads(a, b):
        a = _spread(file, f"{name}.spread", a, b)
    elif spreads(b, a):
        b = _spread(file, f"{name}.spread", b, a)
    if a.shape != b.shape or not np.array_equal(a.home, b.home):
        a, b = _meet(file, name, a, b)
    if set(a.terms) & set(b.terms):  # NIR allows one edge between two nodes
        b = file.same(f"{name}.twin", b)
    total = Placed((*a.terms, *b.terms), a.shape, a.home, a.reach + b.reach)
    return total if len(total.terms) <= _MOST_TERMS else file.same(f"{name}.same", total)


def _meet(file: Emission, name: str, a: Placed, b: Placed) -> tuple[Placed, Placed]:
    """Two values in one layout: that of one of them, if it repeats nothing, or a new one."""
    count, maps = a.home.size, len(a.shape) == len(b.shape) == 3
    row = ((count, 1, 1) if maps else (count,), np.arange(count).reshape(a.home.shape))
    layouts = [(p.shape, p.home) for p in (a, b) if len(np.unique(p.home)) == count]
    if not maps:
        layouts = [(shape, home) for shape, home in layouts if len(shape) == 1]
    reason = RefusedError("its operands do not lie alike, and no square kernel moves them so")
    for shape, home in (*layouts, row):
        try:
            stages = [[] if p.home is home else moved(p, shape, home) for p in (a, b)]
        except RefusedError as refused:
            reason = refused
            continue
        if all(not s or s[-1][1] == shape for s in stages):
            left, right = (
                file.stages(f"{name}.{side}", s, p, home)
                for side, s, p in zip("ab", stages, (a, b), strict=True)
            )
            return left, right
    raise reason


def join(file: Emission, name: str, op: Concat, inputs: list[Placed]) -> Placed:
    """Each part to its place among zeros, and the sum of both."""
    shape = file.graph.types[name].shape
    count = math.prod(shape)
    home = np.arange(count).reshape(shape)
    cut = inputs[0].home.shape[op.axis]
    tensor = (count, 1, 1) if all(len(p.shape) == 3 for p in inputs) else (count,)
    a, b = (
        move(file, f"{name}.{side}", p, tensor, part)
        for side, p, part in zip("ab", inputs, np.split(home, [cut], op.axis), strict=True)
    )
    return Placed((*a.terms, *b.terms), tensor, home, a.reach | b.reach)


def _spread(file: Emission, name: str, x: Placed, over: Placed) -> Placed:
    y = file.put(name, nir_nodes.spread(over.shape), x, over.shape)
    return Placed(y.terms, y.shape, over.home, y.reach)


def move(file: Emission, name: str, x: Placed, shape: tuple[int, ...], home: IntArray) -> Placed:
    """Each element to its home in a tensor of this shape, or of one with zeros at its ends."""
    stages = moved(x, shape, home)
    made = stages[-1][1]
    if made != shape:
        rows = np.arange(math.prod(made)).reshape(made)
        home = rows[:, : shape[1], : shape[2]].ravel()[home]
    return file.stages(name, stages, x, home)
