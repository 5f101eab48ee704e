"""Random graphs through every simulator: python -m lapilli.deploy.surveys.random_graphs [NAME...].

A simulator takes a graph or declines it; what it takes must agree with the reference value
for value. Each is given seeds until it has taken enough.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from lapilli.deploy.comparison.targets import NAMES, target
from lapilli.ir.errors import MismatchError, SimulatorUnavailableError, UnsupportedError
from lapilli.simulators.conformance import check
from lapilli.simulators.conformance.random_graphs import random_case

ENOUGH, MOST_TRIED = 1000, 8
SLOW = {"lava": 50, "lava-stock": 10, "nengo-loihi": 50}  # a process for each graph, twice


@dataclass(frozen=True, slots=True)
class SimulatorRow:
    """What one simulator did.

    Attributes:
        tried: graphs; exact: those that it took; values: that were compared in them.
        seconds: of all processes together.
    """

    name: str
    tried: int
    exact: int
    values: int
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.name:14} {self.tried:6} graphs: {self.exact} exact, {self.tried - self.exact} "
            f"declined, 0 different ({self.values:,} values, {self.seconds:.0f} s)"
        )


def survey(name: str, enough: int = ENOUGH, processes: int = 1, first: int = 0) -> SimulatorRow:
    """Give a simulator random graphs until it has taken `enough`, or declined too many.

    Raises:
        MismatchError: the seed, and the first value that differs.
        SimulatorUnavailableError: its package is not installed.
    """
    tried = exact = values = 0
    start = time.perf_counter()
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        while exact < enough and tried < MOST_TRIED * enough:
            seeds = range(first + tried, first + tried + min(100, enough))
            for compared in pool.map(_compared, [name] * len(seeds), seeds):
                tried += 1
                exact += compared is not None
                values += compared or 0
    return SimulatorRow(name, tried, exact, values, time.perf_counter() - start)


def _compared(name: str, seed: int) -> int | None:
    """How many values of one graph agree; None if the simulator declines it."""
    try:
        return check(target(name), random_case(seed))
    except UnsupportedError:
        return None


def _rows(names: list[str], enough: int, processes: int) -> Iterator[str]:
    for name in names:
        try:
            yield str(survey(name, min(enough, SLOW.get(name, enough)), processes))
        except SimulatorUnavailableError as error:
            yield f"{name:14} not here: {error}"


def main() -> None:
    """Print a row for each simulator; status 1 at the first difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=[n for n in NAMES if n != "reference"])
    parser.add_argument("--enough", type=int, default=ENOUGH, help="graphs that each must take")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        for row in _rows(given.names, given.enough, given.processes):
            print(row, flush=True)
    except MismatchError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
