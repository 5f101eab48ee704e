"""What a simulator is. Implement these two protocols and pass `conformance`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from lapilli.ir.graph import Graph
from lapilli.ir.recording import Recording
from lapilli.ir.tensor import IntArray


class Executable(Protocol):
    """A graph made ready to run, any number of times; each sample starts from rest."""

    def run(self, inputs: Mapping[str, IntArray]) -> Recording:
        """Run a batch of samples for the graph's T steps.

        Args:
            inputs: input name -> int64 array (T, B, *shape).

        Returns:
            int64 arrays (T, B, *shape) of all of `graph.recorded`; more if it is at hand.
        """
        ...


@runtime_checkable
class ReadsMembranes(Protocol):
    """An executable that does not record membranes, but can go back and read one node's."""

    def membrane(self, inputs: Mapping[str, IntArray], node: str, t: int, sample: int) -> IntArray:
        """Membrane before reset of one neuron node, at one step of one sample of `inputs`."""
        ...


@runtime_checkable
class ReportsSize(Protocol):
    """An executable that knows what its target will hold, before anything is built there."""

    @property
    def size(self) -> object:
        """Whose `str` says it: neurons, synapses, steps of delay."""
        ...


@runtime_checkable
class ReportsPaths(Protocol):
    """An executable that chose how to compute each node, and says so once it has run."""

    @property
    def report(self) -> str:
        """A line or a few, for people."""
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
