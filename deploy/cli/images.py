"""Where images come from: the built-in digits, `.npz` archives, picture files."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from lapilli.ir import ops
from lapilli.ir.errors import LapilliError
from lapilli.ir.network import Network

DIGITS = "digits"


class ImageError(LapilliError, ValueError):
    """An image file that cannot be read, or does not fit the network."""


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """Bytes (count, C, H, W), and labels (count,) where they are known."""

    pixels: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64] | None = None

    def first(self, count: int | None) -> Images:
        """The first `count`, or all."""
        labels = None if self.labels is None else self.labels[:count]
        return Images(self.pixels[:count], labels)


def training_images(source: str) -> Images:
    """For calibration: the training split of the digits, or an archive of the user's own.

    Raises:
        ImageError: neither.
    """
    return _digits(test=False) if source == DIGITS else _archive(Path(source))


def test_images(source: str) -> Images:
    """For comparison: the test split of the digits, or an archive of the user's own.

    Raises:
        ImageError: neither.
    """
    return _digits(test=True) if source == DIGITS else _archive(Path(source))


def _digits(*, test: bool) -> Images:
    try:
        from lapilli.model.digits import load_digits
    except ImportError as error:
        raise ImageError(
            f"the digits need scikit-learn: pip install 'lapilli[demo]' ({error})"
        ) from error
    split = load_digits()[int(test)]
    return Images(split.images, split.labels)


def _archive(path: Path) -> Images:
    try:
        with np.load(path, allow_pickle=False) as archive:
            pixels = archive["images"]
            labels = archive.get("labels")
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ImageError(
            f"{path}: expected {DIGITS!r}, or an .npz archive with uint8 'images' (count, C, H, W) "
            f"and, if known, 'labels' ({error})"
        ) from error
    if pixels.ndim == 3:
        pixels = pixels[:, None]
    if pixels.dtype != np.uint8 or pixels.ndim not in (4, 5) or not len(pixels):
        raise ImageError(
            f"{path}: images are {pixels.dtype} {pixels.shape}, not uint8 (N, C, H, W), or "
            "(N, T, C, H, W) with time"
        )
    return Images(pixels, None if labels is None else labels.astype(np.int64))


def picture(path: Path, network: Network) -> npt.NDArray[np.uint8]:
    """One picture file as bytes (C, H, W), in the network's size and channels.

    Raises:
        ImageError: no picture, or of another size.
    """
    (name,) = network.graph.inputs
    op = network.graph[name].op
    if not isinstance(op, ops.Input):
        raise TypeError(f"{name} is no input")
    channels, height, width = op.type.shape
    try:
        with Image.open(path) as image:
            converted = image.convert("L" if channels == 1 else "RGB")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise ImageError(f"{path}: not a picture that can be read ({error})") from error
    if converted.size != (width, height):
        raise ImageError(
            f"{path}: is {converted.width} x {converted.height} pixels, the network takes "
            f"{width} x {height}; resize it first"
        )
    array = np.asarray(converted, np.uint8)
    return array[None] if channels == 1 else np.ascontiguousarray(array.transpose(2, 0, 1))


def pictures(paths: Sequence[Path], network: Network) -> npt.NDArray[np.uint8]:
    """Several picture files (count, C, H, W).

    Raises:
        ImageError: see `picture`.
    """
    return np.stack([picture(path, network) for path in paths])
