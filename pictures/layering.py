"""Where the boxes of a graph stand: layers by longest path, ordered so that few arrows cross."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

_SWEEPS = 6
_THIN = 8.0  # room for an arrow that passes a layer

Way = list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Place:
    """A box: its upper left corner and size, in pixels."""

    x: float
    y: float
    width: float
    height: float


@dataclass(slots=True)
class _Slot:
    """A box, or an arrow on its way past a layer."""

    width: float
    height: float
    layer: int
    box: bool = True
    above: list[str] = field(default_factory=list)
    below: list[str] = field(default_factory=list)
    centre: float = 0.0


def layered(
    sizes: Mapping[str, tuple[float, float]],
    edges: Sequence[tuple[str, str]],
    *,
    aside: float,
    down: float,
) -> tuple[dict[str, Place], list[Way]]:
    """Place boxes from top to bottom, each below all that lead to it.

    Args:
        sizes: width and height of each box; each before those that it leads to.
        edges: pairs of names; what leads back to an earlier box is left out.
        aside: pixels between neighbours.
        down: pixels between layers.

    Returns:
        Where each box stands, and for each edge points from the foot of one to the head of another.
    """
    order = {name: k for k, name in enumerate(sizes)}
    forward = [(a, b) for a, b in dict.fromkeys(edges) if order[a] < order[b]]
    slots, chains = _slots(sizes, forward)
    layers: list[list[str]] = [
        [] for _ in range(1 + max((s.layer for s in slots.values()), default=-1))
    ]
    for name, slot in slots.items():
        layers[slot.layer].append(name)
    _order(slots, layers)
    _spread(slots, layers, aside)
    tops, y = [], 0.0
    for layer in layers:
        tops.append(y)
        y += max(slots[name].height for name in layer) + down
    heights = [max(slots[name].height for name in layer) for layer in layers]
    left = min((s.centre - s.width / 2 for s in slots.values()), default=0.0)
    places = {
        name: Place(
            s.centre - s.width / 2 - left,
            tops[s.layer] + (heights[s.layer] - s.height) / 2,
            s.width,
            s.height,
        )
        for name, s in slots.items()
        if s.box
    }
    ways = []
    for chain in chains:
        first, last = places[chain[0]], places[chain[-1]]
        way = [(slots[chain[0]].centre - left, first.y + first.height)]
        for name in chain[1:-1]:
            slot = slots[name]
            x = slot.centre - left
            way += [(x, tops[slot.layer]), (x, tops[slot.layer] + heights[slot.layer])]
        ways.append([*way, (slots[chain[-1]].centre - left, last.y)])
    return places, ways


def _slots(
    sizes: Mapping[str, tuple[float, float]], edges: Sequence[tuple[str, str]]
) -> tuple[dict[str, _Slot], list[list[str]]]:
    """Boxes in layers, and for each edge the slots that it passes, its ends among them."""
    into = defaultdict[str, list[str]](list)
    for a, b in edges:
        into[b].append(a)
    slots: dict[str, _Slot] = {}
    for name, (width, height) in sizes.items():
        layer = 1 + max((slots[a].layer for a in into[name]), default=-1)
        slots[name] = _Slot(width, height, layer)
    outward = defaultdict[str, list[str]](list)
    for a, b in edges:
        outward[a].append(b)
    for name in reversed(list(sizes)):  # a source stands right above what it leads to
        if not into[name] and outward[name]:
            slots[name].layer = min(slots[b].layer for b in outward[name]) - 1
    chains = []
    for a, b in edges:
        chain = [a]
        for layer in range(slots[a].layer + 1, slots[b].layer):
            name = f"{a}\n{b}\n{layer}"  # no box is called so
            slots[name] = _Slot(_THIN, 0.0, layer, box=False)
            chain.append(name)
        chain.append(b)
        chains.append(chain)
        for one, other in itertools.pairwise(chain):
            slots[one].below.append(other)
            slots[other].above.append(one)
    return slots, chains


def _order(slots: Mapping[str, _Slot], layers: list[list[str]]) -> None:
    """Order each layer by the mean place of its neighbours, down and up again."""
    at = {name: float(k) for layer in layers for k, name in enumerate(layer)}
    for sweep in range(_SWEEPS):
        up = sweep % 2
        for layer in reversed(layers) if up else layers:
            means = {}
            for name in layer:
                near = slots[name].below if up else slots[name].above
                means[name] = sum(at[n] for n in near) / len(near) if near else at[name]
            layer.sort(key=means.__getitem__)
            at.update((name, float(k)) for k, name in enumerate(layer))


def _spread(slots: Mapping[str, _Slot], layers: list[list[str]], aside: float) -> None:
    """Put each slot near the middle of its neighbours, and none over another."""
    for layer in layers:
        _apart([slots[name] for name in layer], aside)
    for sweep in range(2 * _SWEEPS):
        up = sweep % 2
        for layer in reversed(layers) if up else layers:
            row = [slots[name] for name in layer]
            for slot in row:
                near = slot.below if up else slot.above
                if near:
                    slot.centre = sum(slots[n].centre for n in near) / len(near)
            _apart(row, aside)


def _apart(row: Sequence[_Slot], aside: float) -> None:
    """Move slots apart as little as their order allows, their mean where it was."""
    if not row:
        return
    mean = sum(slot.centre for slot in row) / len(row)
    for one, other in itertools.pairwise(row):
        least = one.centre + (one.width + other.width) / 2 + aside
        other.centre = max(other.centre, least)
    for one, other in zip(reversed(row[:-1]), reversed(row[1:]), strict=False):
        most = other.centre - (one.width + other.width) / 2 - aside
        one.centre = min(one.centre, most)
    moved = mean - sum(slot.centre for slot in row) / len(row)
    for slot in row:
        slot.centre += moved
