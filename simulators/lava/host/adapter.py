"""Lava as a simulator: samples into lanes, one supervised run, recordings out."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lapilli.ir import ops
from lapilli.ir.errors import SimulatorFailedError, UnsupportedError
from lapilli.ir.graph import Graph
from lapilli.ir.passes.delays import balance_delays
from lapilli.ir.recording import Recording
from lapilli.ir.semantics import after_reset, decay
from lapilli.ir.tensor import IntArray
from lapilli.simulators.inputs import check_inputs
from lapilli.simulators.lava.host import supervisor
from lapilli.simulators.lava.host.plan import RunFiles, shared_bytes
from lapilli.simulators.lava.host.supervisor import Limits, Progress
from lapilli.simulators.lava.shared import segments
from lapilli.simulators.lava.shared.job import STATE, Job, Watch, save_job
from lapilli.simulators.lava.shared.legality import unsupported
from lapilli.simulators.lava.shared.run_config import SIMULATED, located


@dataclass(frozen=True, slots=True)
class Lava:
    """Intel's Loihi simulator, one process a primitive; neurons are its own where it has them.

    For networks of nothing but processes that Intel's chip has, too, see `stock.StockLava`.

    Attributes:
        python: interpreter of an environment with lava-nc; found or built if None.
        batch: samples that run side by side; the others follow them without a pause.
        balance: insert the delays that make branches meet. Without, the graph has them.
        own_neurons: run our model of the neuron, the faster one, even where Lava's can be it.
        run_config: what chooses a model for each process, by name: `PACKAGE.MODULE:NAME` of
            Lava's environment, or `FILE.py:NAME`; for hardware see docs/lava.md.
        limits: seconds of silence after which a run counts as hung.
        progress: called with "lava", steps done, steps to do.
    """

    python: Path | None = None
    batch: int = 8
    balance: bool = True
    own_neurons: bool = False
    run_config: str = SIMULATED
    limits: Limits = field(default_factory=Limits)
    progress: Progress | None = None
    name: str = field(default="lava", init=False)

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ValueError(f"batch must be at least 1, got {self.batch}")

    def compile(self, graph: Graph) -> LavaExecutable:
        """Check that everything fits, balance delays, find the environment.

        Raises:
            UnsupportedError: every node that Lava cannot take, with each reason.
            SimulatorUnavailableError: no environment; says what to do.
            InputError: `run_config` is no such name.
        """
        named = located(self.run_config)
        if reasons := unsupported(graph):
            raise UnsupportedError(self.name, reasons)
        run_folder = supervisor.ready(self.python, self.limits, self.progress)
        balanced = balance_delays(graph) if self.balance else graph
        return LavaExecutable(balanced, run_folder, named, self.batch, self.own_neurons)


@dataclass(frozen=True, slots=True)
class LavaExecutable:
    """A balanced graph, to be built in a worker anew for each run.

    Attributes:
        run_folder: starts a worker on a folder of files.
        run_config, batch, own_neurons: see `Lava`.
    """

    graph: Graph
    run_folder: Callable[[Path], supervisor.Done]
    run_config: str
    batch: int
    own_neurons: bool

    def run(self, inputs: Mapping[str, IntArray]) -> Recording:
        """Run samples (T, B, *shape) in `batch` lanes; values are shifted back by latency.

        Records `Graph.recorded`, and digests of what drives each neuron.

        Raises:
            InputError, RangeError: inputs that the graph was not proved for.
            SimulatorFailedError: Lava failed, or hung or died twice.
            SimulatorUnavailableError: the environment is not what it should be.
        """
        samples = check_inputs(self.graph, inputs)
        lanes = min(self.batch, samples)
        rounds = -(-samples // lanes)
        with _folder() as folder:
            files = RunFiles(self.graph, folder, lanes, rounds, self.run_config, self.own_neurons)
            for name in self.graph.inputs:
                files.play(name, inputs[name])
            for name in self.graph.recorded:
                files.record_value(name)
            for name in self.graph.firing:
                files.record_digests(name)
            done = self._run(files.job(), folder)
            return Recording(
                {name: v[:, :samples] for name, v in files.recorded_values().items()},
                current_digests={n: d[:, :samples] for n, d in files.recorded_digests().items()},
                steps=done.steps,
                seconds=done.seconds,
            )

    def membrane(self, inputs: Mapping[str, IntArray], node: str, t: int, sample: int) -> IntArray:
        """The membrane of a neuron before its reset, at one step of one sample.

        Its lane runs again up to there, and Lava is stopped before the step and after it.
        Where the neuron stays silent, this is Lava's own v. Where it fires, Lava has reset v,
        and the rule is applied to Lava's v before the step (zero, if the sample begins there)
        and its u after it; what the reset leaves of that must be Lava's v after the step.

        Returns:
            int64 of the neuron's shape, in state units.

        Raises:
            SimulatorFailedError: Lava failed, or its state breaks its own rule.
        """
        op = self.graph[node].op
        if not isinstance(op, ops.Integrating):
            raise TypeError(f"node {node!r} is no neuron and has no membrane")
        lanes = min(self.batch, check_inputs(self.graph, inputs))
        before_it, lane = divmod(sample, lanes)
        with _folder() as folder:
            files = RunFiles(self.graph, folder, 1, before_it + 1, self.run_config)
            for name in self.graph.inputs:
                files.play(name, inputs[name][:, lane : sample + 1 : lanes])
            files.record_value(node)
            step = files.latency[node] + 1 + before_it * self.graph.T + t
            job = files.job(Watch(node=node, step=step))
            self._run(job, folder)
            before, after = (np.load(folder / STATE.format(step=s)) for s in (step - 1, step))
            spikes = files.recorded_values(t)[node][-1:]
            kept, u, seen = (a.astype(np.int64) for a in (before["v"], after["u"], after["v"]))
            if isinstance(op, ops.GeneralNeuron):  # a process of ours, which shows it
                shown: IntArray = seen[0]
                return shown
            interval, offset = job.resets[node]
            began = step % interval == offset
            membrane: IntArray = decay(kept * (not began), op.dv) + u + op.bias.array
            if np.array_equal(after_reset(op, membrane, spikes), seen):
                own: IntArray = membrane[0]
                return own
            raise SimulatorFailedError(f"Lava's state of {node!r} does not follow its rule")

    def _run(self, job: Job, folder: Path) -> supervisor.Done:
        segments.check_room(shared_bytes(self.graph, job.lanes))
        save_job(job, self.graph, folder)
        return self.run_folder(folder)


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="lapilli-lava-", ignore_cleanup_errors=True) as name:
        yield Path(name)
