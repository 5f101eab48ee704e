"""Recordings of events: N-MNIST's `.bin`, structured `.npy`, or `.npz` of x, y, t, p."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lapilli.deploy.data.archives import array_of, declared, mapped, require_size
from lapilli.deploy.data.binning import Binning, Events, frames
from lapilli.deploy.data.folders import Files, class_files
from lapilli.deploy.data.pictures import ImageError
from lapilli.deploy.data.samples import Found, Labels, Sample

_SUFFIXES = frozenset({".bin", ".npy", ".npz"})
_OVERFLOW_ROW, _OVERFLOW = 240, 1 << 13  # N-MNIST's mark that its clock went round, and by how much
_N_MNIST = (34, 34)
_MOST = 1 << 30  # bytes of one recording, unpacked
_FIELDS = ("x", "y", "t", "p")


@dataclass(frozen=True, slots=True, eq=False)
class Recordings:
    """Files of events, a sample each.

    Attributes:
        files: where they lie.
        binning: how they become frames.
    """

    files: Files
    binning: Binning

    def __len__(self) -> int:
        """Return how many files there are."""
        return len(self.files)

    def name(self, index: int) -> str:
        """Return the path of one."""
        return self.files.name(index)

    def read(self, index: int) -> Sample:
        """Bin one recording."""
        path = Path(self.files.name(index))
        return frames(read_events(path), self.binning, str(path))


def recordings(folder: Path, binning: Binning, classes: Sequence[str]) -> Found | None:
    """Find recordings in a folder for each class, or without labels in the folder itself.

    None where there are none.

    Raises:
        ImageError: --frames is missing, or --sensor where the files are not N-MNIST's.
    """
    listed = class_files(folder, _SUFFIXES, classes)
    if listed is not None:
        files, labels, names = listed
        return _found(folder, files, binning, labels, names)
    here = sorted(e.name for e in os.scandir(folder) if e.is_file())
    events = [name for name in here if holds_events(folder / name)]
    return _found(folder, events, binning) if events else None


def recording(file: Path, binning: Binning) -> Found:
    """Take one recording, without a label.

    Raises:
        ImageError: see `recordings`.
    """
    return _found(file.parent, [file.name], binning)


def holds_events(file: Path) -> bool:
    """Whether a `.npy` or `.npz` says by its headers that it is a recording."""
    try:
        if file.suffix == ".npy":
            return set(_FIELDS) <= set(mapped(file).dtype.names or ())
        if file.suffix == ".npz":
            with zipfile.ZipFile(file) as archive:
                return {f"{name}.npy" for name in _FIELDS} <= set(archive.namelist())
    except (ImageError, OSError, EOFError, ValueError, zipfile.BadZipFile):
        return False  # whoever reads it says what is wrong with it
    return False


def _found(
    folder: Path,
    files: list[str],
    binning: Binning,
    labels: Labels | None = None,
    names: tuple[str, ...] = (),
) -> Found:
    published = _N_MNIST if all(name.endswith(".bin") for name in files) else None
    used = binning.or_else(Binning(by="count", sensor=published))
    if used.frames is None or used.sensor is None:
        raise ImageError(f"{folder}: events need --frames T, and --sensor HEIGHTxWIDTH")
    return Found(
        format="events",
        samples=Recordings(Files(folder, files), used),
        labels=labels,
        classes=names,
        rules=used.describe(),
        final=True,
        binned=True,
        mixed=labels is not None,
    )


def read_events(path: Path) -> Events:
    """Read N-MNIST's `.bin`, a structured `.npy`, or an `.npz` of arrays x, y, t, p.

    Raises:
        ImageError: it is none.
    """
    try:
        if path.suffix == ".bin":
            return n_mnist(path.read_bytes(), str(path))
        columns = _of_npz(path) if path.suffix == ".npz" else _of_npy(path)
    except ImageError:
        raise
    except (OSError, EOFError, ValueError, KeyError, RuntimeError, zlib.error,
            zipfile.BadZipFile) as error:  # fmt: skip
        raise ImageError(f"{path}: no events x, y, t, p that can be read ({error})") from error
    lengths = {v.shape for v in columns.values()}
    if len(lengths) != 1 or any(v.ndim != 1 or v.dtype.kind not in "iub" for v in columns.values()):
        raise ImageError(f"{path}: x, y, t, p must be whole numbers, as many of each")
    return Events(**{name: v.astype(np.int64) for name, v in columns.items()})


def _of_npy(path: Path) -> dict[str, npt.NDArray[Any]]:
    array = mapped(path)
    if array.dtype.names is None or not set(_FIELDS) <= set(array.dtype.names):
        raise ImageError(f"{path}: is {array.dtype}, not an array with fields x, y, t, p")
    return {name: array[name] for name in _FIELDS}


def _of_npz(path: Path) -> dict[str, npt.NDArray[Any]]:
    with zipfile.ZipFile(path) as archive:
        if (size := sum(entry.file_size for entry in archive.infolist())) > _MOST:
            raise ImageError(f"{path}: would take {size / 2**20:,.0f} MiB: no single recording")
        entries = {name: archive.getinfo(f"{name}.npy") for name in _FIELDS}
        for name, entry in entries.items():
            shape, _, size_of_one = declared(archive, entry)
            require_size(path, name, shape, size_of_one, entry)
        return {name: array_of(archive, entry) for name, entry in entries.items()}


def n_mnist(data: bytes, name: str) -> Events:
    """Read N-MNIST's 40 bits an event: x, y, then one bit of polarity and 23 of microseconds.

    An event in row 240 says that the clock went round: 2^13 is added to all times from there on.

    Raises:
        ImageError: no whole number of events.
    """
    if not data or len(data) % 5:
        raise ImageError(
            f"{name}: {len(data)} bytes are no whole number of events of 5: cut short?"
        )
    rows = np.frombuffer(data, np.uint8).reshape(-1, 5).astype(np.int64)
    time = (rows[:, 2] & 127) << 16 | rows[:, 3] << 8 | rows[:, 4]
    marks = rows[:, 1] == _OVERFLOW_ROW
    time = time + _OVERFLOW * np.cumsum(marks)
    kept = rows[~marks]
    return Events(x=kept[:, 0], y=kept[:, 1], t=time[~marks], p=kept[:, 2] >> 7)
