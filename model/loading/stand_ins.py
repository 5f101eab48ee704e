"""Stand in for NumPy's makers of arrays where a pickle is read, so that it calls none of them.

It knows nothing of torch: data sets are pickled, too.
"""

from __future__ import annotations

import math
import pickle
import re

import numpy as np
import numpy.typing as npt

_PLAIN_DTYPE = re.compile(r"b1|[iu][1248]|f[248]|c(8|16)")


class DType:
    """Stands in for `numpy.dtype`: the name of a plain number, and its byte order."""

    def __init__(self, name: object, *_: object) -> None:
        if isinstance(name, bytes):  # of Python 2
            name = name.decode("latin1")
        if not isinstance(name, str) or not _PLAIN_DTYPE.fullmatch(name):
            raise pickle.UnpicklingError(f"an array of dtype {name!r}")
        self.name, self.order = name, "="

    def __setstate__(self, state: tuple[object, ...]) -> None:
        self.order = ">" if state[1] in (">", b">") else "<"

    def read(self, data: bytes, shape: tuple[int, ...]) -> npt.NDArray[np.generic]:
        """Make an array of `shape` from its bytes, in this machine's byte order."""
        dtype = np.dtype(self.order + self.name)
        if len(data) != dtype.itemsize * math.prod(shape):
            raise pickle.UnpicklingError("an array whose bytes do not fit its shape")
        return np.frombuffer(data, dtype).astype(dtype.newbyteorder("="))


class Array:
    """Stands in for `numpy.ndarray`: `value` is there once the file has given its bytes."""

    value: npt.NDArray[np.generic] = np.zeros(0)

    def __init__(self, *_: object) -> None:
        """Take whatever NumPy's own is called with."""

    def __setstate__(self, state: tuple[int, tuple[int, ...], DType, bool, bytes]) -> None:
        _, shape, dtype, columns_first, data = state
        flat = dtype.read(data, shape)
        self.value = flat.reshape(shape, order="F" if columns_first else "C")


def scalar(dtype: DType, data: bytes) -> object:
    """Stands in for NumPy's maker of scalars: returns a plain number."""
    return dtype.read(data, (1,))[0].item()


def encode(text: str, encoding: str) -> bytes:
    """Stands in for `codecs.encode`, by which old pickles write bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes written as {encoding!r}")
    return text.encode("latin1")


def empty() -> bytes:
    """Stands in for `bytes`, by which old pickles write no bytes at all."""
    return b""
