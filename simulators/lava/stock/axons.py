"""Synapses between populations: weights of 8 bits with an exponent, one delay for each pair."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from lapilli.ir.bounds import trailing_zeros
from lapilli.ir.ops import LOIHI_FRACTION_BITS, Neuron
from lapilli.ir.types import IntRange
from lapilli.simulators.lava.stock.currents import Affine
from lapilli.simulators.lava.stock.network import Axon, Place, Population

if TYPE_CHECKING:
    from scipy.sparse import csr_array

_BITS = 8  # of a signed weight; the exponent of 7 and the sign's factor of 2 reach as far again
_DIGITS = IntRange(-(1 << (_BITS - 1)), (1 << (_BITS - 1)) - 1)
_TWO_AXONS = _DIGITS + IntRange(_DIGITS.lo << _BITS, _DIGITS.hi << _BITS)


def weight_faults(current: Affine, op: Neuron) -> tuple[str, ...]:
    """Weights that two axons cannot say, one for each source."""
    faults = []
    for source, w in current.weights.items():
        data = w.data << _shift(op)
        if data.size and (data.min() < _TWO_AXONS.lo or data.max() > _TWO_AXONS.hi):
            worst = max(int(data.min()), int(data.max()), key=abs)
            faults.append(
                f"weight {worst:,} of {source!r}; two axons of {_BITS} bits reach "
                f"[{_TWO_AXONS.lo:,}, {_TWO_AXONS.hi:,}]"
            )
    return tuple(faults)


def axons(
    populations: tuple[Population, ...],
    places: Mapping[str, Place],
    driven: Mapping[str, Affine],
    ops: Mapping[str, Neuron],
) -> tuple[Axon, ...]:
    """Every weight of every node, sorted by population, in as many axons as its bits take."""
    from scipy.sparse import csr_array

    entries: dict[tuple[int, int], list[tuple[Any, Any, Any]]] = {}
    for name, current in driven.items():
        for source, w in current.weights.items():
            triples = w.tocoo()
            to, of = places[name], places[source]
            pairs = np.stack([of.population[triples.col], to.population[triples.row]])
            for pair in np.unique(pairs, axis=1).T:
                here = (pairs == pair[:, None]).all(axis=0)
                entries.setdefault((int(pair[0]), int(pair[1])), []).append(
                    (
                        triples.data[here] << _shift(ops[name]),
                        to.position[triples.row[here]],
                        of.position[triples.col[here]],
                    )
                )
    sizes = {i: population.size for i, population in enumerate(populations)}
    sizes |= {int(p.population[0]): len(p.position) for p in places.values() if p.population[0] < 0}
    made = []
    for (first, second), parts in entries.items():
        data, row, col = (np.concatenate(column) for column in zip(*parts, strict=True))
        weights = csr_array((data, (row, col)), shape=(sizes[second], sizes[first]))
        weights.eliminate_zeros()
        if weights.nnz:
            delay = _delay(populations, first, second)
            made += [Axon(first, second, delay, e, w) for w, e in _digits(weights)]
    return tuple(made)


def _shift(op: Neuron) -> int:
    """Lava itself shifts by 6."""
    return op.fraction_bits - LOIHI_FRACTION_BITS


def _delay(populations: tuple[Population, ...], source: int, target: int) -> int:
    """Steps to wait beyond the one that a synapse costs."""
    late = populations[target].registers.level - 1
    if source < 0:
        return late
    level = populations[source].registers.level
    return late - level if level else 0  # level 0 is the constant's: never late


def _digits(weights: csr_array) -> list[tuple[csr_array, int]]:
    """Integer weights as axons of mixed sign: even weights of 8 bits, and their exponent.

    A digit d in [-128, 127] is stored as 2 d, which its exponent takes back. What eight bits and
    a common power of two cannot say takes two axons, the second with 256 as its unit.
    """
    from scipy.sparse import csr_array

    data = weights.data
    shift = min(_BITS, trailing_zeros(int(np.bitwise_or.reduce(np.abs(data)))))
    if int(data.min()) >> shift in _DIGITS and int(data.max()) >> shift in _DIGITS:
        parts = [(data >> shift, shift)]
    else:
        low = ((data - _DIGITS.lo) & ((1 << _BITS) - 1)) + _DIGITS.lo
        parts = [(low, 0), ((data - low) >> _BITS, _BITS)]
    made = []
    for digits, exponent in parts:
        pattern = (weights.indices.copy(), weights.indptr.copy())  # zeros go in place
        axon = csr_array((2 * digits, *pattern), shape=weights.shape)
        axon.eliminate_zeros()
        if axon.nnz:
            made.append((axon, exponent - 1))
    return made
