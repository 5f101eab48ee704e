"""Which compartments lie on a core together: as many as its limits allow, and their synapses.

A block holds compartments of one level and the same decays. It is halved where it would have more
of something than a core has; so is one whose spikes go to more places than a core can name.
Sources of the same weights share an input axon, as of a mean over the places of a map.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lapilli.ir.errors import Unsupported, UnsupportedError
from lapilli.ir.tensor import IntArray
from lapilli.simulators.nengo_loihi.network import LIMITS, NAME, LoihiNetwork
from lapilli.simulators.stock.digits import digits

if TYPE_CHECKING:
    from scipy.sparse import csc_array

_INDEX_BITS = np.array([0, 6, 7, 8, 9, 10, 11, 12])  # of a compartment's number in a synapse
_WORD, _HEADER, _TOGETHER = 64, 10, 64  # bits of a word, of a row of synapses; synapses in a row


@dataclass(frozen=True, slots=True, eq=False)
class Synapses:
    """Of one exponent, into one block.

    Attributes:
        exponent: of nengo-loihi's `weight_exp`, which takes back the factor of two of mixed signs.
        weights: (compartments of the block, input axons), even numbers of [-256, 254].
        sources: that are heard; each by the input axon at its place in `axons`.
    """

    exponent: int
    weights: csc_array
    sources: IntArray
    axons: IntArray

    @property
    def bits(self) -> int:
        """Of memory, as `SynapseConfig.bits_per_axon` counts them."""
        each = np.diff(self.weights.indptr)
        most = int(self.weights.indices.max(initial=-1)) + 1
        index = int(_INDEX_BITS[np.searchsorted(_INDEX_BITS, max(0, most - 1).bit_length())])
        rows = [np.full(int((each // _TOGETHER).sum()), _TOGETHER), each % _TOGETHER]
        full = np.concatenate(rows)
        full = full[full > 0] * (8 + index) + _HEADER
        return int((-(-full // _WORD)).sum()) * _WORD


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Compartments of one core, by their numbers in the network, and what drives them."""

    members: IntArray
    synapses: tuple[Synapses, ...]

    def beyond(self, network: LoihiNetwork) -> str | None:
        """The limit that a core would leave with these; None if all is well."""
        found = {
            "compartments": len(self.members),
            "input axons": sum(s.weights.shape[1] for s in self.synapses),
            "bits of synapses": sum(s.bits for s in self.synapses),
            "thresholds": len(np.unique(network.compartments.vth[self.members])),
            "synapse formats": len(self.synapses),
        }
        return next((what for what, many in found.items() if many > LIMITS[what]), None)


def divided(network: LoihiNetwork) -> tuple[Block, ...]:
    """The blocks of a network.

    Raises:
        UnsupportedError: a neuron that needs more than a core has.
    """
    blocks = [block for group in _groups(network) for block in _fitting(network, group)]
    while crowded := _crowded(network, blocks):
        blocks = [
            part
            for i, block in enumerate(blocks)
            for part in (_halves(network, block, "output axons") if i in crowded else (block,))
        ]
    return tuple(blocks)


def _groups(network: LoihiNetwork) -> Iterator[IntArray]:
    """Compartments that one block could hold if cores were large."""
    registers = network.compartments
    keys = np.stack([registers.first, registers.vmin, registers.decay_u, registers.decay_v])
    order = np.lexsort((np.arange(network.count), registers.vth, *keys[::-1]))
    changes = np.flatnonzero(np.any(np.diff(keys[:, order], axis=1), axis=0)) + 1
    yield from np.split(order, changes)


def _fitting(network: LoihiNetwork, members: IntArray) -> Iterator[Block]:
    """Of each core's worth of compartments, the block, in halves where it is too much."""
    most = LIMITS["compartments"]
    for start in range(0, len(members), most):
        block = _block(network, members[start : start + most])
        if (what := block.beyond(network)) is None:
            yield block
        else:
            yield from _halves(network, block, what)


def _halves(network: LoihiNetwork, block: Block, what: str) -> Iterator[Block]:
    middle = len(block.members) // 2
    if not middle:
        names = list(network.places)
        starts = np.array(list(network.places.values()))
        name = names[int(np.searchsorted(starts, block.members[0], side="right")) - 1]
        reason = Unsupported(name, f"one neuron needs more than {LIMITS[what]:,} {what} of a core")
        raise UnsupportedError(NAME, (reason,))
    yield from _fitting(network, block.members[:middle])
    yield from _fitting(network, block.members[middle:])


def _block(network: LoihiNetwork, members: IntArray) -> Block:
    from scipy.sparse import csr_array

    of_them = network.weights[members]
    if not of_them.nnz:
        return Block(members, ())
    synapses = []
    for digit, exponent in digits(of_them.data):
        weights = csr_array((2 * digit, of_them.indices, of_them.indptr), shape=of_them.shape)
        weights = weights.tocsc()
        weights.eliminate_zeros()
        if weights.nnz:
            sources, first, axons = _shared(weights)
            synapses.append(Synapses(exponent - 1, weights[:, first], sources, axons))
    return Block(members, tuple(synapses))


def _shared(weights: csc_array) -> tuple[IntArray, IntArray, IntArray]:
    """The sources that are heard, one source for each axon, and the axon of each source."""
    ends, targets, data = weights.indptr, weights.indices, weights.data
    sources = np.flatnonzero(np.diff(ends))
    known: dict[tuple[bytes, bytes], int] = {}
    axons = np.empty_like(sources)
    first: list[int] = []
    for i, source in enumerate(sources.tolist()):
        row = slice(ends[source], ends[source + 1])
        key = targets[row].tobytes(), data[row].tobytes()
        if (axon := known.setdefault(key, len(known))) == len(first):
            first.append(source)
        axons[i] = axon
    return sources, np.array(first), axons


def _crowded(network: LoihiNetwork, blocks: list[Block]) -> set[int]:
    """Numbers of blocks whose neurons together have more output axons than a core."""
    home = np.zeros(network.count, np.int64)
    for i, block in enumerate(blocks):
        home[block.members] = i
    used = np.zeros(len(blocks), np.int64)
    for block in blocks:
        for synapses in block.synapses:
            neurons = synapses.sources[synapses.sources < network.count]
            used += np.bincount(home[neurons], minlength=len(blocks))
    return set(np.flatnonzero(used > LIMITS["output axons"]).tolist())
