"""Read PyTorch's pickles without running anything that they name.

torch's own reader builds tensors and refuses every class and function that it does not know. What
people store beside their weights is added here: command-line arguments, and NumPy's numbers and
arrays, which are rebuilt by the four stand-ins below, so that no function of NumPy is called by a
file either.
"""

from __future__ import annotations

import argparse
import math
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from lapilli.ir.errors import CheckpointError

_PLAIN_DTYPE = re.compile(r"b1|[iu][1248]|f[248]|c(8|16)")


class _DType:
    """Stands in for `numpy.dtype`: the name of a plain number, and its byte order."""

    def __init__(self, name: object, *_: object) -> None:
        if not isinstance(name, str) or not _PLAIN_DTYPE.fullmatch(name):
            raise pickle.UnpicklingError(f"an array of dtype {name!r}")
        self.name, self.order = name, "="

    def __setstate__(self, state: tuple[object, ...]) -> None:
        self.order = ">" if state[1] == ">" else "<"

    def read(self, data: bytes, shape: tuple[int, ...]) -> npt.NDArray[np.generic]:
        """Make an array of `shape` from its bytes, in this machine's byte order."""
        dtype = np.dtype(self.order + self.name)
        if len(data) != dtype.itemsize * math.prod(shape):
            raise pickle.UnpicklingError("an array whose bytes do not fit its shape")
        return np.frombuffer(data, dtype).astype(dtype.newbyteorder("="))


class _Array:
    """Stands in for `numpy.ndarray`: `value` is there once the file has given its bytes."""

    def __init__(self, *_: object) -> None:
        self.value: npt.NDArray[np.generic] = np.zeros(0)

    def __setstate__(self, state: tuple[int, tuple[int, ...], _DType, bool, bytes]) -> None:
        _, shape, dtype, columns_first, data = state
        flat = dtype.read(data, shape)
        self.value = flat.reshape(shape, order="F" if columns_first else "C")


def _scalar(dtype: _DType, data: bytes) -> object:
    """Stands in for NumPy's maker of scalars: returns a plain number."""
    return dtype.read(data, (1,))[0].item()


def _encode(text: str, encoding: str) -> bytes:
    """Stands in for `codecs.encode`, by which old pickles write bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes written as {encoding!r}")
    return text.encode("latin1")


def _empty() -> bytes:
    """Stands in for `bytes`, by which old pickles write no bytes at all."""
    return b""


_ALLOWED: list[Callable[..., object] | tuple[Callable[..., object], str]] = [
    argparse.Namespace,
    (_DType, "numpy.dtype"),
    (_Array, "numpy.ndarray"),
    (_Array, "numpy.core.multiarray._reconstruct"),
    (_Array, "numpy._core.multiarray._reconstruct"),
    (_scalar, "numpy.core.multiarray.scalar"),
    (_scalar, "numpy._core.multiarray.scalar"),
    (_encode, "_codecs.encode"),
    (_empty, "builtins.bytes"),
]
_FOREIGN_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")


def read_pickle(path: Path) -> object:
    """Read what `torch.save` wrote; arrays are tensors, scalars of NumPy are plain numbers.

    Raises:
        CheckpointError: it asks for code to be run, or is damaged.
    """
    try:
        with torch.serialization.safe_globals(_ALLOWED):
            content = torch.load(path, map_location="cpu", weights_only=True)
        return _with_tensors(content)
    except pickle.UnpicklingError as error:
        named = _FOREIGN_GLOBAL.search(str(error))
        what = f" (the class or function {named[1]})" if named else ""
        raise CheckpointError(
            path,
            f"it asks for code to be run while loading{what}, or is no checkpoint; refused. "
            "Save its state_dict alone, or convert it to .safetensors where you trust it",
        ) from error
    except Exception as error:  # a damaged pickle makes torch raise anything
        raise CheckpointError(path, f"not a PyTorch checkpoint ({error!r})") from error


def _with_tensors(content: object) -> object:
    """Replace arrays in nested dicts by tensors."""
    if isinstance(content, dict):
        return {key: _with_tensors(value) for key, value in content.items()}
    if isinstance(content, _Array):
        return torch.from_numpy(content.value.copy(order="C"))
    return content
