"""Portable C under every compiler that is here: python -m lapilli.deploy.surveys.c_check.

Every build compiles without a warning, and both ways to call agree with the reference value for
value: on the conformance suite, on random graphs, and on every family's small layout.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, product

from lapilli.ir.errors import LapilliError, MismatchError
from lapilli.ir.graph import Graph
from lapilli.ir.recording import Recording
from lapilli.ir.tensor import IntArray
from lapilli.simulators.c.simulator import Compiled, PortableC
from lapilli.simulators.conformance import CASES, Case, check
from lapilli.simulators.conformance.random_graphs import random_case

STRICT = ("-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror")
SANITIZED = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
BUILDS: tuple[tuple[str, ...], ...] = (("-O2",), ("-O0",), SANITIZED)
COMPILERS = ("gcc", "clang")
_STEPPING = "lapilli.deploy.surveys.c_check:stepping"


@dataclass(frozen=True, slots=True)
class BothWays:
    """Compiles once; runs are a whole sample and one step per call, in turn."""

    compiler: str = ""
    options: tuple[str, ...] = (*STRICT, "-O2")
    name: str = "c"

    def compile(self, graph: Graph) -> InTurn:
        """As `PortableC`."""
        simulator = PortableC(compiler=self.compiler, options=self.options)
        return InTurn(simulator.compile(graph))


@dataclass(slots=True)
class InTurn:
    """What is compiled, and how often it ran."""

    compiled: Compiled
    runs: int = 0

    def run(self, inputs: Mapping[str, IntArray]) -> Recording:
        """The first run is a whole sample, the second one step per call."""
        self.runs += 1
        step = self.runs % 2 == 0
        return replace(self.compiled, step=step, owner=self.compiled).run(inputs)


def stepping() -> PortableC:
    """The simulator that takes one step per call."""
    return PortableC("c-step", step=True)


def _rows(graphs: int, first: int, words: Sequence[str]) -> Iterator[str]:
    from lapilli.model.trial import SMALL

    installed = [c for c in COMPILERS if shutil.which(c)]
    yield from (f"{c}: is not installed" for c in COMPILERS if c not in installed)
    for compiler, build in product(installed, BUILDS):
        told = f"{compiler} {' '.join(build)}"
        if _asked(told, words):
            # The usual build takes all of them, the others a tenth each.
            usual = (compiler, build) == (installed[0], BUILDS[0])
            seeds = range(first, first + (graphs if usual else graphs // 10))
            cases = chain(CASES, map(random_case, seeds))
            yield _checked(told, BothWays(compiler, (*STRICT, *build)), cases)
    for name in SMALL:
        if _asked(name, words):
            yield _family(name)


def _asked(name: str, words: Sequence[str]) -> bool:
    return not words or any(word in name for word in words)


def _checked(told: str, simulator: BothWays, cases: Iterable[Case]) -> str:
    start, values, graphs = time.perf_counter(), 0, 0
    for case in cases:
        values += check(simulator, case)
        graphs += 1
    seconds = time.perf_counter() - start
    return f"{told}: {graphs} graphs, {values:,} values equal ({seconds:.0f} s)"


def _family(name: str) -> str:
    from lapilli.deploy.surveys.coverage import examine

    row = examine(name, ("c", _STEPPING))
    different = [c.mismatches for c in row.comparisons]
    if row.quantized is None or any(different):
        raise MismatchError(f"{name}: {row.refused or different}")
    compared = sum(c.compared for c in row.comparisons)
    return f"{name}: {compared:,} spikes and logits of PyTorch's equal, both ways"


def main() -> None:
    """Print a row for each build and family; status 1 at the first difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*", help="of the rows that are asked for; else all")
    parser.add_argument("--graphs", type=int, default=1000, help="random graphs of the first build")
    parser.add_argument("--first", type=int, default=0, help="seed of the first of them")
    given = parser.parse_args()
    try:
        for row in _rows(given.graphs, given.first, given.words):
            print(row, flush=True)
    except LapilliError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
