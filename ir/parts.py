"""Several inputs by name, side by side in the one input of a graph."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lapilli.ir.errors import InputError

Given = Mapping[str, npt.NDArray[Any]] | npt.NDArray[Any]  # by name, or an array with such fields


@dataclass(frozen=True, slots=True, kw_only=True)
class InputPart:
    """One of several inputs; they lie flat, one behind the other, in the graph's input.

    Attributes:
        name: by which it is given.
        layout: of what the module takes, an axis each letter.
        shape: of one step of one sample.
        exponent: a number is what lies in the graph's input, in real units, times 2**exponent; so
            that inputs of any size use all the bits.
    """

    name: str
    layout: str
    shape: tuple[int, ...]
    exponent: int

    @property
    def size(self) -> int:
        """Numbers of one step."""
        return math.prod(self.shape)


def packed(parts: Sequence[InputPart], given: Given) -> npt.NDArray[np.float64]:
    """Put inputs (B, ...), or all (B, T, ...), side by side: (B, F), or (B, T, F).

    Raises:
        InputError: one is missing, left over, or of another shape or number.
    """
    names = given.dtype.names or () if isinstance(given, np.ndarray) else tuple(given)
    wanted = [part.name for part in parts]
    if sorted(names) != sorted(wanted):
        raise InputError(f"expected inputs {', '.join(wanted)}, got {', '.join(names) or 'none'}")
    rows = []
    for part in parts:
        array = np.asarray(given[part.name])
        timed = array.ndim == len(part.shape) + 2
        if array.shape[1 + timed :] != part.shape or array.dtype.kind not in "biuf":
            raise InputError(
                f"input {part.name!r}: expected real numbers of shape {part.shape} each, got "
                f"{array.dtype} {array.shape[1:]}"
            )
        flat = array.reshape(*array.shape[: 1 + timed], part.size)
        rows.append(np.ldexp(flat.astype(np.float64), -part.exponent))
    if len({row.shape[:-1] for row in rows}) > 1:
        raise InputError("inputs differ in their number of samples, or of time steps")
    return np.concatenate(rows, axis=-1)


def as_rows(given: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Put arrays by name into one array with these fields, a sample each row.

    Raises:
        InputError: they are not as many of each.
    """
    arrays = {name: np.asarray(array) for name, array in given.items()}
    counts = {len(array) for array in arrays.values() if array.ndim}
    if len(counts) != 1 or not all(array.ndim for array in arrays.values()):
        raise InputError("inputs differ in their number of samples")
    fields = [(name, array.dtype, array.shape[1:]) for name, array in arrays.items()]
    rows = np.empty(counts.pop(), fields)
    for name, array in arrays.items():
        rows[name] = array
    return rows
