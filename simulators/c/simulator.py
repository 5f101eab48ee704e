"""Our own C, compiled here: shows that the folder of `lapilli export --c` means the graph.

The functions run as they are written, in a process of their own; a second file reads inputs and
writes down what they show.
"""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import tempfile
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lapilli.export.c.functions import functions
from lapilli.export.c.header import header
from lapilli.export.c.sources import Sources, sources, weights
from lapilli.export.c.vectors import is_still
from lapilli.ir.errors import RangeError, SimulatorFailedError, SimulatorUnavailableError
from lapilli.ir.graph import Graph
from lapilli.ir.recording import Recording
from lapilli.ir.tensor import IntArray
from lapilli.simulators.c.recorder import recorder

COMPILERS = ("cc", "gcc", "clang")
NAME = "network"
OPTIONS = ("-std=c99", "-O2")


def compiler() -> str | None:
    """The C compiler that is at hand: $CC, or the first of COMPILERS that is installed."""
    named = os.environ.get("CC")
    for name in (named,) if named else COMPILERS:
        if found := shutil.which(name):
            return found
    return None


@dataclass(frozen=True, slots=True)
class PortableC:
    """The graph as C99, compiled and run on this machine.

    Attributes:
        step: one step per call, instead of the whole sample.
        compiler: a command; empty for the one at hand.
        options: for it.
    """

    name: str = "c"
    step: bool = False
    compiler: str = ""
    options: tuple[str, ...] = OPTIONS

    def compile(self, graph: Graph) -> Compiled:
        """Write, compile.

        Raises:
            UnsupportedError: lists every value that 32 bits do not count.
            SimulatorUnavailableError: no C compiler is installed.
            SimulatorFailedError: it does not take the files.
        """
        made = sources(graph, NAME)
        command = self.compiler or compiler()
        if command is None:
            raise SimulatorUnavailableError(
                f"the c simulator needs a C compiler ({', '.join(COMPILERS)}, or what $CC names): "
                "install gcc or clang"
            )
        folder = Path(tempfile.mkdtemp(prefix="lapilli-c-"))
        compiled = Compiled(graph, made, folder, self.step)
        weakref.finalize(compiled, shutil.rmtree, folder, ignore_errors=True)
        files = {
            f"{NAME}.h": header(made),
            f"{NAME}_weights.h": weights(made),
            f"{NAME}.c": functions(made),
            "record.c": recorder(made),
        }
        for file, text in files.items():
            (folder / file).write_text(text, "ascii")
        _run([command, *self.options, f"-D{made.macro}_WATCH", "record.c", "-o", "run"], folder)
        return compiled


@dataclass(frozen=True, eq=False)
class Compiled:
    """A program; the end of what was compiled removes its folder."""

    graph: Graph
    made: Sources
    folder: Path
    step: bool
    owner: object = None  # what must not end before

    def run(self, inputs: Mapping[str, IntArray]) -> Recording:
        """Run a batch: a whole sample at a time, or one step."""
        plan, T = self.made.plan, self.graph.T
        batch = next(iter(inputs.values())).shape[1]
        given = [self._checked(name, inputs[name]) for name in plan.graph.inputs]
        # As its callers do: what is the same at every step is shown once.
        still = not self.step and all(map(is_still, given))
        lying = [
            x.astype(plan.types[n].name.removesuffix("_t")).reshape(T, batch, -1)
            for n, x in zip(plan.graph.inputs, given, strict=True)
        ]
        data = b"".join(x[:, b].tobytes() for b in range(batch) for x in lying)
        start = time.perf_counter()
        way = "step" if self.step else "still" if still else "sample"
        told = _run([str(self.folder / "run"), way, str(batch)], self.folder, data)
        seconds = time.perf_counter() - start
        return Recording(self._read(told, batch), seconds=seconds)

    def _read(self, told: bytes, batch: int) -> dict[str, IntArray]:
        """Values by name, of what the process has written: sample by sample."""
        plan, T = self.made.plan, self.graph.T
        watched = [s for i, s in enumerate(plan.stages)
                   if i not in plan.outputs and s.node.name in plan.watched]  # fmt: skip
        stages = [*watched, *(plan.stages[i] for i in plan.outputs)]
        steps = 1 if self.step else T
        parts = [
            (f"v{i}", s.type.name.removesuffix("_t"), (steps, math.prod(s.value.shape)))
            for i, s in enumerate(stages)
        ]
        record = np.dtype(parts)
        rounds = T // steps
        if len(told) != batch * rounds * record.itemsize:
            raise SimulatorFailedError(
                f"the compiled network wrote {len(told)} bytes, not "
                f"{batch * rounds * record.itemsize}"
            )
        found = np.frombuffer(told, record).reshape(batch, rounds)
        values: dict[str, IntArray] = {}
        for i, stage in enumerate(stages):
            flat = found[f"v{i}"].astype(np.int64).reshape(batch, T, -1).swapaxes(0, 1)
            values[stage.node.name] = stage.value.of(np.ascontiguousarray(flat))
        return values

    def _checked(self, name: str, given: IntArray) -> IntArray:
        """What the input's type can carry; a conversion would wrap silently."""
        proven = self.graph.types[name].range
        if given.size and (int(given.min()) not in proven or int(given.max()) not in proven):
            raise RangeError(
                name, f"given [{given.min()}, {given.max()}], takes [{proven.lo}, {proven.hi}]"
            )
        return given


def _run(command: list[str], folder: Path, data: bytes = b"") -> bytes:
    """Run a command on data, and return what it writes.

    Raises:
        SimulatorFailedError: it cannot be started, or ends with another status than 0.
    """
    try:
        done = subprocess.run(command, input=data, capture_output=True, cwd=folder, check=False)
    except OSError as error:
        raise SimulatorFailedError(f"{command[0]} cannot be run: {error.strerror}") from error
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise SimulatorFailedError(
            f"{Path(command[0]).name} ended with status {done.returncode}: "
            f"{' | '.join(lines[:5]) or 'it said nothing'}"
        )
    return done.stdout
