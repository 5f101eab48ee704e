"""Which core tells which: pairs of a neuron and a core that hears it, counted core by core."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from lapilli.costs.cores import CoreMap, Cut
from lapilli.costs.populations import Convolved, Mapped, Population, Way, Wired
from lapilli.costs.wires import Index, Wires, behind, distinct, sources
from lapilli.ir import ops
from lapilli.ir.graph import Graph, Node

_FOLLOWED = 1 << 25  # inputs that are followed one by one; of a larger network each so many-th
_AT_ONCE = 1 << 21


@dataclass(frozen=True, slots=True, eq=False)
class Links:
    """Cores, numbered as their populations come, and what they tell each other.

    Attributes:
        first: of each population the number of its first core; cores: of all.
        speakers: (n,) cores; hearers: (n,) cores that hear them.
        pairs: (n,) neurons of the one that the other hears: once for each map of weights, and once
            for all that comes as it is.
        population: (n,) which population speaks, by its place in the map.
        every: of the inputs only each so many-th was followed, and stands for the others; 1: all.
    """

    first: Mapping[str, int]
    cores: int
    speakers: Index
    hearers: Index
    pairs: Index
    population: Index
    every: int


def links(found: CoreMap) -> Links:
    """Find which core of a map tells which."""
    numbering = _Numbering.of(found)
    every = max(1, -(-sum(numbering.inputs(p) for p in found.populations) // _FOLLOWED))
    keys, counts = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for population in found.populations:
        for heard in _heard(numbering, population, every):
            key, count = _counted(numbering, heard)
            keys.append(key)
            counts.append(count)
    every_key, every_count = np.concatenate(keys), np.concatenate(counts)
    order = np.argsort(every_key, kind="stable")
    key, there = distinct(every_key)
    pairs = np.add.reduceat(every_count[order], np.cumsum(there) - there) if key.size else key
    speakers, hearers = np.divmod(key, numbering.cores)
    starts = np.array([*numbering.first.values()])
    return Links(
        first=numbering.first,
        cores=numbering.cores,
        speakers=speakers,
        hearers=hearers,
        pairs=pairs,
        population=np.searchsorted(starts, speakers, side="right") - 1,
        every=every,
    )


@dataclass(frozen=True, slots=True)
class _Numbering:
    """Cores by number: of each population the blocks of rows, in them of columns, of features."""

    graph: Graph
    populations: Mapping[str, Population]
    cuts: Mapping[str, Cut]
    first: Mapping[str, int]
    cores: int

    @classmethod
    def of(cls, found: CoreMap) -> _Numbering:
        ends = list(itertools.accumulate(cut.cores for cut in found.cuts))
        starts = [0, *ends[:-1]]
        return cls(
            graph=found.graph,
            populations={p.name: p for p in found.populations},
            cuts={cut.name: cut for cut in found.cuts},
            first={cut.name: start for cut, start in zip(found.cuts, starts, strict=True)},
            cores=ends[-1] if ends else 0,
        )

    def inputs(self, population: Population) -> int:
        """How many inputs `_heard` follows."""
        cut = self.cuts[population.name]
        if population.shown:
            return sum(
                way.axons(cut.block) * cut.cores // self.copies(population, way)
                for way, _ in population.ways
            )
        each = sum(way.each for way, _ in population.ways if isinstance(way, Wired))
        return population.grid.neurons * each

    def copies(self, population: Population, way: Way) -> int:
        """How many cores in a row hear the same by this way: those of other features alone."""
        whole = population.grid.features
        if isinstance(way, Mapped) or (
            isinstance(way, Convolved) and way.outputs_per_group == whole
        ):
            return self.parts(population.name)[2]
        return 1

    def parts(self, name: str) -> tuple[int, int, int]:
        """Into how many blocks rows, columns and features are cut."""
        grid, block = self.populations[name].grid, self.cuts[name].block
        return (
            -(-grid.rows // block.rows),
            -(-grid.columns // block.columns),
            -(-grid.features // block.features),
        )

    def core(self, name: str, at: Index) -> Index:
        """Numbers of the cores that these neurons of a population stand on."""
        population, block = self.populations[name], self.cuts[name].block
        if not population.shown:
            return self.first[name] + at // block.rows
        row, column, feature = _on_grid(self.graph, population, at)
        parts = self.parts(name)
        place = row // block.rows * parts[1] + column // block.columns
        return self.first[name] + place * parts[2] + feature // block.features


def _on_grid(graph: Graph, population: Population, at: Index) -> tuple[Index, Index, Index]:
    """Rows, columns and features of neurons: where the map in front of them puts them out."""
    begin = Wires(graph[population.name].inputs[0], at, np.arange(at.size))
    place = at.copy()
    for found in sources(graph, begin):
        if found.name == population.shown:
            place[found.asked] = found.at
    grid = population.grid
    if isinstance(graph[population.shown].op, ops.Conv2d):
        feature, row, column = np.unravel_index(place, (grid.features, grid.rows, grid.columns))
        return row, column, feature
    row, feature = np.divmod(place, grid.features)
    return row, row * 0, feature


@dataclass(frozen=True, slots=True, eq=False)
class _Heard:
    """Neurons that a core hears, and with it the `copies` - 1 cores behind it."""

    wires: Wires
    copies: int


def _heard(numbering: _Numbering, population: Population, every: int) -> Iterator[_Heard]:
    """Neurons that the cores of a population hear; asked for by the core's number."""
    graph, gridded = numbering.graph, set[str]()
    for (way, _), synapse in zip(population.ways, population.synapses, strict=True):
        if isinstance(way, Convolved | Mapped) and synapse not in gridded:
            gridded.add(synapse)
            window = _window(numbering, population, way, graph[synapse], every)
            left = -(-every // window.wires.stands_for)
            yield from _together(graph, behind(graph, window.wires, left), window.copies)
    if any(isinstance(way, Wired) for way, _ in population.ways):
        for begin, step in _in_turn(numbering, population, every):
            found = sources(graph, begin, -(-every // step))
            kept = (wires for wires in found if wires.name not in gridded)
            yield from _together(graph, (w for wires in kept for w in behind(graph, wires)), 1)


def _together(graph: Graph, found: Iterable[Wires], copies: int) -> Iterator[_Heard]:
    """What comes from one population on several paths, in one: a core hears a neuron once.

    The host's inputs are no population.
    """
    by_name: dict[tuple[str, int], list[Wires]] = {}
    for wires in found:
        if isinstance(graph[wires.name].op, ops.Input):
            continue
        by_name.setdefault((wires.name, wires.stands_for), []).append(wires)
    for (name, stands_for), several in by_name.items():
        at, asked = (np.concatenate([getattr(w, f) for w in several]) for f in ("at", "asked"))
        yield _Heard(Wires(name, at, asked, stands_for), copies)


def _in_turn(
    numbering: _Numbering, population: Population, every: int
) -> Iterator[tuple[Wires, int]]:
    """A population's neurons, some whole cores of them at a time, and how many each stands for."""
    block, size = numbering.cuts[population.name].block, population.grid.neurons
    step = min(every, block.neurons)
    each = max(1, numbering.inputs(population) // size // every * step)
    length = block.neurons * max(1, _AT_ONCE * step // each // block.neurons)
    (operand,) = numbering.graph[population.name].inputs
    for start in range(0, size, length):
        at = np.arange(start, min(size, start + length), step)
        yield Wires(operand, at, numbering.core(population.name, at), step), step


def _window(
    numbering: _Numbering, population: Population, way: Way, synapse: Node, every: int
) -> _Heard:
    """Elements that a map of weights takes for each core: of so many channels one."""
    graph, block = numbering.graph, numbering.cuts[population.name].block
    first, parts = numbering.first[population.name], numbering.parts(population.name)
    (operand,) = synapse.inputs
    copies = numbering.copies(population, way)
    if isinstance(way, Mapped):
        step = min(every, way.features)
        token = np.arange(math.prod(graph.types[operand].shape) // way.features)[:, None]
        at = token * way.features + np.arange(0, way.features, step)
        asked = np.broadcast_to(first + token // block.rows * parts[2], at.shape)
        return _Heard(Wires(operand, at.ravel(), asked.ravel(), step), copies)
    if not isinstance(synapse.op, ops.Conv2d):
        raise TypeError(f"{synapse.name} is no convolution")
    op, (channels, height, width) = synapse.op, graph.types[operand].shape
    grid = population.grid
    lines = [
        _reached(length, part, stride, k, padding, there)
        for length, part, stride, k, padding, there in zip(
            (grid.rows, grid.columns), (block.rows, block.columns), op.stride,
            op.weight.shape[2:], op.padding, (height, width), strict=True,
        )
    ]  # fmt: skip
    (row_part, row), (column_part, column) = lines
    step = min(every, way.per_group) if isinstance(way, Convolved) else 1
    if op.groups == 1:
        channel = np.arange(0, channels, step)
        part = np.zeros_like(channel)
    else:
        part, channel = (side[::step] for side in _grouped(op, block.features))
    place = row_part[:, None] * parts[1] + column_part
    asked = first + place * parts[2] + part[:, None, None]
    at = (channel[:, None, None] * height + row[:, None]) * width + column
    return _Heard(Wires(operand, at.ravel(), asked.ravel(), step), copies)


def _reached(
    outputs: int, part: int, stride: int, kernel: int, padding: int, inputs: int
) -> tuple[Index, Index]:
    """Pairs of a block of lines and a line of the input that it takes."""
    out = np.arange(outputs)[:, None]
    line = out * stride - padding + np.arange(kernel)
    there = (line >= 0) & (line < inputs)
    key, _ = distinct((out // part * inputs + line)[there])
    return key // inputs, key % inputs


def _grouped(op: ops.Conv2d, part: int) -> tuple[Index, Index]:
    """Pairs of a block of features and a channel that it takes."""
    outputs, per_group = op.weight.shape[:2]
    feature = np.arange(outputs)[:, None]
    channel = feature // (outputs // op.groups) * per_group + np.arange(per_group)
    channels = op.groups * per_group
    key, _ = distinct((feature // part * channels + channel).ravel())
    return key // channels, key % channels


def _counted(numbering: _Numbering, heard: _Heard) -> tuple[Index, Index]:
    """Pairs of cores, as one number each, and how many neurons of the one the other hears."""
    wires = heard.wires
    size = numbering.populations[wires.name].grid.neurons
    once, _ = distinct(wires.asked * size + wires.at)
    hearer, at = np.divmod(once, size)
    key = numbering.core(wires.name, at) * numbering.cores + hearer
    keys, counts = distinct(key)
    keys = (keys[:, None] + np.arange(heard.copies)).ravel()
    return keys, np.repeat(counts * wires.stands_for, heard.copies)
