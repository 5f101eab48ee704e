"""Archives of images: `.npz` files whose sizes are read before anything is unpacked."""

from __future__ import annotations

import math
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from lapilli.deploy.cli.files import DIGITS
from lapilli.deploy.cli.pictures import ImageError

_SMALL = 256 << 20  # bytes that any archive may become
_RATIO = 64  # bytes that one byte of a larger archive may become
_EXPECTED = (
    f"expected {DIGITS!r}, or an .npz archive with uint8 'images' (count, C, H, W) "
    "and, if known, 'labels' (count,)"
)


def read_archive(
    path: Path,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64] | None]:
    """Read images (N, C, H, W), or (N, T, C, H, W) with time, and labels (N,) if it has them.

    Sizes and types are read from headers before any number is.

    Raises:
        ImageError: no such archive, or images or labels of another form; says what to save.
    """
    try:
        with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
            pixels = _member(archive, path, "images")
            labels = _member(archive, path, "labels")
    except ImageError:
        raise
    except zipfile.BadZipFile as error:
        raise ImageError(f"{path}: {_EXPECTED}{_of_numpy(path)} ({error})") from error
    except (OSError, EOFError, ValueError, RuntimeError, zlib.error) as error:
        raise ImageError(f"{path}: {_EXPECTED} ({error})") from error
    if pixels is None:
        raise ImageError(f"{path}: {_EXPECTED}; it holds no 'images'")
    if pixels.ndim == 3:
        pixels = pixels[:, None]
    return pixels, None if labels is None else _labels(path, labels, len(pixels))


def _of_numpy(path: Path) -> str:
    """Return what to do with a file that is one array, not an archive of them."""
    with open(path, "rb") as file:
        single = file.read(6) == b"\x93NUMPY"
    return "; this is one array: np.savez('images.npz', images=array)" if single else ""


def _member(archive: zipfile.ZipFile, path: Path, name: str) -> npt.NDArray[Any] | None:
    """Read one array, if its header fits what is expected and the archive's size."""
    try:
        entry = archive.getinfo(f"{name}.npy")
    except KeyError:
        return None
    with archive.open(entry) as file:
        shape, dtype = _header(file)
        start = file.tell()
        _require_form(path, name, shape, dtype)
        size = start + math.prod(shape) * dtype.itemsize
        if size != entry.file_size:
            raise ImageError(f"{path}: {name!r} says {shape}, and holds another number of bytes")
        if size > max(_SMALL, _RATIO * path.stat().st_size):
            raise ImageError(
                f"{path}: {name!r} would take {size / 2**20:,.0f} MiB, more than {_RATIO} times "
                "the file; save them with np.savez, uncompressed"
            )
        file.seek(0)
        return np.lib.format.read_array(file, allow_pickle=False)


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in read:
        raise ValueError(f"version {version} of NumPy's format")
    shape, _, dtype = read[version](file)
    return shape, dtype


def _require_form(path: Path, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if name == "images" and (dtype != np.uint8 or len(shape) not in (3, 4, 5) or 0 in shape):
        raise ImageError(
            f"{path}: images are {dtype} {shape}, not uint8 (N, C, H, W), or "
            "(N, T, C, H, W) with time"
        )
    if name == "labels" and len(shape) != 1 and shape[1:] != (1,):
        hint = "; one-hot? then save labels.argmax(axis=1)" if len(shape) == 2 else ""
        raise ImageError(f"{path}: labels are {shape}, not (N,){hint}")
    if name == "labels" and dtype.kind not in "iu":
        kind = "words" if dtype.kind in "USO" else str(dtype)
        raise ImageError(f"{path}: labels are {kind}; give the numbers of classes, from 0")


def _labels(path: Path, labels: npt.NDArray[Any], count: int) -> npt.NDArray[np.int64]:
    labels = labels.reshape(-1)
    if len(labels) != count:
        raise ImageError(f"{path}: {len(labels)} labels of {count} images; one each is needed")
    if np.any(labels < 0) or np.any(labels > np.iinfo(np.int64).max):
        raise ImageError(f"{path}: a label is negative, or huge; classes are numbered from 0")
    return labels.astype(np.int64)
