"""Start a worker, listen to it, end it: no Lava process outlives a run, however it goes."""

from __future__ import annotations

import json
import logging
import os
import queue
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lapilli.ir.errors import InputError, SimulatorFailedError, SimulatorUnavailableError
from lapilli.ir.version import __version__
from lapilli.simulators.environments import cache
from lapilli.simulators.lava.host.environment import LAVA
from lapilli.simulators.lava.shared import segments, source
from lapilli.simulators.lava.shared.job import LAVA_VERSION

Progress = Callable[[str, int, int], None]
_ATTEMPTS = 2  # Lava hangs now and then: 1 run of 18 in our measurements
_LOG = "worker.log"
_logger = logging.getLogger(__name__)  # unhandled, a warning goes to standard error


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds of silence after which a worker counts as hung.

    Attributes:
        start: until it has said who it is. step: between two reports of a run, building the
            network included. stop: until it has ended, after the last step.
    """

    start: float = 60.0
    step: float = 120.0
    stop: float = 10.0


@dataclass(frozen=True, slots=True)
class Done:
    """A finished run: Lava steps, and the seconds they took."""

    steps: int
    seconds: float


# One thread for each of many processes; and freed arrays stay with their process: handed back
# to the system, each would be cleared anew at every step.
_SPEED = {
    **dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "1"),
    **dict.fromkeys(("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"), str(16 << 20)),
}


@dataclass(frozen=True, slots=True)
class Worker:
    """How to start a worker: its interpreter, the code it runs, and that code's digest."""

    python: Path
    source: Path
    digest: str

    def start(self, folder: Path) -> subprocess.Popen[str]:
        """A process that leads its own session, so that all its children can be found.

        Its temporary files are in `folder`, relative to it: a socket's path must be short.
        """
        kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        with (folder / _LOG).open("w") as log:
            return subprocess.Popen(
                [self.python, "-s", "-m", "lapilli.simulators.lava.worker.worker", str(folder)],
                stdin=subprocess.PIPE,  # never written: its end tells the worker we are gone
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=folder,
                env={**kept, **_SPEED, "PYTHONPATH": str(self.source), "TMPDIR": "."},
                start_new_session=True,
            )


class _WorkerLostError(Exception):
    """The worker hung or died: worth another attempt."""


def ready(python: Path | None, limits: Limits, progress: Progress | None) -> Callable[[Path], Done]:
    """Find Lava's environment and give it our code; return what runs a folder of files there.

    Args:
        python: interpreter of an environment with lava-nc; found if None.
        limits: of every run.
        progress: of every run: called with "lava", steps done, steps to do.

    Raises:
        SimulatorUnavailableError: there is no such environment; says what to do.
    """
    worker = Worker(LAVA.find(python), *source.copy_into(cache()))
    return lambda folder: run(worker, folder, limits, progress)


def run(worker: Worker, folder: Path, limits: Limits, progress: Progress | None = None) -> Done:
    """Run the job in `folder`, once more if the worker hangs or dies, with a warning in the log.

    Raises:
        SimulatorUnavailableError: the interpreter cannot run Lava, or not this one.
        InputError: its run configuration is none, or finds no hardware.
        SimulatorFailedError: it failed, or was lost twice.
    """
    lost = ""
    for attempt in range(_ATTEMPTS):
        if attempt:
            _logger.warning("Lava's worker %s; it is started again", lost)
        try:
            return _attempt(worker, folder, limits, progress)
        except _WorkerLostError as error:
            lost = str(error)
    raise SimulatorFailedError(f"Lava's worker was lost {_ATTEMPTS} times; the last time it {lost}")


def _attempt(worker: Worker, folder: Path, limits: Limits, progress: Progress | None) -> Done:
    try:
        process = worker.start(folder)
    except OSError as error:
        raise SimulatorUnavailableError(f"{worker.python} cannot be started: {error}") from error
    shared: set[str] = set()
    try:
        lines = _WorkerOutput(process, worker.python, folder)
        _check_hello(lines.next("hello", limits.start, "start"), worker)
        lines.next("ready", limits.step, "build the network")
        # Now, because nobody can tell any more once all its processes have died.
        shared = segments.of_processes(segments.session_members(process.pid))
        while (said := lines.next("", limits.step, "run"))["event"] == "progress":
            if progress:
                progress("lava", said["step"], said["of"])
        with suppress(subprocess.TimeoutExpired):  # all is recorded: how it ends is no matter
            process.wait(limits.stop)
        return Done(int(said["steps"]), float(said["seconds"]))
    finally:
        end(process, shared)


