"""Play values into Lava and record them: rows of memory-mapped .npy files.

Lava counts steps from 1 and runs samples back to back. At Lava step s a node of latency L
shows model step s - 1 - L: modulo T that is the time step, divided by T the round of samples.
Files have the shape (T, samples, ...), and a round fills as many samples as there are lanes.
`Var.get`, Lava's own way to read, sends element by element: a minute for a million values.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lapilli.ir import ops
from lapilli.ir.semantics import wire
from lapilli.ir.tensor import IntArray
from lapilli.simulators.digest import digest

Wires = tuple[ops.Wiring, ...]


@dataclass(frozen=True)
class Trace:
    """One file, seen from a node of the given latency. Opened where it is first used."""

    path: Path
    latency: int
    lanes: int

    @cached_property
    def _rows(self) -> npt.NDArray[Any]:
        rows: npt.NDArray[Any] = np.load(self.path, mmap_mode="r+")
        return rows

    def _place(self, step: int) -> tuple[int, slice] | None:
        T, samples = self._rows.shape[:2]
        model_step = step - 1 - self.latency
        if not 0 <= model_step < T * (samples // self.lanes):
            return None
        start = model_step // T * self.lanes
        return model_step % T, slice(start, start + self.lanes)

    def write(self, value: IntArray, step: int) -> None:
        """Keep the value of Lava step `step`, unless it belongs to no sample."""
        if place := self._place(step):
            self._rows[place] = value

    def read(self, step: int) -> IntArray:
        """The value of Lava step `step`; zeros after the last sample."""
        if place := self._place(step):
            return self._rows[place].astype(np.int64)
        return np.zeros((self.lanes, *self._rows.shape[2:]), np.int64)


@dataclass(frozen=True, slots=True)
class InputTap:
    """What a process does to a value that arrives: record it where asked, then wire it.

    Spikes are recorded by whoever receives them first: Lava's neurons cannot do it.
    """

    wires: Wires = ()
    trace: Trace | None = None

    def take(self, value: IntArray, step: int) -> IntArray:
        """The operand that the op sees."""
        if self.trace:
            self.trace.write(value, step)
        return wired(value, self.wires)


@dataclass(frozen=True, slots=True)
class OutputTap:
    """What a process does to a value on its way into a stock LIF, or into a file.

    Attributes:
        shift: to the left; Lava itself shifts by 6 more.
        whole: records the wired value. digests: records a digest of it for each sample.
    """

    wires: Wires
    shift: int = 0
    whole: Trace | None = None
    digests: Trace | None = None

    def message(self, current: IntArray) -> IntArray:
        """What the neuron wants of a wired value."""
        return current << self.shift

    def record(self, current: IntArray, step: int) -> None:
        """Keep what was asked for of a wired value."""
        if self.whole:
            self.whole.write(current, step)
        if self.digests:
            self.digests.write(np.array([digest(lane) for lane in current], np.int64), step)


def wired(value: IntArray, wires: Wires) -> IntArray:
    """Apply each wiring op in turn; lanes stay in front."""
    for op in wires:
        value = wire(op, value)
    return value
