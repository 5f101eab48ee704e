"""`.npy` and `.npz` files of images; the `.npy` is mapped, not loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lapilli.deploy.data.archives import mapped, read_archive, read_numbers, require_numbers
from lapilli.deploy.data.pictures import ImageError
from lapilli.deploy.data.samples import Found, Rows


def archive(path: Path, classes: Sequence[str]) -> Found:
    """Take the images of an `.npz`, which says by its headers what it becomes in memory."""
    pixels, labels = read_archive(path, classes)
    return Found(
        format="npz",
        samples=Rows(pixels, str(path), pixels.shape[1:]),
        labels=labels,
        classes=tuple(classes),
        final=pixels.ndim == 5,
    )


def single_array(path: Path) -> Found:
    """Map a `.npy` of uint8 (N, C, H, W), (N, H, W), or (N, T, C, H, W); it has no labels.

    Raises:
        ImageError: another file, or another array.
    """
    array = _mapped(path)
    if array.dtype != np.uint8 or array.ndim not in (3, 4, 5) or 0 in array.shape:
        raise ImageError(
            f"{path}: holds {array.dtype} {array.shape}, not uint8 (N, C, H, W), or "
            "(N, T, C, H, W) with time"
        )
    shape = array.shape[1:] if array.ndim > 3 else (1, *array.shape[1:])
    return Found(format="npy", samples=Rows(array, str(path), shape), final=array.ndim == 5)


def numbers(path: Path, classes: Sequence[str], names: Sequence[str] = ()) -> Found:
    """Take inputs that are no images, of an `.npz` or `.npy`, as they are.

    Of several inputs, by `names`, an `.npz` alone holds all.

    Raises:
        ImageError: another file, or an array of something else than real numbers.
    """
    if path.suffix == ".npz":
        array, labels = read_numbers(path, classes, names)
    elif names:
        raise ImageError(f"{path}: give several inputs in an .npz of {', '.join(names)}")
    elif path.suffix == ".npy":
        array, labels = _mapped(path), None
        require_numbers(path, "inputs", array.shape, array.dtype)
    else:
        raise ImageError(
            f"{path}: the model takes no images; give its inputs in an .npz of 'inputs' (N, ...), "
            "in an .npy, or by FILE.py:NAME (docs/data.md)"
        )
    return Found(
        format=path.suffix[1:],
        samples=Rows(array, str(path), array.shape[1:]),
        labels=labels,
        classes=tuple(classes),
        final=True,
    )


def _mapped(path: Path) -> npt.NDArray[Any]:
    try:
        return mapped(path)
    except (OSError, EOFError, ValueError) as error:
        raise ImageError(f"{path}: no array of NumPy's that can be read ({error})") from error
