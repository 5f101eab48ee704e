"""What a simulator is. Implement these two protocols and pass `conformance`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from lapilli.ir.graph import Graph
from lapilli.ir.tensor import IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """What a run showed. Arrays are int64 (T, B, *shape of the node); B is the batch.

    Attributes:
        values: node name -> value at each step: spikes of a neuron, sums of a read-out.
        membranes: neuron name -> membrane before its reset, in state units.
        currents: neuron name -> its input, in synaptic units.
        current_digests: neuron name -> (T, B) digests of its input, from simulators that
            cannot keep the currents themselves (`lapilli.simulators.digest`).
        synops: accumulates performed, if the simulator counts them.
        steps: algorithmic steps that the target took, if it is pipelined.
        seconds: time spent in those steps, start-up excluded.
    """

    values: Mapping[str, IntArray]
    membranes: Mapping[str, IntArray] = field(default_factory=dict)
    currents: Mapping[str, IntArray] = field(default_factory=dict)
    current_digests: Mapping[str, IntArray] = field(default_factory=dict)
    synops: int | None = None
    steps: int | None = None
    seconds: float | None = None


class Executable(Protocol):
    """A graph made ready to run, any number of times; each sample starts from rest."""

    def run(self, inputs: Mapping[str, IntArray]) -> Recording:
        """Run a batch of samples for the graph's T steps.

        Args:
            inputs: input name -> int64 array (T, B, *shape).
        """
        ...


@runtime_checkable
class ReadsMembranes(Protocol):
    """An executable that does not record membranes, but can go back and read one node's."""

    def membrane(self, inputs: Mapping[str, IntArray], node: str, t: int, sample: int) -> IntArray:
        """Membrane before reset of one neuron node, at one step of one sample of `inputs`."""
        ...


class Simulator(Protocol):
    """A target. Cheap to make; importing its module imports no backend."""

    @property
    def name(self) -> str:
        """Stable, lower-case identifier, used on the command line and in reports."""
        ...

    def compile(self, graph: Graph) -> Executable:
        """Make `graph` ready to run.

        Raises:
            UnsupportedError: lists every node the target cannot take.
            SimulatorUnavailableError: the backend is not installed.
        """
        ...
