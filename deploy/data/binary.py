"""CIFAR's binary version and MNIST's IDX files, as published."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Sequence
from io import BufferedIOBase
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lapilli.deploy.data.pictures import ImageError
from lapilli.deploy.data.samples import Found, Labels, Rows, Sample

_PIXELS = 3 * 32 * 32
_SMALL = 256 << 20  # bytes that any IDX file may become
_PIECE = 1 << 20  # bytes that are unpacked at a time
_RATIO = 64  # bytes that one byte of a larger one may become


def cifar(files: Sequence[Path], classes: int, names: Sequence[str]) -> Found:
    """Map CIFAR's records: a byte for the class (CIFAR-100: coarse, then fine), then the pixels.

    Args:
        files: in their order.
        classes: 10 or 100.
        names: of the classes, if known.

    Raises:
        ImageError: a file that is not whole, or a label beyond the classes.
    """
    head = 1 if classes == 10 else 2
    parts: list[Rows] = []
    labels: list[Labels] = []
    for path in files:
        size = path.stat().st_size
        if size == 0 or size % (head + _PIXELS):
            raise ImageError(
                f"{path}: {size} bytes are no whole number of CIFAR-{classes}'s records of "
                f"{head + _PIXELS}: cut short?"
            )
        records = np.memmap(path, np.uint8, "r").reshape(-1, head + _PIXELS)
        labels.append(records[:, head - 1].astype(np.int64))
        require_below(labels[-1], classes, str(path))
        parts.append(Rows(records[:, head:], str(path), (3, 32, 32)))
    return Found(
        format=f"CIFAR-{classes}, binary",
        samples=Joined(parts),
        labels=np.concatenate(labels),
        classes=tuple(names),
    )


class Joined:
    """Samples of several files in a row."""

    def __init__(self, parts: Sequence[Rows]) -> None:
        self._parts = parts
        self._ends = np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        """Return how many there are in all files."""
        return int(self._ends[-1])

    def _at(self, index: int) -> tuple[Rows, int]:
        which = int(np.searchsorted(self._ends, index, side="right"))
        before = int(self._ends[which - 1]) if which else 0
        return self._parts[which], index - before

    def name(self, index: int) -> str:
        """Return the file, and the number within it."""
        part, own = self._at(index)
        return part.name(own)

    def read(self, index: int) -> Sample:
        """Copy one."""
        part, own = self._at(index)
        return part.read(own)


def require_below(labels: Labels, classes: int, source: str) -> None:
    """Check that every label is one of `classes`.

    Raises:
        ImageError: names the first that is not.
    """
    if (wrong := np.flatnonzero((labels < 0) | (labels >= classes))).size:
        first = int(wrong[0])
        raise ImageError(
            f"{source}: label {labels[first]} of image {first} is none of {classes} classes"
        )


def idx(images: Path) -> Found:
    """Read MNIST's images, and the labels that lie beside them under the published name.

    Raises:
        ImageError: another magic number, or another number of bytes than the header says.
    """
    pixels = _idx(images, dimensions=3)
    beside = images.with_name(images.name.replace("images", "labels").replace("idx3", "idx1"))
    labels = None
    if beside != images and beside.is_file():
        labels = _idx(beside, dimensions=1).astype(np.int64)
        if len(labels) != len(pixels):
            raise ImageError(f"{beside}: {len(labels)} labels of {len(pixels)} images")
    return Found(
        format="IDX",
        samples=Rows(pixels, str(images), (1, *pixels.shape[1:])),
        labels=labels,
    )


def _idx(path: Path, *, dimensions: int) -> npt.NDArray[np.uint8]:
    """Read one file of bytes, whose header says its shape; one that is not packed is mapped."""
    packed = path.suffix == ".gz"
    opened = gzip.open if packed else open
    offset = 4 + 4 * dimensions
    try:
        with opened(path, "rb") as file:
            head = file.read(offset)
            if head[:4] != bytes((0, 0, 8, dimensions)):
                raise ImageError(
                    f"{path}: begins with {head[:4].hex()}, not {8:06x}{dimensions:02x}: no IDX "
                    f"file of bytes in {dimensions} dimensions"
                )
            shape = struct.unpack(f">{dimensions}I", head[4:])
            size = math.prod(shape)
            if size == 0:
                raise ImageError(f"{path}: is empty: {shape}")
            data = _unpacked(file, path, size) if packed else np.memmap(path, np.uint8, "r", offset)
    except ImageError:
        raise
    except (OSError, EOFError, zlib.error, struct.error, ValueError) as error:
        raise ImageError(f"{path}: no IDX file that can be read ({error})") from error
    if len(data) != size:
        raise ImageError(f"{path}: says {shape}, and holds another number of bytes")
    return data.reshape(shape)


def _unpacked(file: BufferedIOBase, path: Path, size: int) -> npt.NDArray[np.uint8]:
    """What is packed, up to one byte more than there should be; memory grows with what is there."""
    if size > max(_SMALL, _RATIO * path.stat().st_size):
        raise ImageError(
            f"{path}: would take {size / 2**20:,.0f} MiB, more than {_RATIO} times the file"
        )
    data = bytearray()
    while len(data) <= size and (more := file.read(min(_PIECE, size + 1 - len(data)))):
        data += more
    return np.frombuffer(data, np.uint8)
