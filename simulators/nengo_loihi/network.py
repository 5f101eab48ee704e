"""A graph as compartments and synapses, before they are divided among cores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lapilli.ir.graph import Graph
from lapilli.simulators.nengo_loihi.compartments import Compartments

if TYPE_CHECKING:
    from scipy.sparse import csr_array

NAME = "nengo-loihi"
LIMITS = {  # of a core: nengo_loihi 1.1.0, block.py and hardware/nxsdk_objects.py
    "compartments": 1024,
    "input axons": 4096,
    "output axons": 4096,
    "bits of synapses": 16384 * 64,
    "thresholds": 8,
    "synapse formats": 7,
}


@dataclass(frozen=True, slots=True)
class Played:
    """An input as the host shows it: spikes of bit planes, so many steps late.

    Attributes:
        planes: of a value; the highest counts negative where the input can be.
        start: number of its first spike among all that are played.
    """

    name: str
    late: int
    planes: int
    start: int


@dataclass(frozen=True, slots=True, eq=False)
class LoihiNetwork:
    """Compartments and what drives them; sources are compartments, then what is played.

    Attributes:
        graph: of binary neurons; what comes behind the last ones is the host's to add up.
        compartments: their registers.
        weights: (compartments, sources), in units of 64 of the state.
        played: inputs.
        places: node -> its first compartment; the others follow, row-major.
        levels: node -> synapses in a row before it: its first step is the emulator's level + 1.
        recorded: neuron nodes that the host needs.
        relays: compartments that repeat a spike a step later.
    """

    graph: Graph
    compartments: Compartments
    weights: csr_array
    played: tuple[Played, ...]
    places: Mapping[str, int]
    levels: Mapping[str, int]
    recorded: tuple[str, ...]
    relays: int

    @property
    def count(self) -> int:
        """How many compartments."""
        return len(self.compartments.vth)

    @property
    def steps(self) -> int:
        """Of the emulator, for a sample."""
        return self.graph.T + max(self.levels[name] for name in self.recorded)
