"""Memory that is kept: fresh pages for every array cost as much as computing what goes there."""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Buffers = list[npt.NDArray[np.uint8]]


def _references(buffers: Buffers, i: int) -> int:
    return sys.getrefcount(buffers[i])


_UNUSED = _references([np.empty(0, np.uint8)], 0)


@dataclass(slots=True, eq=False)
class Memory:
    """Buffers that are given out again once no array looks at them any more."""

    _buffers: Buffers = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """An array of arbitrary content, in the smallest unused buffer that holds it."""
        kind = np.dtype(dtype)
        size = kind.itemsize * int(np.prod(shape, dtype=np.int64))
        with self._lock:
            unused = [i for i in range(len(self._buffers))
                      if self._buffers[i].nbytes >= size
                      and _references(self._buffers, i) == _UNUSED]  # fmt: skip
            if unused:
                i = min(unused, key=lambda i: self._buffers[i].nbytes)
            else:
                i = len(self._buffers)
                self._buffers.append(np.empty(size, np.uint8))
            return self._buffers[i][:size].view(kind).reshape(shape)

    @property
    def held(self) -> int:
        """Bytes of all buffers."""
        return sum(buffer.nbytes for buffer in self._buffers)

    def forget(self) -> None:
        """Give back every buffer; arrays that look at one keep it alive themselves."""
        with self._lock:
            self._buffers.clear()
