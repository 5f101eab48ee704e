"""CIFAR's Python version: pickles, read without calling anything that they name."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lapilli.deploy.data.binary import Joined, require_below
from lapilli.deploy.data.pictures import ImageError
from lapilli.deploy.data.samples import Found, Labels, Rows
from lapilli.model.loading.stand_ins import Array, DType, empty, encode, scalar

_STAND_INS: dict[tuple[str, str], Callable[..., object]] = {
    ("numpy", "dtype"): DType,
    ("numpy", "ndarray"): Array,
    ("numpy.core.multiarray", "_reconstruct"): Array,
    ("numpy._core.multiarray", "_reconstruct"): Array,
    ("numpy.core.multiarray", "scalar"): scalar,
    ("numpy._core.multiarray", "scalar"): scalar,
    ("_codecs", "encode"): encode,
    ("builtins", "bytes"): empty,
    ("__builtin__", "bytes"): empty,
}


class _Reader(pickle.Unpickler):
    """Knows plain containers and arrays."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in for a maker of arrays.

        Raises:
            UnpicklingError: anything else is named.
        """
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name} to be run")
        return _STAND_INS[module, name]


def pickled(path: Path) -> dict[str, Any]:
    """Read a pickled dict of plain values and arrays; its keys become text.

    Raises:
        ImageError: it names anything else, which may be code; or it is damaged.
    """
    try:
        with open(path, "rb") as file:
            content = _Reader(file, encoding="bytes").load()
    except Exception as error:  # a damaged pickle makes the reader raise anything
        raise ImageError(
            f"{path}: refused as a pickle of CIFAR's: {str(error) or 'damaged'}"
        ) from error
    if not isinstance(content, dict):
        raise ImageError(f"{path}: holds no dictionary, as CIFAR's pickles do")
    return {k.decode("latin1") if isinstance(k, bytes) else str(k): v for k, v in content.items()}


def cifar_pickles(files: Sequence[Path], classes: int, names: Sequence[str]) -> Found:
    """Take 'data' (N, 3072) and 'labels', or 'fine_labels', of each file.

    Raises:
        ImageError: one lacks them, in this form; or a label is beyond the classes.
    """
    parts: list[Rows] = []
    labels: list[Labels] = []
    for path in files:
        content = pickled(path)
        key = "labels" if classes == 10 else "fine_labels"
        data, given = content.get("data"), content.get(key)
        pixels: npt.NDArray[Any] = data.value if isinstance(data, Array) else np.zeros(0)
        if pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape[1] != 3072:
            raise ImageError(f"{path}: lacks 'data' of uint8 (N, 3072)")
        if (
            not isinstance(given, list)
            or len(given) != len(pixels)
            or not all(isinstance(v, int) and abs(v) < 1 << 31 for v in given)
        ):
            raise ImageError(f"{path}: lacks {key!r}, a number for each of {len(pixels)} images")
        labels.append(np.array(given, np.int64))
        require_below(labels[-1], classes, str(path))
        parts.append(Rows(pixels.astype(np.uint8, copy=False), str(path), (3, 32, 32)))
    return Found(
        format=f"CIFAR-{classes}, pickled",
        samples=Joined(parts),
        labels=np.concatenate(labels),
        classes=tuple(names),
    )


def names_of(path: Path, key: str) -> tuple[str, ...]:
    """Read names of classes from CIFAR's `batches.meta`, or `meta`; none if it is not there."""
    if not path.is_file():
        return ()
    given = pickled(path).get(key, [])
    return tuple(v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in given)
