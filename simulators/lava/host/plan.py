"""The files of a run: inputs to play, blanks to record into, and the page that lists them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lapilli.ir import ops
from lapilli.ir.errors import SimulatorFailedError
from lapilli.ir.graph import Graph
from lapilli.ir.passes.delays import latencies
from lapilli.ir.tensor import IntArray, narrowest_dtype
from lapilli.ir.types import IntRange
from lapilli.simulators.lava.shared import segments
from lapilli.simulators.lava.shared.job import Job, Watch


def resets(graph: Graph) -> dict[str, tuple[int, int]]:
    """When each node with a state starts a sample: (interval, offset) in Lava's steps.

    Lava counts steps from 1, and a node of latency L shows a sample's first step at L + 1.
    A neuron that keeps nothing is reset before every step: the register dv ends at 4095.
    """
    return {
        name: (1, 0) if _forgets(graph, name) else (graph.T, (latency + 1) % graph.T)
        for name, latency in latencies(graph).items()
        if isinstance(graph[name].op, ops.Stateful)
    }


def _forgets(graph: Graph, name: str) -> bool:
    op = graph[name].op
    op = op.neuron if isinstance(op, ops.Membrane) else op
    return isinstance(op, ops.Neuron) and op.dv == op.du == ops.DECAY_ONE


@dataclass(slots=True)
class RunFiles:
    """The files of a run, made one by one. All are shaped (T, lanes * rounds, ...)."""

    graph: Graph
    folder: Path
    lanes: int
    rounds: int
    run_config: str
    own_neurons: bool = False
    latency: Mapping[str, int] = field(init=False)
    inputs: dict[str, str] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.latency = latencies(self.graph)

    def play(self, name: str, given: IntArray) -> None:
        """Write a checked input; the last sample is repeated to fill the last round."""
        missing = self.lanes * self.rounds - given.shape[1]
        padded = np.concatenate([given, np.repeat(given[:, -1:], missing, axis=1)], axis=1)
        self.inputs[name] = f"input-{len(self.inputs)}.npy"
        np.save(
            self.folder / self.inputs[name],
            padded.astype(narrowest_dtype(self.graph.types[name].range)),
        )

    def record_value(self, name: str) -> None:
        """Make the file for a node's value."""
        kind = self.graph.types[name]
        self.values[name] = f"value-{len(self.values)}.npy"
        self._blank(self.values[name], kind.shape, kind.range.lo - 1, kind.range.hi)

    def record_digests(self, name: str) -> None:
        """Make the file for digests of a neuron's input."""
        self.digests[name] = f"digest-{len(self.digests)}.npy"
        self._blank(self.digests[name], (), -1, np.iinfo(np.int64).max)

    def _blank(self, file: str, shape: tuple[int, ...], blank: int, most: int) -> None:
        """A file full of a value that no recording can hold."""
        whole = np.lib.format.open_memmap(
            self.folder / file,
            mode="w+",
            dtype=narrowest_dtype(IntRange(blank, most)),
            shape=(self.graph.T, self.lanes * self.rounds, *shape),
        )
        whole[:] = blank

    def recorded_values(self, t: int | slice = slice(None)) -> dict[str, IntArray]:
        """What a run left of each value, at some of the time steps.

        Raises:
            SimulatorFailedError: a part was never recorded.
        """
        lowest = {name: self.graph.types[name].range.lo for name in self.values}
        return {name: self._read(name, f, t, lowest[name]) for name, f in self.values.items()}

    def recorded_digests(self) -> dict[str, IntArray]:
        """What a run left of the digests, (T, samples) for each neuron.

        Raises:
            SimulatorFailedError: a part was never recorded.
        """
        return {name: self._read(name, f, slice(None), 0) for name, f in self.digests.items()}

    def _read(self, name: str, file: str, t: int | slice, lowest: int) -> IntArray:
        content: IntArray = np.load(self.folder / file, mmap_mode="r")[t].astype(np.int64)
        if content.min() < lowest:
            raise SimulatorFailedError(f"Lava recorded only a part of node {name!r}")
        return content

    def job(self, watch: Watch | None = None) -> Job:
        """The page of JSON that says all this."""
        last = max((self.latency[name] for name in (*self.values, *self.digests)), default=0)
        return Job(
            lanes=self.lanes,
            own_neurons=self.own_neurons,
            run_config=self.run_config,
            steps=watch.step if watch else self.graph.T * self.rounds + last,
            latency=self.latency,
            resets=resets(self.graph),
            inputs=self.inputs,
            values=self.values,
            digests=self.digests,
            watch=watch,
        )


def shared_bytes(graph: Graph, lanes: int) -> int:
    """Shared memory that Lava takes, at most."""
    processes = [n for n in graph.nodes if not isinstance(n.op, ops.Wiring)]
    # Each has channels for its operands, and one to a recorder behind it.
    channels = [name for node in processes for name in (node.name, *node.inputs)]
    messages = [lanes * math.prod(graph.types[name].shape) for name in channels]
    return segments.room(messages, len(processes) + len(graph.recorded))
