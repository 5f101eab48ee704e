"""Many runs of Lava in a row: python -m lapilli.deploy.surveys.soak [--runs N]. Linux only.

Random graphs, in turn as processes for each primitive and as stock processes. Each run is compared
with the reference, and must leave nothing: no process, no shared memory, no file, no descriptor.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lapilli.deploy.comparison.compare import compare_recordings
from lapilli.ir.errors import LapilliError, UnsupportedError
from lapilli.simulators.conformance.random_graphs import random_case
from lapilli.simulators.lava.host import supervisor
from lapilli.simulators.lava.host.adapter import Lava
from lapilli.simulators.lava.host.stock import StockLava
from lapilli.simulators.lava.shared import segments
from lapilli.simulators.reference import Reference

_SIMULATORS = (Lava(batch=2), StockLava(max_neurons=3000))
_SETTLES = 5.0  # seconds in which what was told to end has to be gone


@dataclass(frozen=True, slots=True)
class Soaked:
    """What was run.

    Attributes:
        runs: of each simulator; values: compared, all equal.
        again: runs that were lost once and repeated. seconds: all together.
    """

    runs: dict[str, int]
    values: int
    again: int
    seconds: float

    def __str__(self) -> str:
        each = ", ".join(f"{count} {name}" for name, count in self.runs.items())
        return (
            f"{sum(self.runs.values())} runs ({each}): {self.values:,} values equal the "
            f"reference's, {self.again} started again, nothing left behind ({self.seconds:.0f} s)"
        )


class LeftoverError(LapilliError, RuntimeError):
    """A run left something behind; says what."""


class LeftoverCheck:
    """What there was before a run; its files are to be in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.segments = set(_segments())
        self.descriptors = len(os.listdir("/proc/self/fd"))
        self.threads = set(threading.enumerate())

    def check(self, settles: float = _SETTLES) -> None:
        """Wait for what is just ending.

        Raises:
            LeftoverError: something is still there.
        """
        deadline = time.monotonic() + settles
        while left := tuple(self._left()):
            if time.monotonic() > deadline:
                raise LeftoverError(f"left behind: {', '.join(left)}")
            time.sleep(0.02)

    def _left(self) -> Iterator[str]:
        for cwd in Path("/proc").glob("[0-9]*/cwd"):
            with suppress(OSError):
                if os.readlink(cwd).startswith(f"{self.folder}/"):
                    yield f"process {cwd.parent.name}"
        if new := set(_segments()) - self.segments:
            held = segments.of_processes(int(p.name) for p in Path("/proc").glob("[0-9]*"))
            # Other people's runs have theirs open, or remove them while we look.
            yield from sorted(new - held & set(_segments()))
        yield from map(str, self.folder.iterdir())
        if more := len(os.listdir("/proc/self/fd")) - self.descriptors:
            yield f"{more} open files"
        yield from (t.name for t in threading.enumerate() if t not in self.threads)


def soak(runs: int, progress: Callable[[int], None] = lambda _: None) -> Soaked:
    """Run random graphs on `Lava` and `StockLava` in turn.

    Raises:
        MismatchError: a value that differs, or a neuron that shows nothing.
        SimulatorFailedError: a run was lost twice.
        LeftoverError: a run left something behind.
    """
    done = {simulator.name: 0 for simulator in _SIMULATORS}
    values, seed, start = 0, 0, time.perf_counter()
    repeats = _Repeats()
    logging.getLogger(supervisor.__name__).addHandler(repeats)
    with tempfile.TemporaryDirectory(prefix="lapilli-soak-") as name:
        folder = Path(name).resolve()
        before, tempfile.tempdir = tempfile.tempdir, str(folder)
        try:
            for run in range(runs):
                simulator = _SIMULATORS[run % len(_SIMULATORS)]
                compared = None
                while compared is None:
                    compared = _compared(simulator, seed, folder)
                    seed += 1
                done[simulator.name] += 1
                values += compared
                progress(run + 1)
        finally:
            tempfile.tempdir = before
            logging.getLogger(supervisor.__name__).removeHandler(repeats)
    return Soaked(done, values, repeats.count, time.perf_counter() - start)


def _compared(simulator: Lava | StockLava, seed: int, folder: Path) -> int | None:
    """How many values of one graph agree; None if this simulator declines it."""
    case = random_case(seed)
    try:
        executable = simulator.compile(case.graph)
    except UnsupportedError:
        return None
    want = Reference().compile(case.graph).run(case.inputs)
    watch = LeftoverCheck(folder)
    got = executable.run(case.inputs)
    watch.check()
    comparison = compare_recordings(case.graph, want, got)
    comparison.require()
    return comparison.compared


class _Repeats(logging.Handler):
    """Counts runs that the supervisor repeats."""

    count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += 1


def _segments() -> Iterator[str]:
    return map(str, segments.SHARED_MEMORY.glob("psm_*"))


def main() -> None:
    """Print one line; status 1 at the first difference, hang or leftover."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100)
    given = parser.parse_args()
    try:
        print(soak(given.runs))
    except LapilliError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
