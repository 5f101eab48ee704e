"""What a large recording keeps: currents as narrow as they are, and no membranes.

Membranes take more than half of a recording, and are a function of the currents. They are dropped
only after the neurons, asked again, made the same from the currents that are kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lapilli.simulators.fast.neurons import Rule
from lapilli.simulators.fast.work import Work

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Remade:
    """Membranes that are made again when they are asked for, a sample at a time.

    Attributes:
        rule: of the neurons.
        currents: (T, B, *shape).
        work: memory and threads.
    """

    rule: Rule
    currents: Array
    work: Work

    def sample(self, index: int) -> Array:
        """Return the membranes (T, *shape) of one sample."""
        x = self.currents[:, index]
        made = self.rule.fire(x, len(x), self.work, keeps=True).membranes
        if made is None:
            raise TypeError("neurons that were asked for membranes gave none")
        return made

    def astype(self, dtype: npt.DTypeLike) -> Array:
        """Return all of them, (T, B, *shape)."""
        whole = np.empty(self.currents.shape, dtype)
        for index in range(len(self.currents[0])):
            whole[:, index] = self.sample(index)
        return whole


def remade(rule: Rule, currents: Array, membranes: Array, work: Work) -> Remade | None:
    """Return what stands for these membranes (T, B, *shape); None if anything differs."""
    made = Remade(rule, currents, work)
    batch = membranes.shape[1]
    alike = all(np.array_equal(made.sample(i), membranes[:, i]) for i in range(batch))
    return made if alike else None


def narrowed(x: Array) -> Array:
    """Copy an array into 16 bits, if all that it holds fits."""
    limits = np.iinfo(np.int16)
    fits = x.itemsize > 2 and x.size and limits.min <= x.min() and x.max() <= limits.max
    return x.astype(np.int16 if fits else x.dtype)
