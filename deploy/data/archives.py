"""Archives of images: `.npz` files whose sizes are read before anything is unpacked."""

from __future__ import annotations

import math
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import numpy.typing as npt

from lapilli.deploy.data.pictures import ImageError
from lapilli.deploy.data.samples import numbered
from lapilli.ir.errors import InputError
from lapilli.ir.parts import as_rows

_SHOWN = 5  # names of arrays
_SMALL = 256 << 20  # bytes that any archive may become
_PIECE = 1 << 20  # bytes that are read at a time
_RATIO = 64  # bytes that one byte of a larger archive may become
_NUMBERS = "expected an .npz archive with 'inputs' (count, ...) and, if known, 'labels'"
_EXPECTED = (
    "expected an .npz archive with uint8 'images' (count, C, H, W) and, if known, 'labels' (count,)"
)


def read_archive(
    path: Path, classes: Sequence[str] = ()
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64] | None]:
    """Read images (N, C, H, W), or (N, T, C, H, W) with time, and labels if it has them.

    Labels are (N,), or (N, H, W): a class for each place.

    Sizes and types are read from headers before any number is.

    Args:
        path: of the archive.
        classes: names of classes, in the order of their numbers, by which labels may be words.

    Raises:
        ImageError: no such archive, or images or labels of another form; says what to save.
    """
    with _opened(path, _EXPECTED) as archive:
        held = _held(archive)
        pixels = _member(archive, path, "images", words=False)
        labels = _member(archive, path, "labels", words=bool(classes))
    if pixels is None:
        raise ImageError(
            f"{path}: {_EXPECTED}; it holds {held}, and no 'images'; of a model that takes none, "
            "say the axes of its input: --layout"
        )
    if pixels.ndim == 3:
        pixels = pixels[:, None]
    return pixels, None if labels is None else _labels(path, labels, len(pixels), classes)


def read_numbers(
    path: Path, classes: Sequence[str] = (), several: Sequence[str] = ()
) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64] | None]:
    """Read inputs of any shape (N, ...), and labels (N,), or (N, H, W), if it has them.

    Of `several` inputs, by name, an array with these fields is made.

    Raises:
        ImageError: no such archive, or another form; says what to save.
    """
    numbers: npt.NDArray[Any] | None
    with _opened(path, _NUMBERS) as archive:
        held = _held(archive)
        if several:
            numbers = _several(archive, path, several)
        else:
            there = {entry.filename for entry in archive.infolist()}
            name = "inputs" if "inputs.npy" in there else "images"
            numbers = _member(archive, path, name, words=False)
        labels = _member(archive, path, "labels", words=bool(classes))
    if numbers is None:
        raise ImageError(f"{path}: {_NUMBERS}; it holds {held}, and no 'inputs'")
    return numbers, None if labels is None else _labels(path, labels, len(numbers), classes)


@contextmanager
def _opened(path: Path, expected: str) -> Iterator[zipfile.ZipFile]:
    """Open an archive; whatever is damaged in it is told, with what was expected."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except ImageError:
        raise
    except (
        zipfile.BadZipFile, OSError, EOFError, ValueError, RuntimeError, zlib.error
    ) as error:  # fmt: skip
        raise ImageError(f"{path}: {expected} ({error})") from error


def _held(archive: zipfile.ZipFile) -> str:
    """Name what is in an archive, for whoever has called it otherwise."""
    names = [entry.filename.removesuffix(".npy") for entry in archive.infolist()]
    more = ", ..." if len(names) > _SHOWN else ""
    return f"{', '.join(map(repr, names[:_SHOWN]))}{more}" if names else "nothing"


def _several(archive: zipfile.ZipFile, path: Path, names: Sequence[str]) -> npt.NDArray[Any]:
    arrays = {name: _member(archive, path, name, words=False, numbers=True) for name in names}
    found = {name: array for name, array in arrays.items() if array is not None}
    if len(found) < len(names):
        missing = next(name for name in names if name not in found)
        raise ImageError(f"{path}: holds no input {missing!r}; the model takes {', '.join(names)}")
    try:
        return as_rows(found)
    except InputError as error:
        raise ImageError(f"{path}: {error}") from error


def require_numbers(path: Path, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Check that an array is of real numbers, a sample each row.

    Raises:
        ImageError: it is not.
    """
    if dtype.kind not in "biuf" or len(shape) < 2 or 0 in shape:
        raise ImageError(f"{path}: {name} are {dtype} {shape}, not real numbers (N, ...)")


