"""What stands on cores: populations of binary neurons, and what comes into each of them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from typing_extensions import assert_never

from lapilli.costs.wires import Index, Wires, behind, distinct
from lapilli.ir import ops
from lapilli.ir.graph import Graph, Node
from lapilli.ir.types import IntRange, TensorType

_FOLLOWED = 1 << 20  # inputs of one core


@dataclass(frozen=True, slots=True)
class Block:
    """Some rows, columns and features of a population; of tokens rows alone."""

    rows: int
    columns: int
    features: int

    @property
    def neurons(self) -> int:
        """How many that are."""
        return self.rows * self.columns * self.features


@dataclass(frozen=True, slots=True)
class Convolved:
    """A kernel that all positions of a block share: it is stored once for each feature of it.

    Attributes:
        sources: size (channels, H, W) of what it takes; several: sources of each element.
    """

    sources: tuple[int, int, int]
    several: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    per_group: int
    outputs_per_group: int
    bits: int

    def axons(self, block: Block) -> int:
        """Sources that a block of this size hears."""
        channels, height, width = self.sources
        own = self.outputs_per_group  # a block may begin in the middle of a group
        latest = own - math.gcd(block.features, own)
        groups = (latest + block.features - 1) // own + 1
        rows = (block.rows - 1) * self.stride[0] + self.kernel[0]
        columns = (block.columns - 1) * self.stride[1] + self.kernel[1]
        seen = min(channels, groups * self.per_group) * min(height, rows) * min(width, columns)
        return seen * self.several

    def memory(self, block: Block) -> int:
        """Bits of weights that it stores."""
        return block.features * self.per_group * math.prod(self.kernel) * self.bits


@dataclass(frozen=True, slots=True)
class Mapped:
    """A linear map of each token: stored once for all tokens of a block, again in each core."""

    features: int
    several: int
    bits: int

    def axons(self, block: Block) -> int:
        """Sources that a block of this size hears."""
        return block.rows * block.columns * self.features * self.several

    def memory(self, block: Block) -> int:
        """Bits of weights that it stores."""
        return block.features * self.features * self.bits


@dataclass(frozen=True, slots=True)
class Wired:
    """Spikes that are added as they are, or a map that fits no grid: so many for each neuron."""

    sources: int
    each: int
    bits: int

    def axons(self, block: Block) -> int:
        """Sources that a block of this size hears, at most."""
        return min(self.sources, block.neurons * self.each)

    def memory(self, block: Block) -> int:
        """Bits of weights that it stores."""
        return block.neurons * self.each * self.bits


Way = Convolved | Mapped | Wired


@dataclass(frozen=True, slots=True)
class Population:
    """A layer of binary neurons, or the sums of a read-out.

    Attributes:
        name: of its node, in the graph of binary neurons.
        shown: the map of weights whose outputs stand on the grid; empty if they are in a row.
        grid: all of it; ways: what comes in, each with the populations it comes from.
        synapses: of each way the map of weights; empty of what comes as it is.
    """

    name: str
    shown: str
    grid: Block
    ways: tuple[tuple[Way, tuple[str, ...]], ...]
    synapses: tuple[str, ...]


def populations(graph: Graph) -> tuple[Population, ...]:
    """Return the populations of a graph of binary neurons, in topological order."""
    return tuple(
        _population(graph, node)
        for node in graph.nodes
        if isinstance(node.op, ops.Neuron | ops.Readout)
    )


def heard_in_a_row(graph: Graph, population: Population, rows: int) -> dict[str, list[int]] | None:
    """Different sources that so many neurons in a row hear, by source, at three places each.

    Returns:
        None of a population that stands on a grid, and where there are too many to be followed.
    """
    size = population.grid.neurons
    each = sum(way.each for way, _ in population.ways if isinstance(way, Wired))
    if population.shown or rows * each > _FOLLOWED:
        return None
    (operand,) = graph[population.name].inputs
    found = defaultdict[str, list[int]](list)
    starts = {size // rows // 2 * rows, max(0, size // rows - 1) * rows, 0}
    for start in sorted(starts):
        at = np.arange(start, min(size, start + rows))
        taken = defaultdict[str, list[Index]](list)
        for wires in behind(graph, Wires(operand, at, at)):
            taken[wires.name].append(wires.at)
        for name, several in taken.items():
            found[name].append(distinct(np.concatenate(several))[0].size)
    return found


def _population(graph: Graph, node: Node) -> Population:
    size = math.prod(graph.types[node.name].shape)
    weighted = [w for w, _ in inbound(graph, node.inputs[0], 1) if w is not None]
    shown, grid = "", Block(size, 1, 1)
    for synapse in weighted:  # the first convolution, else the first map of as many neurons
        shape = graph.types[synapse.name].shape
        if math.prod(shape) == size:
            conv = isinstance(synapse.op, ops.Conv2d)
            grid = Block(shape[1], shape[2], shape[0]) if conv else _tokens(shape)
            shown = synapse.name
            break
    found = list(inbound(graph, node.inputs[0], 1))
    ways = tuple((_way(graph, s, leaves, grid, size), tuple(leaves)) for s, leaves in found)
    synapses = tuple("" if s is None else s.name for s, _ in found)
    return Population(node.name, shown, grid, ways, synapses)


def _tokens(shape: tuple[int, ...]) -> Block:
    return Block(math.prod(shape[:-1]), 1, shape[-1])


def inbound(graph: Graph, name: str, wires: int) -> Iterator[tuple[Node | None, Mapping[str, int]]]:
    """Synapses in front of a value, and spikes added as they are: each with its sources.

    `wires` is how many elements of this value one element of the population adds up.
    """
    node = graph[name]
    match node.op:
        case ops.Neuron() | ops.Input() | ops.Readout():
            yield None, {name: wires}
        case ops.Linear() | ops.Conv2d():
            found: dict[str, int] = {}
            for _, leaves in inbound(graph, node.inputs[0], 1):
                found.update(leaves)
            yield node, found
        case ops.Sum():
            more = _size(graph, node.inputs[0]) // _size(graph, name)
            yield from inbound(graph, node.inputs[0], wires * more)
        case (
            ops.Add() | ops.Concat() | ops.Reshape() | ops.Permute() | ops.Expand()
            | ops.Slice() | ops.Delay()
        ):  # fmt: skip
            for operand in node.inputs:
                yield from inbound(graph, operand, wires)
        case (
            ops.SpikeMatmul() | ops.Gate() | ops.ShiftSum() | ops.MaxPool2d() | ops.Membrane()
            | ops.GeneralNeuron() | ops.Staircase() | ops.Relu()
        ):  # fmt: skip
            raise TypeError(f"{name} is no op of a graph of binary neurons")
        case _:
            assert_never(node.op)


def _size(graph: Graph, name: str) -> int:
    return math.prod(graph.types[name].shape)


def _way(
    graph: Graph, synapse: Node | None, leaves: Mapping[str, int], grid: Block, size: int
) -> Way:
    sources = sum(_size(graph, leaf) for leaf in leaves)
    if synapse is None:
        return Wired(sources, max(leaves.values()), 1)
    if not isinstance(synapse.op, ops.Linear | ops.Conv2d):
        raise TypeError(f"{synapse.name} is no synapse")
    op, x = synapse.op, graph.types[synapse.inputs[0]]
    bits = (op.weight.mantissa.range | IntRange(-1, 0)).bits
    shape = graph.types[synapse.name].shape
    several = -(-sources // math.prod(x.shape))
    if isinstance(op, ops.Conv2d) and grid == Block(shape[1], shape[2], shape[0]):
        return _convolved(op, x, several, bits)
    if isinstance(op, ops.Linear) and grid == _tokens(shape):
        return Mapped(op.weight.shape[1], several, bits)
    each = -(-math.prod(op.weight.shape[1:]) * math.prod(shape) // size)
    return Wired(sources, each, bits)


def _convolved(op: ops.Conv2d, x: TensorType, several: int, bits: int) -> Convolved:
    channels, height, width = x.shape
    outputs, per_group, kh, kw = op.weight.shape
    return Convolved(
        sources=(channels, height, width),
        several=several,
        kernel=(kh, kw),
        stride=op.stride,
        per_group=per_group,
        outputs_per_group=outputs // op.groups,
        bits=bits,
    )
