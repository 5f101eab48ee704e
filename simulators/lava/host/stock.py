"""Host: run a stock network, put its spikes back together, add up what is behind them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lapilli.ir.errors import SimulatorFailedError
from lapilli.ir.graph import Graph
from lapilli.ir.recording import Recording
from lapilli.ir.tensor import IntArray
from lapilli.simulators.inputs import check_inputs
from lapilli.simulators.lava.host import supervisor
from lapilli.simulators.lava.host.supervisor import Done, Limits, Progress
from lapilli.simulators.lava.shared import segments
from lapilli.simulators.lava.shared.run_config import SIMULATED, located
from lapilli.simulators.lava.stock import files, mapping
from lapilli.simulators.lava.stock.network import StockNetwork, StockSize
from lapilli.simulators.stock.behind import behind


@dataclass(frozen=True, slots=True)
class StockLava:
    """Networks of nothing but processes of `lava.proc` that Intel's chip has, too.

    Samples run one after the other; every branch waits in the delays of its synapses.

    Attributes:
        max_neurons: refuse a network of more binary neurons.
        python, run_config, limits: see `adapter.Lava`.
        progress: called with "lava", steps done, steps to do.
    """

    max_neurons: int = 100_000
    python: Path | None = None
    run_config: str = SIMULATED
    limits: Limits = field(default_factory=Limits)
    progress: Progress | None = None
    name: str = field(default=mapping.NAME, init=False)

    def compile(self, graph: Graph) -> StockExecutable:
        """Lower the graph to stock processes, not yet built in Lava; find the environment.

        Raises:
            UnsupportedError: every node that has no stock form, with each reason; or more than
                `max_neurons`.
            SimulatorUnavailableError: no environment; says what to do.
            InputError: `run_config` is no such name.
        """
        named = located(self.run_config)
        network = mapping.to_stock(graph, self.max_neurons)
        run_folder = supervisor.ready(self.python, self.limits, self.progress)
        return StockExecutable(graph, network, run_folder, named)


@dataclass(frozen=True, slots=True)
class StockExecutable:
    """A stock network and what runs a folder of files; samples follow one another.

    Attributes:
        graph: the original, whose `recorded` nodes are shown.
        run_config: see `lapilli.simulators.lava.shared.run_config`.
    """

    graph: Graph
    network: StockNetwork
    run_folder: Callable[[Path], Done]
    run_config: str

    @property
    def size(self) -> StockSize:
        """Counted, not built."""
        return self.network.size

    def run(self, inputs: Mapping[str, IntArray]) -> Recording:
        """Run samples (T, B, *shape) one after the other; values are shifted back by latency.

        Raises:
            InputError, RangeError: an input that the graph was not proved for.
            SimulatorFailedError: Lava failed, or hung or died twice.
            SimulatorUnavailableError: the environment is not what it should be.
        """
        check_inputs(self.graph, inputs)
        segments.check_room(shared_bytes(self.network))
        prefix = "lapilli-lava-"
        with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as name:
            folder = Path(name)
            files.save(self.network, inputs, self.run_config, folder)
            done = self.run_folder(folder)
            spikes = _spikes(self.network, folder)
        values = behind(self.network.graph, {**inputs, **spikes}, self.graph.recorded)
        return Recording(values, steps=done.steps, seconds=done.seconds)


def _spikes(network: StockNetwork, folder: Path) -> dict[str, IntArray]:
    """Of each recorded node, (T, B, *shape): its first step shows at Lava step level + 1."""
    seen = {i: np.load(folder / files.SPIKES.format(i))[:, 0] for i in network.watched}
    if any((spikes == files.BLANK).any() for spikes in seen.values()):
        raise SimulatorFailedError("Lava recorded only a part of the spikes")
    T = network.graph.T
    most = max(network.levels[name] for name in network.recorded)
    found = {}
    for name in network.recorded:
        place, shape = network.places[name], network.graph.types[name].shape
        level = network.levels[name]
        steps = slice(level, level + len(next(iter(seen.values()))) - most)
        parts = {i: seen[i][steps] for i in set(place.population.tolist())}
        rows = len(next(iter(parts.values())))
        flat = np.zeros((rows, len(place.position)), np.int64)
        for i, spikes in parts.items():
            here = place.population == i
            flat[:, here] = spikes[:, place.position[here]]
        found[name] = flat.reshape(rows // T, T, *shape).swapaxes(0, 1)
    return found


def shared_bytes(network: StockNetwork) -> int:
    """Shared memory that Lava takes, at most."""
    watched = [network.populations[i].size for i in network.watched]
    messages = [size for axon in network.axons for size in axon.weights.shape]
    processes = len(network.axons) + 2 * len(network.populations) + len(network.graph.inputs)
    return segments.room([*messages, *watched], processes + len(watched))
