"""What is built in Lava: populations of `LIFReset`, 8-bit axons between them, and the size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lapilli.ir.graph import Graph
from lapilli.ir.tensor import IntArray

if TYPE_CHECKING:
    from scipy.sparse import csr_array

MOST_DELAY = 62  # of a synapse, in steps beyond the one that each costs


@dataclass(frozen=True, slots=True, kw_only=True)
class Registers:
    """What all neurons of a population share, but for the threshold, in Lava's own registers.

    Attributes:
        interval, offset: Lava steps s with s % interval equal to offset start from rest.
    """

    du: int
    dv: int
    interval: int
    offset: int


@dataclass(frozen=True, slots=True, eq=False)
class Population:
    """Neurons of the same registers, of however many nodes.

    Attributes:
        mantissa, exponent: of the bias of each neuron.
    """

    registers: Registers
    vth: int
    mantissa: IntArray
    exponent: IntArray

    @property
    def size(self) -> int:
        """How many neurons."""
        return len(self.mantissa)


@dataclass(frozen=True, slots=True, eq=False)
class Axon:
    """Synapses from one population, or input, to another or the same.

    Attributes:
        source, target: numbers of populations; an input's is negative: -1 is the first.
        exponent: Lava's weight_exp, which takes back the factor of two of mixed signs.
        weights: (target, source), even numbers of [-256, 254].
        delays: (target, source), steps of each synapse beyond the one that all take.
    """

    source: int
    target: int
    exponent: int
    weights: csr_array
    delays: csr_array

    @property
    def longest_delay(self) -> int:
        """Of its synapses."""
        return int(self.delays.max())


@dataclass(frozen=True, slots=True, eq=False)
class Positions:
    """Where the elements of a node are: population and position of each, row-major."""

    population: IntArray
    position: IntArray


@dataclass(frozen=True, slots=True)
class StockSize:
    """What a stock network takes.

    Attributes:
        neurons: relays and the source of constants included.
        synapses: weights that are not zero, each as often as there are axons for it.
        longest_delay: of a synapse, in steps beyond its own one.
        latency: steps from an input to the last neuron.
        current_bits: of the widest sum of one step, sign included; the chip's dendrites have 16.
        processes: of Lava: populations, axons, sources and recorders.
    """

    neurons: int
    populations: int
    synapses: int
    axons: int
    longest_delay: int
    latency: int
    current_bits: int
    processes: int

    def __str__(self) -> str:
        return (
            f"{self.neurons:,} neurons in {self.populations} populations, {self.synapses:,} "
            f"synapses in {self.axons} axons, longest delay {self.longest_delay}, latency "
            f"{self.latency}, currents of {self.current_bits} bits, {self.processes} processes"
        )


@dataclass(frozen=True, slots=True, eq=False)
class StockNetwork:
    """A graph as stock processes.

    Attributes:
        graph: of binary neurons; what comes behind the last ones is the host's to add up.
        places: of every neuron node.
        levels: of every neuron node, synapses in a row before it: its first step shows at Lava
            step level + 1.
        recorded: neuron nodes that the host needs.
        current_bits: see `StockSize`.
    """

    graph: Graph
    populations: tuple[Population, ...]
    axons: tuple[Axon, ...]
    places: Mapping[str, Positions]
    levels: Mapping[str, int]
    recorded: tuple[str, ...]
    current_bits: int

    @property
    def watched(self) -> tuple[int, ...]:
        """Numbers of the populations that are recorded."""
        found = {int(p) for name in self.recorded for p in self.places[name].population}
        return tuple(sorted(found))

    @property
    def size(self) -> StockSize:
        """Counted, before anything is built in Lava."""
        played = {axon.source for axon in self.axons if axon.source < 0}
        watched = len(self.watched)
        return StockSize(
            neurons=sum(p.size for p in self.populations),
            populations=len(self.populations),
            synapses=sum(axon.weights.nnz for axon in self.axons),
            axons=len(self.axons),
            longest_delay=max((axon.longest_delay for axon in self.axons), default=0),
            latency=max(self.levels.values(), default=0),
            current_bits=self.current_bits,
            processes=len(self.populations) + len(self.axons) + len(played) + watched,
        )
