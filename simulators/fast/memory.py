"""Memory that is kept: fresh pages for every array cost as much as computing what goes there."""

from __future__ import annotations

import math
import sys
import threading
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Buffers = list[npt.NDArray[np.uint8]]


def _references(buffers: Buffers, i: int) -> int:
    return sys.getrefcount(buffers[i])


def _bytes(buffer: npt.NDArray[np.uint8]) -> int:
    return buffer.nbytes


_UNUSED = _references([np.empty(0, np.uint8)], 0)


@dataclass(slots=True, eq=False)
class Memory:
    """Buffers that are given out again once no array looks at them any more."""

    _buffers: Buffers = field(default_factory=list)  # the smallest first
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """An array of arbitrary content, in the smallest unused buffer that holds it."""
        kind = np.dtype(dtype)
        size = kind.itemsize * math.prod(shape)
        with self._lock:
            first = bisect_left(self._buffers, size, key=_bytes)
            for i in range(first, len(self._buffers)):
                if _references(self._buffers, i) == _UNUSED:
                    break
            else:
                i = first
                self._buffers.insert(i, np.empty(size, np.uint8))
            return self._buffers[i][:size].view(kind).reshape(shape)

    @property
    def held(self) -> int:
        """Bytes of all buffers."""
        return sum(buffer.nbytes for buffer in self._buffers)

    def forget(self) -> None:
        """Give back every buffer; arrays that look at one keep it alive themselves."""
        with self._lock:
            self._buffers.clear()
