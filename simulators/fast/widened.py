"""Recorded arrays, kept narrow and shown as int64."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lapilli.ir.tensor import IntArray
from lapilli.simulators.fast.remade import Remade


@dataclass(frozen=True, slots=True, eq=False)
class Widened(Mapping[str, IntArray]):
    """A mapping whose arrays become int64 when they are asked for, one at a time.

    Attributes:
        narrow: the arrays in the types in which they are kept, (T, B, *shape) each, or what makes
            them again.
    """

    narrow: Mapping[str, npt.NDArray[Any] | Remade]

    def __getitem__(self, name: str) -> IntArray:
        """An int64 copy."""
        return self.narrow[name].astype(np.int64)

    def __iter__(self) -> Iterator[str]:
        """The names, in the order of the graph."""
        return iter(self.narrow)

    def __len__(self) -> int:
        """How many there are."""
        return len(self.narrow)
