"""Synapses between populations: weights of 8 bits with an exponent, and delays."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lapilli.ir.tensor import IntArray
from lapilli.simulators.lava.stock.network import Axon, Positions
from lapilli.simulators.stock.currents import LinearCurrent
from lapilli.simulators.stock.digits import digits

if TYPE_CHECKING:
    from scipy.sparse import csr_array

# Lava's delays cost a pass over all synapses for each step up to the longest: short ones apart.
_GROUPS = (0, 3, 15)


def axons(
    sizes: Sequence[int],
    places: Mapping[str, Positions],
    levels: Mapping[str, int],
    driven: Mapping[str, LinearCurrent],
) -> tuple[Axon, ...]:
    """Every synapse of every node, by populations and length of delay.

    Args:
        sizes: of populations; of inputs from the end, as their negative numbers index.
        places: of the elements of nodes and inputs.
        levels: of nodes and inputs; what is no input and at level 0 is a constant.
        driven: what each node is driven by.
    """
    bundles: dict[tuple[int, int, int], _Bundle] = {}
    for name, current in driven.items():
        for source, w in current.weights.items():
            triples = w.tocoo()
            to, of = places[name], places[source]
            late = levels[name] - 1 - levels[source]
            if levels[source] == 0 and (of.population >= 0).all():
                late = 0  # a constant, which is never late
            ends = np.stack([of.population[triples.col], to.population[triples.row]])
            for first, second in np.unique(ends, axis=1).T.tolist():
                here = (ends[0] == first) & (ends[1] == second)
                group = bisect_left(_GROUPS, late)
                bundles.setdefault((first, second, group), _Bundle()).add(
                    to.position[triples.row[here]],
                    of.position[triples.col[here]],
                    triples.data[here],
                    late,
                )
    return tuple(
        Axon(first, second, exponent, weights, delays)
        for (first, second, _), bundle in bundles.items()
        for weights, delays, exponent in bundle.axons((sizes[second], sizes[first]))
    )


class _Bundle:
    """Synapses between two populations, of delays of one group."""

    def __init__(self) -> None:
        self.parts: list[tuple[IntArray, IntArray, IntArray, IntArray]] = []

    def add(self, row: IntArray, column: IntArray, weight: IntArray, late: int) -> None:
        """Synapses of one delay."""
        self.parts.append((row, column, weight, np.full_like(weight, late)))

    def axons(self, shape: tuple[int, int]) -> Iterator[tuple[csr_array, csr_array, int]]:
        """Stored weights, delays and exponent of each axon."""
        from scipy.sparse import csr_array

        row, column, weight, late = (np.concatenate(p) for p in zip(*self.parts, strict=True))
        for digit, exponent in digits(weight):
            used = digit != 0
            if used.any():
                at = row[used], column[used]
                weights = csr_array((2 * digit[used], at), shape=shape)
                yield weights, csr_array((late[used], at), shape=shape), exponent - 1
