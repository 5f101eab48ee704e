"""Host: lower the graph, run a worker of nengo-loihi on it, put its spikes back together."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lapilli.ir.errors import SimulatorFailedError, SimulatorUnavailableError
from lapilli.ir.graph import Graph
from lapilli.ir.recording import Recording
from lapilli.ir.tensor import IntArray
from lapilli.simulators.inputs import check_inputs
from lapilli.simulators.nengo_loihi import files, mapping
from lapilli.simulators.nengo_loihi.blocks import Block, divided
from lapilli.simulators.nengo_loihi.environment import NENGO_LOIHI, VERSIONS
from lapilli.simulators.nengo_loihi.network import NAME, LoihiNetwork
from lapilli.simulators.stock.behind import behind

Progress = Callable[[str, int, int], None]
_WORKER = Path(__file__).with_name("worker.py")
_LOG = "worker.log"


@dataclass(frozen=True, slots=True)
class NengoLoihi:
    """The emulator of nengo-loihi, filled with integers: Loihi by neither Intel nor us.

    Samples run one after the other, each from rest.

    Attributes:
        max_neurons: refuse a network of more binary neurons.
        python: interpreter of an environment with nengo-loihi; found if None.
        progress: called with "nengo-loihi", steps done, steps to do.
    """

    max_neurons: int = 200_000
    python: Path | None = None
    progress: Progress | None = None
    name: str = field(default=NAME, init=False)

    def compile(self, graph: Graph) -> LoihiExecutable:
        """Lower the graph to compartments on cores, not yet built; find the environment.

        Raises:
            UnsupportedError: every node that compartments cannot be, with each reason; or more
                than `max_neurons`.
            SimulatorUnavailableError: no environment; says what to do.
        """
        network = mapping.to_compartments(graph, self.max_neurons)
        python = NENGO_LOIHI.find(self.python)
        return LoihiExecutable(graph, network, divided(network), python, self.progress)


@dataclass(frozen=True, slots=True)
class LoihiSize:
    """What a network takes; `str` says it."""

    compartments: int
    relays: int
    synapses: int
    blocks: int
    latency: int

    def __str__(self) -> str:
        return (
            f"{self.compartments:,} compartments ({self.relays:,} repeat spikes) and "
            f"{self.synapses:,} synapses in {self.blocks:,} blocks, latency {self.latency}"
        )


@dataclass(frozen=True, slots=True, eq=False)
class LoihiExecutable:
    """A network in blocks, to be built in a worker anew for each run.

    Attributes:
        graph: the original, whose `recorded` nodes are shown.
        python, progress: see `NengoLoihi`.
    """

    graph: Graph
    network: LoihiNetwork
    blocks: tuple[Block, ...]
    python: Path
    progress: Progress | None

    @property
    def size(self) -> LoihiSize:
        """Counted, not built."""
        return LoihiSize(
            compartments=self.network.count,
            relays=self.network.relays,
            synapses=sum(s.weights.nnz for block in self.blocks for s in block.synapses),
            blocks=len(self.blocks),
            latency=max(self.network.levels.values()),
        )

    def run(self, inputs: Mapping[str, IntArray]) -> Recording:
        """Run samples (T, B, *shape) one after the other; values are shifted back by latency.

        Raises:
            InputError, RangeError: an input that the graph was not proved for.
            SimulatorUnavailableError: the environment is not what it should be.
            SimulatorFailedError: the worker failed; says its last words.
        """
        samples = check_inputs(self.graph, inputs)
        with tempfile.TemporaryDirectory(
            prefix="lapilli-nengo-", ignore_cleanup_errors=True
        ) as name:
            folder = Path(name)
            files.save(self.network, self.blocks, inputs, folder)
            steps = samples * self.network.steps
            seconds = self._work(folder, steps)
            spikes = files.load_spikes(self.network, self.blocks, folder)
        values = behind(self.network.graph, {**inputs, **spikes}, self.graph.recorded)
        return Recording(values, steps=steps, seconds=seconds)

    def _work(self, folder: Path, of: int) -> float:
        """Run the worker to its end; the seconds that its steps took."""
        with (folder / _LOG).open("w") as log:
            try:
                worker = subprocess.Popen(
                    [self.python, "-I", _WORKER, folder], stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE, stderr=log, text=True,
                )  # fmt: skip
            except OSError as error:
                raise SimulatorUnavailableError(
                    f"{self.python} cannot be started: {error}"
                ) from error
            with worker:
                try:
                    told = self._listen(worker.stdout or (), of)
                except BaseException:  # an interrupt, too: the worker must not outlive the run
                    worker.kill()
                    raise
        code = worker.returncode
        if code or "seconds" not in told:
            words = re.sub(r"\s+", " ", (folder / _LOG).read_text(errors="replace")).strip()
            how = f"was killed by signal {-code}" if code < 0 else f"exited with {code}"
            sentence = f"nengo-loihi's worker {how}; its last words: {words[-400:] or 'none'}"
            if "versions" in told:
                raise SimulatorFailedError(sentence)
            remedy = "run `lapilli doctor --fix`, and name no other interpreter"
            raise SimulatorUnavailableError(f"{self.python}: {sentence}; {remedy}")
        return float(told["seconds"])

    def _listen(self, lines: Iterable[str], of: int) -> dict[str, Any]:
        """Follow a worker; what it says beside its steps."""
        told: dict[str, Any] = {}
        for line in lines:
            try:
                said = dict(json.loads(line))
            except (ValueError, TypeError):
                raise SimulatorFailedError(
                    f"nengo-loihi's worker said {line[:200]!r}, which is none of its words"
                ) from None
            if "step" in said:
                if self.progress:
                    self.progress(NAME, int(said["step"]), of)
                continue
            told |= said
            if "versions" in said:
                _check_versions(self.python, said["versions"])
        return told


def _check_versions(python: Path, found: object) -> None:
    if found != VERSIONS:
        raise SimulatorUnavailableError(
            f"{python} has {found}; lapilli is proved against {VERSIONS}: run "
            "`lapilli doctor --fix`, and name no other interpreter"
        )