def end(process: subprocess.Popen[str], shared: Iterable[str] = ()) -> None:
    """Kill what is left of a worker, its children and their shared memory."""
    members = segments.session_members(process.pid)
    for pid in members:  # stopped, so that nothing new is made while we look
        _signal(pid, signal.SIGSTOP)
    left = segments.of_processes(members)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    for pid in segments.session_members(process.pid):
        _signal(pid, signal.SIGKILL)
    process.wait()
    segments.unlink(left.union(shared))
    for pipe in (process.stdin, process.stdout):
        if pipe:
            pipe.close()


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


class _WorkerOutput:
    """What the worker says, with a limit on its silence."""

    def __init__(self, process: subprocess.Popen[str], python: Path, folder: Path) -> None:
        self.process, self.python, self.folder = process, python, folder
        self.said: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with suppress(ValueError):  # closed under us when the run is over
            for line in self.process.stdout or ():
                self.said.put(line)

    def next(self, event: str, seconds: float, doing: str) -> Mapping[str, Any]:
        """The next object, which must be this event if one is named."""
        deadline = time.monotonic() + seconds
        while True:
            died = self.process.poll() is not None  # before looking: its last words count
            try:
                line = self.said.get(timeout=0.05)
            except queue.Empty:
                if died:
                    raise self._death(doing) from None
                if time.monotonic() > deadline:
                    raise _WorkerLostError(
                        f"said nothing for {seconds:g} s while it should {doing}{self._log()}"
                    ) from None
                continue
            return self._parsed(line, event, doing)

    def _parsed(self, line: str, event: str, doing: str) -> Mapping[str, Any]:
        try:
            said = dict(json.loads(line))
        except (ValueError, TypeError):
            said = {"event": "noise"}
        match said:
            case {"event": "error", "kind": "unavailable", "sentence": sentence}:
                raise SimulatorUnavailableError(
                    f"{self.python} cannot run Lava ({sentence}); "
                    f"it needs lava-nc {LAVA_VERSION}: run `lapilli doctor --fix`"
                )
            case {"event": "error", "kind": "crash", "sentence": sentence}:
                raise _WorkerLostError(f"ended because {sentence}{self._log()}")
            case {"event": "error", "kind": "full", "sentence": sentence}:
                raise SimulatorUnavailableError(
                    f"{segments.SHARED_MEMORY} or the disk filled up while Lava was at work "
                    f"({sentence}): {segments.REMEDY}"
                )
            case {"event": "error", "kind": "input", "sentence": sentence}:
                raise InputError(str(sentence))
            case {"event": "error", "sentence": sentence}:
                raise SimulatorFailedError(f"Lava's worker failed: {sentence}{self._log()}")
            case {"event": "progress" | "done"} if not event:
                return said
            case {"event": name} if name == event:
                return said
        raise SimulatorFailedError(f"Lava's worker said {line[:200]!r} when it should {doing}")

    def _death(self, doing: str) -> Exception:
        code = self.process.returncode
        how = f"was killed by signal {-code}" if code < 0 else f"exited with {code}"
        if doing == "start" and code > 0:  # no Lava code ran yet: another attempt ends the same way
            return SimulatorUnavailableError(
                f"{self.python} cannot run Lava's worker: it {how}{self._log()}"
            )
        return _WorkerLostError(f"{how} while it should {doing}{self._log()}")

    def _log(self) -> str:
        """The last thing on its standard error, on one line."""
        with suppress(OSError):
            text = (self.folder / _LOG).read_text(errors="replace")
            if last := [re.sub(r"\s+", " ", line) for line in text.splitlines() if line.strip()]:
                return f"; its last words: {' | '.join(last[-3:])[-400:]}"
        return ""


def _check_hello(hello: Mapping[str, Any], worker: Worker) -> None:
    lava, version, digest = (str(hello.get(key)) for key in ("lava", "lapilli", "digest"))
    if lava != LAVA_VERSION:
        raise SimulatorUnavailableError(
            f"{worker.python} has lava-nc {lava}; lapilli is proved against {LAVA_VERSION}: "
            "run `lapilli doctor --fix`, and name no other interpreter"
        )
    if (version, digest) != (__version__, worker.digest):
        raise SimulatorUnavailableError(
            f"the worker runs lapilli {version} ({digest[:12]}), the host {__version__} "
            f"({worker.digest[:12]}): remove {worker.source}"
        )