def _member(
    archive: zipfile.ZipFile, path: Path, name: str, *, words: bool, numbers: bool = False
) -> npt.NDArray[Any] | None:
    """Read one array, if its header fits what is expected and the archive's size."""
    try:
        entry = archive.getinfo(f"{name}.npy")
    except KeyError:
        return None
    shape, dtype, size = declared(archive, entry)
    if numbers or name == "inputs":
        require_numbers(path, name, shape, dtype)
    else:
        _require_form(path, name, shape, dtype, words=words)
    require_size(path, name, shape, size, entry)
    if size > max(_SMALL, _RATIO * path.stat().st_size):
        raise ImageError(
            f"{path}: {name!r} would take {size / 2**20:,.0f} MiB, more than {_RATIO} times "
            "the file; save them with np.savez, uncompressed"
        )
    return array_of(archive, entry)


def declared(
    archive: zipfile.ZipFile, entry: zipfile.ZipInfo
) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Read from the header alone: shape and type of an array, and the bytes that it must have.

    Raises:
        ValueError: it is no array.
    """
    with archive.open(entry) as file:
        shape, _, dtype = array_header(file)
        return shape, dtype, file.tell() + math.prod(shape) * dtype.itemsize


def array_of(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> npt.NDArray[Any]:
    """Read one array of numbers; map it where the archive does not pack it.

    Raises:
        ValueError: it is none, or lacks some.
    """
    with archive.open(entry) as file:
        shape, order, dtype = array_header(file)
        if entry.compress_type != zipfile.ZIP_STORED or 0 in shape or dtype.hasobject:
            return np.frombuffer(file.read(), dtype).reshape(shape, order=order)
        offset = file.tell()
        while file.read(_PIECE):
            pass  # the archive compares its sum of all bytes behind the last
    name = str(archive.filename)
    with open(name, "rb") as whole:
        whole.seek(entry.header_offset + 26)
        lengths = struct.unpack("<HH", whole.read(4))
    start = entry.header_offset + 30 + sum(lengths)
    return np.memmap(name, dtype, "r", start + offset, shape, order)


def require_size(
    path: Path, name: str, shape: tuple[int, ...], size: int, entry: zipfile.ZipInfo
) -> None:
    """Check that an archive holds as many bytes of an array as its header says.

    Raises:
        ImageError: it does not.
    """
    if size != entry.file_size:
        raise ImageError(f"{path}: {name!r} says {shape}, and holds another number of bytes")


def array_header(file: IO[bytes]) -> tuple[tuple[int, ...], Literal["C", "F"], np.dtype[Any]]:
    """Read what one array of NumPy's format says of itself: shape, order and type.

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
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # headers of Python 2 are right, too
            shape, fortran, dtype = read[version](file)
    except (SyntaxError, tokenize.TokenError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError("a header that is none of NumPy's format") from error
    if any(size < 0 for size in shape):
        raise ValueError(f"an array of shape {shape}")
    return shape, "F" if fortran else "C", dtype


def mapped(path: Path) -> npt.NDArray[Any]:
    """Map the one array of a `.npy` file; nothing is read but its header.

    Raises:
        ValueError: it is none, or cut short.
    """
    with open(path, "rb") as file:
        shape, order, dtype = array_header(file)
        offset = file.tell()
    if dtype.hasobject:
        raise ValueError("an array of objects")
    if 0 in shape:
        return np.zeros(shape, dtype)
    if path.stat().st_size < offset + math.prod(shape) * dtype.itemsize:
        raise ValueError(f"it says {shape}, and holds fewer bytes")
    return np.memmap(path, dtype, "r", offset, shape, order)


def _require_form(
    path: Path, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], *, words: bool
) -> None:
    if name == "images" and (dtype != np.uint8 or len(shape) not in (3, 4, 5) or 0 in shape):
        raise ImageError(
            f"{path}: images are {dtype} {shape}, not uint8 (N, C, H, W), or "
            "(N, T, C, H, W) with time"
        )
    if name == "labels" and len(shape) not in (1, 3) and shape[1:] != (1,):
        hint = "; one-hot? then save labels.argmax(axis=1)" if len(shape) == 2 else ""
        raise ImageError(f"{path}: labels are {shape}, not (N,){hint}")
    if name == "labels" and dtype.kind not in ("iuUS" if words else "iu"):
        kind = "words" if dtype.kind in "USO" else str(dtype)
        raise ImageError(f"{path}: labels are {kind}; give the numbers of classes, from 0")


def _labels(
    path: Path, labels: npt.NDArray[Any], count: int, classes: Sequence[str]
) -> npt.NDArray[np.int64]:
    labels = labels if labels.ndim == 3 else labels.reshape(-1)
    if len(labels) != count:
        raise ImageError(f"{path}: {len(labels)} labels of {count} images; one each is needed")
    if labels.dtype.kind in "US":
        return numbered(str(path), labels.tolist(), classes)[0]
    if np.any(labels < 0) or np.any(labels > np.iinfo(np.int64).max):
        raise ImageError(f"{path}: a label is negative, or huge; classes are numbered from 0")
    return labels.astype(np.int64)
