"""A network on the cores of a chip: how it is cut, what does not fit, and what no cut goes below.

Each population is cut into blocks that are alike, a core for each: as many features, rows and
columns as the core's resources hold. A core holds one population; what is left free stays free.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

from lapilli.costs.populations import Block, Population, heard_in_a_row, populations
from lapilli.ir.graph import Graph
from lapilli.ir.passes.binary import to_binary_neurons
from lapilli.ir.targets.target import Cores, Figure, Resource


@dataclass(frozen=True, slots=True)
class Cut:
    """One population on cores.

    Attributes:
        name: in the graph of binary neurons; neurons: of it.
        block: of one core; cores: how many it takes.
        use: of the fullest core, by resource.
        hearers: cores that hear one of its neurons, on the mean.
        beyond: resources that even a single neuron asks more of than a core has.
    """

    name: str
    neurons: int
    block: Block
    cores: int
    use: Mapping[Resource, int]
    hearers: Fraction
    beyond: tuple[Resource, ...]


@dataclass(frozen=True, slots=True)
class CoreMap:
    """A network on the cores of a chip.

    Attributes:
        name: of the chip; chip: what it has.
        cuts: a row for each population, in topological order.
        bound: cores that every cut takes, by resource: need of all over what one has.
        neurons: of all.
        graph: of binary neurons; populations: of it, one for each cut.
    """

    name: str
    chip: Cores
    cuts: tuple[Cut, ...]
    bound: Mapping[Resource, int]
    neurons: int
    graph: Graph
    populations: tuple[Population, ...]

    @property
    def cores(self) -> int:
        """Cores that this cut takes; at least so many where a resource is unknown."""
        return sum(cut.cores for cut in self.cuts)

    @property
    def lowest(self) -> int:
        """Cores that no cut goes below."""
        return max(self.bound.values(), default=0)

    @property
    def unknown(self) -> tuple[Resource, ...]:
        """Resources of which nobody says how much a core has."""
        return tuple(r for r, figure in self.chip.each.items() if figure.high is None)

    @property
    def chips(self) -> tuple[int, int | None]:
        """Fewest and most chips; None where nobody can say."""
        count = self.chip.count
        if count.low is None or count.high is None:
            return 1, None
        fewest = math.ceil(self.cores / count.high)
        return fewest, None if self.unknown else math.ceil(self.cores / count.low)

    @property
    def misfits(self) -> tuple[Cut, ...]:
        """Populations that no cut brings onto cores."""
        return tuple(cut for cut in self.cuts if cut.beyond)

    @property
    def system(self) -> str:
        """The smallest system that surely has the fewest chips; empty if none is known."""
        fewest = self.chips[0]
        for name, chips in self.chip.systems.items():
            if chips.low is not None and chips.low >= fewest:
                return name
        return ""


def cores_of(graph: Graph, name: str, chip: Cores) -> CoreMap:
    """Cut a network onto the cores of a chip, lowered to binary neurons as `StockLava` does.

    Raises:
        UnsupportedError: nodes that have no form in binary neurons.
    """
    lowered = to_binary_neurons(graph)
    everything = populations(lowered)
    leaving = defaultdict[str, Fraction](Fraction)
    sizes = {p.name: p.grid.neurons for p in everything}
    sources = {node.name: math.prod(lowered.types[node.name].shape) for node in lowered.nodes}
    cuts, needs = [], defaultdict[Resource, int](int)
    for population in reversed(everything):  # who hears a neuron is known before it is cut
        cut = _cut(lowered, population, chip, leaving[population.name])
        cuts.append(cut)
        for leaf, hearers in _hearers(lowered, population, cut, sizes).items():
            leaving[leaf] += hearers
        for resource, need in _whole(population, sources).items():
            needs[resource] += need
    return CoreMap(
        name=name,
        chip=chip,
        cuts=tuple(reversed(cuts)),
        bound={
            resource: math.ceil(need / most)
            for resource, need in needs.items()
            if (most := chip.each[resource].high) is not None
        },
        neurons=needs[Resource.NEURONS],
        graph=lowered,
        populations=everything,
    )


def _hearers(
    graph: Graph, population: Population, cut: Cut, sizes: Mapping[str, int]
) -> dict[str, Fraction]:
    """How many cores of a cut hear a neuron of each of its sources, on the mean."""
    told = defaultdict[str, Fraction](Fraction)
    if (heard := heard_in_a_row(graph, population, cut.block.rows)) is not None:
        for leaf, several in heard.items():
            if leaf in sizes:
                mean = Fraction(sum(several), len(several))
                told[leaf] += mean * cut.cores / sizes[leaf]
        return told
    for way, leaves in population.ways:
        axons = way.axons(cut.block) * cut.cores
        inside = sum(sizes.get(leaf, 0) for leaf in leaves)
        for leaf in leaves:
            if leaf in sizes:
                told[leaf] += Fraction(axons, inside)
    return told


def _whole(population: Population, sources: Mapping[str, int]) -> dict[Resource, int]:
    """What a population takes of all cores together, however it is cut: each source once."""
    grid = population.grid
    leaves = {leaf for _, found in population.ways for leaf in found}
    heard = min(
        sum(way.axons(grid) for way, _ in population.ways), sum(sources[leaf] for leaf in leaves)
    )
    return {
        Resource.NEURONS: grid.neurons,
        Resource.AXONS_IN: heard,
        Resource.AXONS_OUT: heard,
        Resource.SYNAPSES: sum(way.memory(grid) for way, _ in population.ways),
    }


def _cut(graph: Graph, population: Population, chip: Cores, leaving: Fraction) -> Cut:
    """The cut of fewest cores; of those the one that hears least."""
    grid, best = population.grid, None
    blocks = list(_blocks(grid, chip.each[Resource.NEURONS]))

    def fits(block: Block) -> dict[Resource, int] | None:
        use = _use(graph, population, block, leaving)
        return None if any(_exceeds(use[r], f) for r, f in chip.each.items()) else use

    if not population.shown:  # in a row: whatever fits, fits with fewer neurons
        first = bisect_left(blocks, 1, key=lambda block: fits(block) is not None)
        blocks = blocks[first : first + 1]
    for block in blocks:
        if (use := fits(block)) is None:
            continue
        cores = _cores(grid, block)
        if best is None or (cores, use[Resource.AXONS_IN]) < (best[0], best[2][Resource.AXONS_IN]):
            best = cores, block, use
    if best is not None:
        return Cut(population.name, grid.neurons, best[1], best[0], best[2], leaving, ())
    single = Block(1, 1, 1)
    use = _use(graph, population, single, leaving)
    beyond = tuple(r for r, figure in chip.each.items() if _exceeds(use[r], figure))
    return Cut(population.name, grid.neurons, single, grid.neurons, use, leaving, beyond)


def _use(
    graph: Graph, population: Population, block: Block, leaving: Fraction
) -> dict[Resource, int]:
    heard = heard_in_a_row(graph, population, block.rows)
    return {
        Resource.NEURONS: block.neurons,
        Resource.AXONS_IN: sum(way.axons(block) for way, _ in population.ways)
        if heard is None
        else sum(map(max, heard.values())),
        Resource.AXONS_OUT: math.ceil(leaving * block.neurons),
        Resource.SYNAPSES: sum(way.memory(block) for way, _ in population.ways),
    }


def _exceeds(need: int, figure: Figure) -> bool:
    return figure.high is not None and need > figure.high


def _cores(grid: Block, block: Block) -> int:
    whole = (grid.rows, grid.columns, grid.features)
    part = (block.rows, block.columns, block.features)
    cores = 1
    for one, other in zip(whole, part, strict=True):
        cores *= -(-one // other)
    return cores


def _blocks(grid: Block, neurons: Figure) -> Iterator[Block]:
    """Blocks that cut each axis into parts as even as they can be."""
    for rows, columns, features in itertools.product(
        _parts(grid.rows), _parts(grid.columns), _parts(grid.features)
    ):
        block = Block(rows, columns, features)
        if not _exceeds(block.neurons, neurons):
            yield block


def _parts(length: int) -> list[int]:
    """The different lengths ceil(length / n), the longest first."""
    found = [length]
    while found[-1] > 1:
        pieces = -(-length // (found[-1] - 1))
        found.append(-(-length // pieces))
    return found
