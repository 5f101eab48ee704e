"""How kernels are compiled: once for a user, not once for a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
from numba.core import config

from lapilli.simulators.fast.cache import directory, is_writable

F = TypeVar("F", bound=Callable[..., object])
_CACHED = is_writable(directory())


def kernel(function: F) -> F:
    """Compile a function of arrays on its first call; it runs without Python's lock."""
    settings: Any = config
    before = settings.CACHE_DIR  # numba's, for all its users: ours for this function alone
    settings.CACHE_DIR = str(directory())
    try:
        compiled = numba.njit(nogil=True, error_model="numpy", cache=_CACHED)(function)
    finally:
        settings.CACHE_DIR = before
    return cast(F, compiled)


def cached() -> bool:
    """Whether compiled kernels are kept."""
    return _CACHED


def part(function: F) -> F:
    """The same for what is called for every row: its lines become the caller's.

    A call would count references to each of its arrays, which costs more than firing a row.
    """
    return cast(F, numba.njit(error_model="numpy", inline="always")(function))
