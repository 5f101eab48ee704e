"""Products as AND neurons and sums: elementwise, and of matrices.

With a = oa + sum wi ai and b = ob + sum wj bj over spikes, the product is
oa b + ob a - oa ob + sum wi wj (ai AND bj): one layer of AND neurons for each pair of terms.
"""

from __future__ import annotations

from collections.abc import Callable

from lapilli.ir import ops
from lapilli.ir.passes.binary.building import Building
from lapilli.ir.passes.binary.terms import Terms
from lapilli.ir.passes.binary.thresholds import AND


def gate(build: Building, name: str, a: tuple[str, Terms], b: tuple[str, Terms]) -> Terms | None:
    """Elementwise product under this name; its terms, where it has no offset.

    Each operand is a value and its terms.
    """
    (left, right), simple = (a, b), not a[1].offset and not b[1].offset
    pairs = [
        (wi * wj, i, j)
        for i, (wi, _) in enumerate(left[1].spikes)
        for j, (wj, _) in enumerate(right[1].spikes)
    ]
    only = len(pairs) == 1 and pairs[0][0] == 1 and simple
    spikes = []
    for weight, i, j in pairs:
        one = (left[1].spikes[i][1], right[1].spikes[j][1])
        role = "" if only else f".and{i}_{j}"
        spikes.append((weight, _and(build, f"{name}{role}", *one, exact=only)))
    if only:
        return Terms(((1, name),))
    parts = [build.scaled(f"{s}.weighed", s, weight) for weight, s in spikes]
    parts += _offsets(build, name, a, b, lambda x, _: x)
    parts = parts or [build.scaled(f"{name}.none", a[0], 0)]
    build.named(name, build.total(f"{name}.total", parts))
    return Terms(tuple(spikes)) if simple else None


def matmul(build: Building, name: str, a: tuple[str, Terms], b: tuple[str, Terms]) -> None:
    """Matrix product (..., n, k) x (..., k, m) under this name: an AND for each n, k, m."""
    (*outer, n, k), m = build.types[a[0]].shape, build.types[b[0]].shape[-1]
    grid = (*outer, n, k, m)
    rows = [build.new(f"{name}.a{i}", ops.Reshape(shape=(*outer, n, k, 1)), s)
            for i, (_, s) in enumerate(a[1].spikes)]  # fmt: skip
    columns = [build.new(f"{name}.b{j}", ops.Reshape(shape=(*outer, 1, k, m)), s)
               for j, (_, s) in enumerate(b[1].spikes)]  # fmt: skip
    rows = [build.spread(f"{row}.all", row, grid) for row in rows]
    columns = [build.spread(f"{column}.all", column, grid) for column in columns]
    parts = []
    for i, (wi, _) in enumerate(a[1].spikes):
        for j, (wj, _) in enumerate(b[1].spikes):
            role = ".and" if len(rows) == len(columns) == 1 else f".and{i}_{j}"
            both = _and(build, f"{name}{role}", rows[i], columns[j])
            counted = build.new(f"{both}.count", ops.Sum(axes=(len(grid) - 2,)), both)
            parts.append(build.scaled(f"{both}.weighed", counted, wi * wj))

    def summed(x: str, side: int) -> str:
        axis = len(grid) - 2 - side  # the k of (..., n, k), or of (..., k, m)
        total = build.new(f"{name}.{'ab'[side]}.sum", ops.Sum(axes=(axis,), keepdims=True), x)
        return build.new(f"{total}.all", ops.Expand(shape=(*outer, n, m)), total)

    parts += _offsets(build, name, a, b, summed, k)
    parts = parts or [build.scaled(f"{name}.none", summed(a[0], 0), 0)]
    build.named(name, build.total(f"{name}.total", parts))


def _and(build: Building, name: str, a: str, b: str, *, exact: bool = False) -> str:
    put = build.put if exact else build.new
    return put(name, AND, build.new(f"{name}.sum", ops.Add(), a, b))


def _offsets(
    build: Building,
    name: str,
    a: tuple[str, Terms],
    b: tuple[str, Terms],
    spread: Callable[[str, int], str],
    count: int = 1,
) -> list[str]:
    """The parts oa b + ob a - oa ob, each summed over `count` products."""
    (x, left), (y, right) = a, b
    both = -left.offset * right.offset * count
    parts = []
    if right.offset:
        parts.append(build.scaled(f"{name}.a.offset", spread(x, 0), right.offset, both))
    if left.offset:
        bias = 0 if right.offset else both
        parts.append(build.scaled(f"{name}.b.offset", spread(y, 1), left.offset, bias))
    return parts
