"""Archives of images: `.npz` files whose sizes are read before anything is unpacked."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from lapilli.deploy.data.pictures import ImageError
from lapilli.deploy.data.samples import numbered

_SMALL = 256 << 20  # bytes that any archive may become
_RATIO = 64  # bytes that one byte of a larger archive may become
_EXPECTED = (
    "expected an .npz archive with uint8 'images' (count, C, H, W) and, if known, 'labels' (count,)"
)


def read_archive(
    path: Path, classes: Sequence[str] = ()
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64] | None]:
    """Read images (N, C, H, W), or (N, T, C, H, W) with time, and labels (N,) if it has them.

    Sizes and types are read from headers before any number is.

    Args:
        path: of the archive.
        classes: names of classes, in the order of their numbers, by which labels may be words.

    Raises:
        ImageError: no such archive, or images or labels of another form; says what to save.
    """
    try:
        with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
            pixels = _member(archive, path, "images", words=False)
            labels = _member(archive, path, "labels", words=bool(classes))
    except ImageError:
        raise
    except (
        zipfile.BadZipFile, OSError, EOFError, ValueError, RuntimeError, zlib.error
    ) as error:  # fmt: skip
        raise ImageError(f"{path}: {_EXPECTED} ({error})") from error
    if pixels is None:
        raise ImageError(f"{path}: {_EXPECTED}; it holds no 'images'")
    if pixels.ndim == 3:
        pixels = pixels[:, None]
    return pixels, None if labels is None else _labels(path, labels, len(pixels), classes)


def _member(
    archive: zipfile.ZipFile, path: Path, name: str, *, words: bool
) -> npt.NDArray[Any] | None:
    """Read one array, if its header fits what is expected and the archive's size."""
    try:
        entry = archive.getinfo(f"{name}.npy")
    except KeyError:
        return None
    shape, dtype, size = declared(archive, entry)
    _require_form(path, name, shape, dtype, words=words)
    require_size(path, name, shape, size, entry)
    if size > max(_SMALL, _RATIO * path.stat().st_size):
        raise ImageError(
            f"{path}: {name!r} would take {size / 2**20:,.0f} MiB, more than {_RATIO} times "
            "the file; save them with np.savez, uncompressed"
        )
    with archive.open(entry) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def declared(
    archive: zipfile.ZipFile, entry: zipfile.ZipInfo
) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Read from the header alone: shape and type of an array, and the bytes that it must have.

    Raises:
        ValueError: it is no array.
    """
    with archive.open(entry) as file:
        shape, dtype = _header(file)
        return shape, dtype, file.tell() + math.prod(shape) * dtype.itemsize


def require_size(
    path: Path, name: str, shape: tuple[int, ...], size: int, entry: zipfile.ZipInfo
) -> None:
    """Check that an archive holds as many bytes of an array as its header says.

    Raises:
        ImageError: it does not.
    """
    if size != entry.file_size:
        raise ImageError(f"{path}: {name!r} says {shape}, and holds another number of bytes")


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Read what one array of NumPy's format says of itself.

    Raises:
        ValueError: it is none, or of an unknown version.
    """
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in read:
        raise ValueError(f"version {version} of NumPy's format")
    shape, _, dtype = read[version](file)
    return shape, dtype


def _require_form(
    path: Path, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], *, words: bool
) -> None:
    if name == "images" and (dtype != np.uint8 or len(shape) not in (3, 4, 5) or 0 in shape):
        raise ImageError(
            f"{path}: images are {dtype} {shape}, not uint8 (N, C, H, W), or "
            "(N, T, C, H, W) with time"
        )
    if name == "labels" and len(shape) != 1 and shape[1:] != (1,):
        hint = "; one-hot? then save labels.argmax(axis=1)" if len(shape) == 2 else ""
        raise ImageError(f"{path}: labels are {shape}, not (N,){hint}")
    if name == "labels" and dtype.kind not in ("iuUS" if words else "iu"):
        kind = "words" if dtype.kind in "USO" else str(dtype)
        raise ImageError(f"{path}: labels are {kind}; give the numbers of classes, from 0")


def _labels(
    path: Path, labels: npt.NDArray[Any], count: int, classes: Sequence[str]
) -> npt.NDArray[np.int64]:
    labels = labels.reshape(-1)
    if len(labels) != count:
        raise ImageError(f"{path}: {len(labels)} labels of {count} images; one each is needed")
    if labels.dtype.kind in "US":
        return numbered(str(path), labels.tolist(), classes)[0]
    if np.any(labels < 0) or np.any(labels > np.iinfo(np.int64).max):
        raise ImageError(f"{path}: a label is negative, or huge; classes are numbered from 0")
    return labels.astype(np.int64)
