"""Events of a camera, (x, y, t, p) each, binned into T frames that count them.

The rules, for N events in time order and T frames:

* by count: frame i takes events i * (N // T) to (i + 1) * (N // T), and the last one the rest;
* by time: frame i takes what happens from t0 + i * d until t0 + (i + 1) * d, where d is
  (last t - t0) // T, and the last one the rest.

A frame is (2, H, W): events of p = 0, then of p = 1. They are the rules of SpikingJelly's
`integrate_events_by_fixed_frames_number`.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lapilli.deploy.data.archives import header
from lapilli.deploy.data.folders import Files, class_files
from lapilli.deploy.data.pictures import ImageError
from lapilli.deploy.data.samples import Found, Labels, Sample
from lapilli.deploy.data.transforms import size_of
from lapilli.ir.recipe import Json

_SUFFIXES = frozenset({".bin", ".npy", ".npz"})
_OVERFLOW_ROW, _OVERFLOW = 240, 1 << 13  # N-MNIST's mark that its clock went round, and by how much
_N_MNIST = (34, 34)
_MOST = 1 << 30  # bytes of one recording, unpacked
_FIELDS = ("x", "y", "t", "p")


@dataclass(frozen=True, slots=True, kw_only=True)
class Binning:
    """How events become frames.

    Attributes:
        frames: T.
        by: "count" or "time".
        sensor: (height, width); None for N-MNIST's 34 x 34, where the files are its `.bin`.
    """

    frames: int | None = None
    by: str = "count"
    sensor: tuple[int, int] | None = None

    def describe(self) -> dict[str, Json]:
        """Return what a recipe keeps."""
        sensor: Json = None if self.sensor is None else list(self.sensor)
        return {"frames": self.frames, "bin_by": self.by, "sensor": sensor}


def binning_of(frames: int | None, by: str | None, sensor: str | None) -> Binning:
    """Read what the command line says.

    Raises:
        ImageError: another rule than count and time, or no HEIGHTxWIDTH.
    """
    if by not in (None, "count", "time"):
        raise ImageError(f"--bin-by: {by!r} is none of count, time")
    size = None if sensor is None else size_of("--sensor", sensor)
    return Binning(
        frames=frames, by=by or "count", sensor=None if size is None else (size[0], size[-1])
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Events:
    """Recordings in time order.

    Attributes:
        x, y: pixel; t: time, in the file's unit; p: polarity, 0 or 1.
    """

    x: Labels
    y: Labels
    t: Labels
    p: Labels


def frames(events: Events, binning: Binning, name: str) -> npt.NDArray[np.uint8]:
    """Count events in T frames (T, 2, H, W), by the rules that the module states.

    Raises:
        ImageError: no events, fewer than frames, none in order, one outside of the sensor, or
            more than 255 in one pixel of one frame.
    """
    T = binning.frames
    if T is None or binning.sensor is None:
        raise ImageError(f"{name}: events need --frames T, and --sensor HEIGHTxWIDTH")
    height, width = binning.sensor
    if len(events.t) < T:
        raise ImageError(f"{name}: {len(events.t)} events make no {T} frames")
    if np.any(np.diff(events.t) < 0):
        raise ImageError(f"{name}: its events are not in the order of time")
    for axis, values, size in (("x", events.x, width), ("y", events.y, height), ("p", events.p, 2)):
        if values.min() < 0 or values.max() >= size:
            raise ImageError(
                f"{name}: an event has {axis} = {values.max()}, of a sensor of {width} x {height}"
            )
    if binning.by == "count":
        which = np.minimum(np.arange(len(events.t)) // (len(events.t) // T), T - 1)
    else:
        duration = int(events.t[-1] - events.t[0]) // T
        if duration == 0:
            raise ImageError(f"{name}: too short for {T} frames by time; --bin-by count takes it")
        which = np.minimum((events.t - events.t[0]) // duration, T - 1)
    place = ((which * 2 + events.p) * height + events.y) * width + events.x
    counts = np.bincount(place, minlength=T * 2 * height * width)
    if (most := int(counts.max())) > 255:
        raise ImageError(f"{name}: {most} events in one pixel of a frame; at most 255 fit: more T")
    return counts.astype(np.uint8).reshape(T, 2, height, width)


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

    def size(self, index: int) -> int:
        """Return its bytes."""
        return self.files.size(index)

    def read(self, index: int) -> Sample:
        """Bin one recording."""
        path = Path(self.files.name(index))
        return frames(read_events(path), self.binning, str(path))


def recordings(folder: Path, binning: Binning, classes: Sequence[str]) -> Found | None:
    """Find recordings in a folder for each class; None where there are none.

    Raises:
        ImageError: --frames is missing, or --sensor where the files are not N-MNIST's.
    """
    listed = class_files(folder, _SUFFIXES, classes)
    if listed is None:
        return None
    files, labels, names = listed
    sensor = binning.sensor
    if sensor is None and all(name.endswith(".bin") for name in files):
        sensor = _N_MNIST
    if binning.frames is None or sensor is None:
        raise ImageError(f"{folder}: events need --frames T, and --sensor HEIGHTxWIDTH")
    used = Binning(frames=binning.frames, by=binning.by, sensor=sensor)
    return Found(
        format="events",
        samples=Recordings(Files(folder, files), used),
        labels=labels,
        classes=names,
        rules=used.describe(),
        final=True,
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
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.dtype.names is None or not set(_FIELDS) <= set(array.dtype.names):
        raise ImageError(f"{path}: is {array.dtype}, not an array with fields x, y, t, p")
    return {name: array[name] for name in _FIELDS}


def _of_npz(path: Path) -> dict[str, npt.NDArray[Any]]:
    with zipfile.ZipFile(path) as archive:
        if (size := sum(entry.file_size for entry in archive.infolist())) > _MOST:
            raise ImageError(f"{path}: would take {size / 2**20:,.0f} MiB: no single recording")
        for name in _FIELDS:
            with archive.open(f"{name}.npy") as file:
                header(file)
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in _FIELDS}


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
