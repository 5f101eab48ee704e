"""`.npy` and `.npz` files of images; the `.npy` is mapped, not loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lapilli.deploy.data.archives import mapped, read_archive
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
    try:
        array = mapped(path)
    except (OSError, EOFError, ValueError) as error:
        raise ImageError(f"{path}: no array of NumPy's that can be read ({error})") from error
    if array.dtype != np.uint8 or array.ndim not in (3, 4, 5) or 0 in array.shape:
        raise ImageError(
            f"{path}: holds {array.dtype} {array.shape}, not uint8 (N, C, H, W), or "
            "(N, T, C, H, W) with time"
        )
    shape = array.shape[1:] if array.ndim > 3 else (1, *array.shape[1:])
    return Found(format="npy", samples=Rows(array, str(path), shape), final=array.ndim == 5)
