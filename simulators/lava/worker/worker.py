"""The Lava side: `python -m lapilli.simulators.lava.worker.worker FOLDER`, started by `supervisor`.

Speaks one JSON object a line on what was its standard output; whatever Lava prints goes to
standard error. Its standard input is a pipe that the host never writes to: when it closes,
the host is gone, and the worker ends with all its processes.
"""

from __future__ import annotations

import ctypes
import errno
import json
import multiprocessing
import os
import platform
import resource
import select
import shutil
import signal
import sys
import threading
import time
from collections.abc import Mapping
from importlib import metadata
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lapilli.ir.errors import InputError
from lapilli.simulators.lava.shared import segments
from lapilli.simulators.lava.worker import run_config

if TYPE_CHECKING:
    from lapilli.simulators.lava.shared.job import Watch

_REPORT_EVERY = 0.3  # seconds
_PR_SET_PDEATHSIG = 1


class _Channel:
    """The line to the host."""

    def __init__(self) -> None:
        sys.stdout.flush()
        self._file = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)

    def say(self, event: str, **content: object) -> None:
        self._file.write(json.dumps({"event": event, **content}) + "\n")
        self._file.flush()


class _Guard(threading.Thread):
    """Ends everything when the host is gone, or when a Lava process dies before its time."""

    def __init__(self, channel: _Channel, folder: Path) -> None:
        super().__init__(daemon=True)
        self.channel, self.folder = channel, folder
        self.running = False
        self.known: set[BaseProcess] = set()

    def meet(self) -> set[BaseProcess]:
        """Lava's processes that live; from now on they have to."""
        living = set(multiprocessing.active_children())
        self.known |= living
        return living

    def run(self) -> None:
        while True:
            readable, _, _ = select.select([0], [], [], 0.25)
            if readable and not os.read(0, 1):
                shutil.rmtree(self.folder, ignore_errors=True)
                self._end()
            known = frozenset(self.known)  # now: whom the main thread adds after we look is no loss
            for process in known - self.meet() if self.running else ():
                sentence = f"one of Lava's processes {_end_of(process)}"
                self.channel.say("error", kind="crash", sentence=sentence)
                self._end()

    def _end(self) -> None:
        segments.unlink(segments.of_processes([os.getpid()]))
        os.killpg(os.getpgrp(), signal.SIGKILL)


def _end_of(process: BaseProcess) -> str:
    """How it ended. What its code raised, Lava keeps beside it."""
    if raised := getattr(process, "exception", None):
        return f"raised {type(raised[0]).__name__}: {raised[0]}"
    code = process.exitcode or 0
    if code >= 0:
        return f"exited with {code}"
    likely = {signal.SIGBUS: f" ({segments.SHARED_MEMORY} full?)", signal.SIGKILL: " (no memory?)"}
    return f"died by signal {-code}{likely.get(signal.Signals(-code), '')}"


def _die_with_parent() -> None:
    """In each forked child: Linux ends it when the worker ends, however that happens."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _raise_file_limit() -> None:
    """Lava keeps about ten files open for each process; the usual limit of 1024 is soon hit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _hello(channel: _Channel) -> bool:
    """Say who is here; whether everything that a run needs can be imported."""
    try:
        import lava.proc.lif.models  # noqa: F401

        from lapilli.ir.version import __version__
        from lapilli.simulators.lava.shared import source
        from lapilli.simulators.lava.worker import lowering  # noqa: F401
    except Exception as error:
        sentence = f"{type(error).__name__}: {error}"
        channel.say("error", kind="unavailable", sentence=sentence)
        return False
    channel.say(
        "hello",
        lapilli=__version__,
        digest=source.digest(source.files()),
        lava=metadata.version("lava-nc"),
        python=platform.python_version(),
    )
    return True


class _Built(NamedTuple):
    """The processes of either lowering, those that fire also by name, and what to do with them."""

    processes: tuple[Any, ...]
    neurons: Mapping[str, Any]
    steps: int
    run_config: str
    watch: Watch | None


def _built(folder: Path) -> _Built:
    from lapilli.simulators.lava.stock import files

    if (folder / files.PAGE).is_file():
        from lapilli.simulators.lava.worker.stock import build

        page = files.load(folder)
        return _Built(build(page, folder), {}, page.steps, page.run_config, None)
    from lapilli.simulators.lava.shared.job import load_job
    from lapilli.simulators.lava.worker.lowering import lower

    job, graph = load_job(folder)
    lowered = lower(graph, job, folder)
    return _Built(lowered.processes, lowered.neurons, job.steps, job.run_config, job.watch)


def _run(folder: Path, channel: _Channel, guard: _Guard) -> None:
    import numpy as np
    from lava.magma.core.run_conditions import RunSteps

    from lapilli.simulators.lava.shared.job import STATE

    processes, neurons, steps, named, watch = _built(folder)
    sys.setrecursionlimit(max(sys.getrecursionlimit(), 20 * len(processes)))
    network: Any = processes[0]
    config = run_config.load(named)
    guard.running = True
    network.create_runtime(config, compile_config={"pypy_channel_size": segments.CHANNEL_SLOTS})
    guard.meet()
    channel.say("ready", processes=len(processes))

    started = time.perf_counter()
    done = chunk = 0
    for stop in (watch.step - 1, watch.step) if watch else (steps,):
        while done < stop:
            began = time.perf_counter()
            count = min(chunk or 1, stop - done)
            network.run(condition=RunSteps(num_steps=count))
            done += count
            chunk = max(1, int(count * _REPORT_EVERY / (time.perf_counter() - began)))
            channel.say("progress", step=done, of=steps)
        if watch:
            neuron = neurons[watch.node]
            np.savez(folder / STATE.format(step=done), u=neuron.u.get(), v=neuron.v.get())
    channel.say("done", steps=done, seconds=time.perf_counter() - started)
    guard.running = False
    network.stop()


def main() -> int:
    """Run the job in the folder that the command line names."""
    folder = Path(sys.argv[1])
    channel = _Channel()
    guard = _Guard(channel, folder)
    guard.start()
    os.register_at_fork(after_in_child=_die_with_parent)
    _raise_file_limit()
    if not _hello(channel):
        return 1
    try:
        _run(folder, channel, guard)
    except InputError as error:
        channel.say("error", kind="input", sentence=str(error))
        return 1
    except Exception as error:
        full = isinstance(error, OSError) and error.errno == errno.ENOSPC
        channel.say(
            "error", kind="full" if full else "failed", sentence=f"{type(error).__name__}: {error}"
        )
        raise
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
