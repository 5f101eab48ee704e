"""Random graphs through every simulator: python -m lapilli.deploy.surveys.random_graphs [NAME...].

A simulator takes a graph or declines it; what it takes must agree with the reference value
for value. Each is given seeds until it has taken enough. Of those that it declines, the reasons
are counted. `nir-file` is no simulator: the graph is written as a canonical `.nir` file, read
again, and must give the same answers.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lapilli.deploy.comparison.targets import NAMES, target
from lapilli.ir import ops
from lapilli.ir.errors import MismatchError, SimulatorUnavailableError, UnsupportedError
from lapilli.simulators.conformance import Case, check
from lapilli.simulators.conformance.random_graphs import random_case
from lapilli.simulators.reference import Reference

ENOUGH, MOST_TRIED = 1000, 8
NIR_FILE = "nir-file"
_REASONS = 8  # for which graphs were declined, that are told
SLOW = {"lava": 50, "lava-stock": 10, "nengo-loihi": 50}  # a process for each graph, twice


@dataclass(frozen=True, slots=True)
class SimulatorRow:
    """What one simulator did.

    Attributes:
        tried: graphs; exact: those that it took; values: that were compared in them.
        general: of those, that have a general neuron.
        seconds: of all processes together.
        declined: first reasons, without the node and what follows a semicolon, and how often.
    """

    name: str
    tried: int
    exact: int
    general: int
    values: int
    seconds: float
    declined: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        declined = self.tried - self.exact
        told = (
            f"{self.name:14} {self.tried:6} graphs: {self.exact} exact ({self.general} with "
            f"general neurons), {declined} declined, 0 different ({self.values:,} values, "
            f"{self.seconds:.0f} s)"
        )
        return "\n".join([told, *(f"{n:21} {why}" for why, n in self.declined.items())])


def survey(name: str, enough: int = ENOUGH, processes: int = 1, first: int = 0) -> SimulatorRow:
    """Give a simulator random graphs until it has taken `enough`, or declined too many.

    Raises:
        MismatchError: the seed, and the first value that differs.
        SimulatorUnavailableError: its package is not installed.
    """
    tried = exact = general = values = 0
    declined: Counter[str] = Counter()
    start = time.perf_counter()
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        while exact < enough and tried < MOST_TRIED * enough:
            seeds = range(first + tried, first + tried + min(100, enough))
            for found in pool.map(_compared, [name] * len(seeds), seeds):
                tried += 1
                if found.declined:
                    declined[found.declined] += 1
                    continue
                exact, values = exact + 1, values + found.values
                general += found.general
    seconds = time.perf_counter() - start
    whys = dict(declined.most_common(_REASONS))
    return SimulatorRow(name, tried, exact, general, values, seconds, whys)


@dataclass(frozen=True, slots=True)
class _Found:
    """Of one graph: how many values agree, or why it was declined."""

    values: int = 0
    general: bool = False
    declined: str = ""


def _compared(name: str, seed: int) -> _Found:
    case = random_case(seed)
    general = any(isinstance(node.op, ops.GeneralNeuron) for node in case.graph.nodes)
    try:
        values = _read_back(case) if name == NIR_FILE else check(target(name), case)
    except UnsupportedError as error:
        return _Found(declined=error.reasons[0].reason.split(";")[0])
    return _Found(values, general)


def _read_back(case: Case) -> int:
    """Write a graph as a canonical `.nir` file, read that, and compare the answers of both.

    Raises:
        UnsupportedError: NIR cannot say it.
        FormatError: what was written is not read.
        MismatchError: an answer differs.
    """
    import nir

    from lapilli.export.nir.read.importer import network_from_nir
    from lapilli.export.nir.read.metadata import Stated
    from lapilli.export.nir.write.writer import to_nir  # needs nir

    graph, written = case.graph, to_nir(case.graph)
    (entry,) = graph.inputs
    bounds = graph.types[entry].range
    with tempfile.TemporaryDirectory() as folder:
        nir.write(Path(folder) / "x.nir", written)
        stated = Stated(input_range=(bounds.lo, bounds.hi))
        network = network_from_nir(Path(folder) / "x.nir", stated)
    back, unit = network.graph, network.logit_scale  # of weights that are all even, say, 2
    want = Reference().compile(graph).run(case.inputs).values[graph.outputs[0]]
    (read,) = back.inputs
    given = case.inputs[entry].reshape(*want.shape[:2], *back.types[read].shape)
    got = Reference().compile(back).run({read: given}).values[back.outputs[0]]
    got, want = got * unit.numerator, want * unit.denominator
    if got.size != want.size or not np.array_equal(got.reshape(want.shape), want):
        raise MismatchError(f"{case}: read back from a .nir file, it answers otherwise")
    return int(want.size)


def _rows(names: list[str], enough: int | None, processes: int) -> Iterator[str]:
    for name in names:
        try:
            yield str(survey(name, enough or SLOW.get(name, ENOUGH), processes))
        except SimulatorUnavailableError as error:
            yield f"{name:14} not here: {error}"


def main() -> None:
    """Print a row for each simulator; status 1 at the first difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    everything = [*(n for n in NAMES if n != "reference"), NIR_FILE]
    parser.add_argument("names", nargs="*", default=everything)
    counts = ", ".join(f"{n} of {name}" for name, n in SLOW.items())
    told = f"graphs that each must take; {ENOUGH} by default, {counts}"
    parser.add_argument("--enough", type=int, help=told)
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
