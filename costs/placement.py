"""Cores on chips, so that few messages go from chip to chip: METIS cuts, what it overfills moves.

A message is a spike on its way to one core that hears its neuron. `costs.links` says how many
neurons of a core another one hears; rates, how often these fire.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from lapilli.costs.cores import CoreMap
from lapilli.costs.links import Links, links
from lapilli.costs.rates import rates_of
from lapilli.costs.wires import Index, distinct

Weights = npt.NDArray[np.float64]
Marks = npt.NDArray[np.bool_]
_VERTICES = 50_000  # that METIS is given; of more cores some in a row are one
_HEAVIEST = 1 << 28  # of all edges together: METIS adds up several of such sums in 32 bits
_PARTS = 64  # shares of a pair's messages: sums of them stay whole where rates are
_TURNS = 12  # in which shares move, for the bound
_SORTED = 1 << 23  # pairs that are sorted in all of them
MOST = 1 << 20  # cores that are put onto chips


@dataclass(frozen=True, slots=True, eq=False)
class Placement:
    """Cores of a map on chips.

    Attributes:
        chips: how many; cores: of each.
        chip: (cores,) the chip of each core.
        messages: from core to core, of an image; across: those from chip to chip.
        in_order: those from chip to chip if chips were filled with cores as they come.
        lowest: that no placement of these cores goes below.
        measured: whether firing rates were; otherwise every neuron fires at every step.
        unmeasured: populations of which none was given: they fire as often as their inputs allow.
        every: of the inputs only each so many-th was followed; 1: all of them.
    """

    chips: int
    cores: int
    chip: Index
    messages: Fraction
    across: Fraction
    in_order: Fraction
    lowest: Fraction
    measured: bool
    unmeasured: tuple[str, ...]
    every: int


def place(found: CoreMap, T: int, rates: Mapping[str, Fraction] | None = None) -> Placement | None:
    """Put the cores of a map onto chips, the fewest that hold them.

    Args:
        found: a network cut onto cores.
        T: time steps of an image.
        rates: spikes of a neuron for an image, by population; others fire as often as
            `costs.rates` allows. None: every neuron fires at every step.

    Returns:
        None where nobody says how many cores a chip has, and of more cores than anybody asks for:
        there single neurons fit no core.

    Raises:
        ImportError: pymetis is not installed, and more than one chip is needed.
    """
    room = found.chip.count.high
    if room is None or found.cores > MOST:
        return None
    linked = links(found)
    known = rates or {}
    of_all = rates_of(found.graph, found.populations, known) if known else {}
    fires = [of_all.get(name, Fraction(T)) for name in linked.first]
    sent = _sent(linked, fires)
    chips = -(-linked.cores // room)
    in_order = np.arange(linked.cores) // room
    chip = in_order if chips == 1 else _cut(linked, sent, chips, room)
    across = _across(linked, fires, chip)
    plain = _across(linked, fires, in_order)
    if plain < across:
        chip, across = in_order, plain
    return Placement(
        chips=chips,
        cores=room,
        chip=chip,
        messages=_across(linked, fires, np.arange(linked.cores)),
        across=across,
        in_order=plain,
        lowest=min(across, _lowest(linked, fires, room)),
        measured=rates is not None,
        unmeasured=tuple(name for name in linked.first if name not in known),
        every=linked.every,
    )


def _sent(linked: Links, fires: list[Fraction]) -> Weights:
    rates: Weights = np.array([float(rate) for rate in fires])
    return rates[linked.population] * linked.pairs.astype(np.float64)


def _across(linked: Links, fires: list[Fraction], chip: Index) -> Fraction:
    """Messages between cores of different chips, exactly."""
    apart = chip[linked.speakers] != chip[linked.hearers]
    pairs = np.zeros(len(fires), np.int64)
    np.add.at(pairs, linked.population[apart], linked.pairs[apart])
    return sum((rate * int(n) for rate, n in zip(fires, pairs, strict=True)), Fraction(0))


def _lowest(linked: Links, fires: list[Fraction], room: int) -> Fraction:
    """Messages that leave a chip wherever cores are put.

    Each pair's messages are shared out to its two cores. Beside a core lie at most `room` - 1
    others on its chip, so that what stays is at most its heaviest shares, as many; the rest of
    its shares leaves. Any shares give such a bound. They begin larger at the core that has more
    neighbours, because most of these must lie elsewhere, and move a few times towards the core at
    which a pair is one of the rest.
    """
    sent = _sent(linked, fires)
    low, high = (pick(linked.speakers, linked.hearers) for pick in (np.minimum, np.maximum))
    one, other, weight = _summed(low, high, sent, linked.cores)
    if not weight.size:
        return Fraction(0)
    degree = np.bincount(np.concatenate([one, other]), minlength=linked.cores)
    share = np.rint(_PARTS * degree[one] / (degree[one] + degree[other])) / _PARTS
    least = 0.0
    for turn in range(min(_TURNS, 1 + _SORTED // weight.size)):
        left, out_one, out_other = _left(one, other, weight * share, weight * (1 - share), room)
        least = max(least, left)
        step = max(1, _PARTS // (3 + turn)) / _PARTS
        share = np.clip(share + step * (out_one.astype(np.int64) - out_other), 0, 1)
    return Fraction(least)


def _left(
    one: Index, other: Index, of_one: Weights, of_other: Weights, room: int
) -> tuple[float, Marks, Marks]:
    """What cores hold of all pairs but their room - 1 heaviest, and which these pairs are."""
    core, held = np.concatenate([one, other]), np.concatenate([of_one, of_other])
    order = np.lexsort((-held, core))
    ranked = core[order]
    rank = np.arange(ranked.size) - np.searchsorted(ranked, ranked)
    out = np.zeros(core.size, bool)
    out[order] = rank >= room - 1
    return float(held[out].sum()), out[: one.size], out[one.size :]


def _both_ways(linked: Links, weight: Weights) -> tuple[Index, Index, Weights]:
    """Neighbours of each core, by its number, and what they tell each other in either direction."""
    return _summed(
        np.concatenate([linked.speakers, linked.hearers]),
        np.concatenate([linked.hearers, linked.speakers]),
        np.concatenate([weight, weight]),
        linked.cores,
    )


def _summed(one: Index, other: Index, weight: Weights, count: int) -> tuple[Index, Index, Weights]:
    apart = one != other
    keys = one[apart] * count + other[apart]
    order = np.argsort(keys, kind="stable")
    key, there = distinct(keys)
    total = (
        np.add.reduceat(weight[apart][order], np.cumsum(there) - there) if key.size else weight[:0]
    )
    return key // count, key % count, total


def _cut(linked: Links, weight: Weights, chips: int, room: int) -> Index:
    """Let METIS cut groups of cores into chips, and move what lies in too full ones."""
    import pymetis

    together = max(1, min(-(-linked.cores // _VERTICES), room // 8))
    group = np.arange(linked.cores) // together
    groups = int(group[-1]) + 1
    one, other, shared = _summed(
        group[np.concatenate([linked.speakers, linked.hearers])],
        group[np.concatenate([linked.hearers, linked.speakers])],
        np.concatenate([weight, weight]),
        groups,
    )
    scale = _HEAVIEST / max(1.0, float(shared.sum()))
    _, parts = pymetis.part_graph(
        chips,
        pymetis.CSRAdjacency(
            np.searchsorted(one, np.arange(groups + 1)).astype(np.int32), other.astype(np.int32)
        ),
        vweights=np.bincount(group).astype(np.int32),
        eweights=np.maximum(1, (shared * min(scale, 1024.0)).astype(np.int32)),
        recursive=True,  # bisections: of tens of thousands of cores better and faster than k ways
        options=pymetis.Options(ufactor=1, seed=0),
    )
    return _fitted(np.asarray(parts, np.int64)[group], linked, weight, chips, room)


def _fitted(chip: Index, linked: Links, weight: Weights, chips: int, room: int) -> Index:
    """Move cores that are least at home out of too full chips, to where they have most to do."""
    chip = chip.copy()
    full = np.bincount(chip, minlength=chips)
    if not (full > room).any():
        return chip
    one, other, shared = _both_ways(linked, weight)
    starts = np.searchsorted(one, np.arange(linked.cores + 1))
    home = np.bincount(one, shared * (chip[one] == chip[other]), linked.cores)
    for crowded in np.flatnonzero(full > room):
        cores = np.flatnonzero(chip == crowded)
        for core in cores[np.argsort(home[cores], kind="stable")][: full[crowded] - room]:
            near = slice(starts[core], starts[core + 1])
            pull = np.bincount(chip[other[near]], shared[near], chips)
            pull[full >= room] = -1.0
            chip[core] = pull.argmax()
            full[chip[core]] += 1
        full[crowded] = room
    return chip
