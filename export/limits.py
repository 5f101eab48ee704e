"""How much memory the numbers of a file may take: one limit, of files that are read or written.

It is called `memory_limit`, in bytes, everywhere in Python, and `--memory-limit`, in MiB, on the
command line. Eight bytes are counted for each number, whatever its type in the file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

WRITTEN = 1 << 30  # bytes, for a file that is written without a limit of its own
MOST_WEIGHTS = 1 << 26  # of one node or layer; none of the formats has sparse weights
MOST_ELEMENTS = 1 << 28  # of one value at one step: a file cannot ask for more
OPTION = "--memory-limit MIB"  # how messages name it

Progress: TypeAlias = Callable[
    [int, int], None
]  # nodes, or datasets, that are done, and all of them

_NUMBER = 8  # bytes
_NEURON = 8 * _NUMBER  # bytes; a node of neurons has seven fields and a place in its layout
_SMALL = 16 << 20  # bytes that any file may ask for
_RATIO = 64  # bytes that one byte of a file may become
_SPARSE = 256  # the same up to 1 GiB: weights that move values are nearly all zeros, and deflate


def numbers(memory_limit: int | None) -> int:
    """Return how many numbers a file that is written may hold."""
    return (WRITTEN if memory_limit is None else memory_limit) // _NUMBER


def neurons(memory_limit: int | None) -> int:
    """Return how many neurons a file that is written may hold."""
    return (WRITTEN if memory_limit is None else memory_limit) // _NEURON


def taken(numbers: int) -> int:
    """Return the bytes that so many numbers take."""
    return _NUMBER * numbers


def enough(memory: int) -> str:
    """Return the option that lets a file's numbers take so many bytes, as messages name it."""
    return f"--memory-limit {-(-memory // (1 << 20))}"


def justified(size: int) -> int:
    """Return the bytes of memory that a file of this size may ask for unless told otherwise."""
    return max(_SMALL, _RATIO * size, min(_SPARSE * size, WRITTEN))
