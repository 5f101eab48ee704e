"""Data of any format: `open_data` says which it is, and gives one `Data` that reads it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lapilli.deploy.data import arrays, binary, events, folders, pickles
from lapilli.deploy.data.pictures import ImageError
from lapilli.deploy.data.samples import Found, Labels
from lapilli.deploy.data.sequences import sequence
from lapilli.deploy.data.tables import parquet
from lapilli.deploy.data.transforms import Transform, as_bytes, as_picture
from lapilli.ir.recipe import Json

_TRAINING, _TEST = ("train", "training"), ("test", "val", "valid", "validation")
_EXPECTED = (
    "expected a folder of pictures, CIFAR's, MNIST's or N-MNIST's files, .npz, .npy or .parquet; "
    "see docs/data.md"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """How data are read; the same for every format.

    Attributes:
        transform: resize and crop of pictures.
        binning: of events.
        channels: 1 or 3, which pictures are converted to; None keeps what they are.
        classes: names of a network's classes, by which labels may be words.
        test: which half of a set that comes in two.
        skip_unreadable: go on without samples that cannot be read, instead of stopping.
    """

    transform: Transform = field(default_factory=Transform)
    binning: events.Binning = field(default_factory=events.Binning)
    channels: int | None = None
    classes: tuple[str, ...] = ()
    test: bool = True
    skip_unreadable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Readable:
    """What could be read of the samples that were asked for.

    Attributes:
        indices: of those.
        pixels: uint8 (n, C, H, W), or (n, T, C, H, W).
        unreadable: a sentence for each of the others.
    """

    indices: Labels
    pixels: npt.NDArray[np.uint8]
    unreadable: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Data:
    """Samples with labels, read when they are asked for; pixels are never held.

    Attributes:
        source: the name that messages give them.
        found: what the format gave.
        how: they are read.
        shape: of one sample: (C, H, W), or (T, C, H, W).
    """

    source: str
    found: Found
    how: How
    shape: tuple[int, ...]

    def __len__(self) -> int:
        """Return how many samples there are."""
        return len(self.found.samples)

    @property
    def labels(self) -> Labels | None:
        """Numbers of classes (count,), or None."""
        return self.found.labels

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes in the order of their numbers; empty if nothing says them."""
        return self.found.classes

    def read(self, indices: Sequence[int] | Labels) -> npt.NDArray[np.uint8]:
        """Read samples as uint8 (n, C, H, W), or (n, T, C, H, W).

        Raises:
            ImageError: names the first that cannot be read, or has another shape than the first
                of the set.
        """
        out = np.empty((len(indices), *self.shape), np.uint8)
        for row, index in enumerate(indices):
            out[row] = self._fitting(int(index))
        return out

    def read_readable(self, indices: Sequence[int] | Labels) -> Readable:
        """Read what can be read, and name the rest."""
        kept, pixels, lost = [], [], []
        for index in indices:
            try:
                pixels.append(self._fitting(int(index)))
                kept.append(int(index))
            except ImageError as error:
                lost.append(str(error))
        stacked = np.stack(pixels) if pixels else np.empty((0, *self.shape), np.uint8)
        return Readable(indices=np.array(kept, np.int64), pixels=stacked, unreadable=tuple(lost))

    def _fitting(self, index: int) -> npt.NDArray[np.uint8]:
        sample = _sample(self.found, self.how, index)
        if sample.shape != self.shape:
            raise ImageError(
                f"{self.found.samples.name(index)}: is {_size(sample.shape)}, and "
                f"others are {_size(self.shape)}; give --resize HEIGHTxWIDTH"
            )
        return sample

    def describe(self) -> dict[str, Json]:
        """Return format and every transform, for a recipe; never a path."""
        return {
            "format": self.found.format,
            "shape": list(self.shape),
            **(self.found.rules or {}),
            **self.how.transform.describe(),
        }

    @property
    def digest(self) -> str:
        """SHA-256 of names and sizes of all samples, labels, classes, and how they are read.

        Names are relative to the source, so that a set that moves stays what it is.
        """
        state = hashlib.sha256(json.dumps(self.describe(), sort_keys=True).encode())
        state.update("\0".join(self.classes).encode())
        samples, prefix = self.found.samples, len(self.source)
        for index in range(len(samples)):
            name = samples.name(index)
            at = name.find(self.source)
            own = name if at < 0 else name[:at] + name[at + prefix :]
            state.update(f"{own}\0{samples.size(index)}\n".encode(errors="surrogateescape"))
        if self.labels is not None:
            state.update(self.labels.astype("<i8").tobytes())
        return state.hexdigest()


def open_data(source: str | Path, how: How | None = None) -> Data:
    """Say which format a file or folder is of, and what its samples are.

    Raises:
        ImageError: of none, or damaged, or empty; says which.
    """
    path, asked = Path(source), how or How()
    try:
        found = _in_folder(path, asked) if path.is_dir() else _in_file(path, asked)
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror or error})") from error
    return _data(str(path), found, asked)


def open_sequence(items: object, source: str, how: How | None = None) -> Data:
    """Take anything with `__len__` and `__getitem__`; its code runs.

    Raises:
        ImageError: its items are no images.
    """
    asked = how or How()
    return _data(source, sequence(items, source, asked.classes), asked)


def _data(source: str, found: Found, how: How) -> Data:
    if not len(found.samples):
        raise ImageError(f"{source}: is empty")
    if how.transform.changes and found.final:
        raise ImageError(f"{source}: frames are not resized or cropped; leave --resize and --crop")
    first: ImageError | None = None
    for index in range(
        min(len(found.samples), 16 if how.skip_unreadable else 1)
    ):  # the shape is that of the first readable
        try:
            shape = _sample(found, how, index).shape
        except ImageError as error:
            first = first or error
        else:
            return Data(source=source, found=found, how=how, shape=shape)
    raise first or ImageError(f"{source}: is empty")


def _sample(found: Found, how: How, index: int) -> npt.NDArray[np.uint8]:
    sample = found.samples.read(index)
    name = found.samples.name(index)
    if isinstance(sample, np.ndarray):
        if not how.transform.changes:
            return sample
        sample = as_picture(sample, name)
    return as_bytes(how.transform.apply(sample, name))


def _in_file(path: Path, how: How) -> Found:
    if not path.is_file():
        raise ImageError(f"{path}: no such file; {_EXPECTED}")
    name = path.name.removesuffix(".gz")
    if path.suffix == ".npy":
        return arrays.single_array(path)
    if path.suffix == ".parquet":
        return parquet(path, how.channels, how.classes)
    if path.suffix == ".bin":
        fine = path.name in ("train.bin", "test.bin")
        return binary.cifar([path], 100 if fine else 10, ())
    if "idx" in name or name.endswith("ubyte"):
        return binary.idx(path)
    if path.suffix == "" and (name.startswith(("data_batch", "test_batch"))):
        return pickles.cifar_pickles([path], 10, ())
    if name in ("train", "test"):
        return pickles.cifar_pickles([path], 100, ())
    return arrays.archive(path, how.classes)


def _in_folder(folder: Path, how: How) -> Found:
    for find in (_cifar, _idx_pair):
        if (found := find(folder, test=how.test)) is not None:
            return found
    half = _half(folder, test=how.test)
    for_classes = folders.class_folders(half, how.channels, how.classes)
    found = for_classes or events.recordings(half, how.binning, how.classes)
    found = found or folders.labelled_folder(half, how.channels, how.classes)
    if found is None:
        raise ImageError(f"{folder}: holds no data that are known; {_EXPECTED}")
    return found


def _half(folder: Path, *, test: bool) -> Path:
    """Return the folder of the half that is meant, where there are two: they are no classes."""
    inside = {e.name.lower(): e.name for e in os.scandir(folder) if e.is_dir()}
    if not inside or not set(inside) <= {*_TRAINING, *_TEST}:
        return folder
    halves = [inside[name] for name in (_TEST if test else _TRAINING) if name in inside]
    if len(halves) != 1:
        raise ImageError(
            f"{folder}: holds {', '.join(sorted(inside.values()))}; name the one that is meant"
        )
    return folder / halves[0]


def _cifar(folder: Path, *, test: bool) -> Found | None:
    """Find CIFAR under the names that it was published with."""
    ten = ["test_batch"] if test else [f"data_batch_{i}" for i in range(1, 6)]
    hundred = "test" if test else "train"
    if (folder / "batches.meta.txt").is_file():
        names = _lines(folder / "batches.meta.txt")
        return binary.cifar([folder / f"{name}.bin" for name in ten], 10, names)
    if (folder / "fine_label_names.txt").is_file():
        names = _lines(folder / "fine_label_names.txt")
        return binary.cifar([folder / f"{hundred}.bin"], 100, names)
    if (folder / "batches.meta").is_file():
        names = pickles.names_of(folder / "batches.meta", "label_names")
        return pickles.cifar_pickles([folder / name for name in ten], 10, names)
    if (folder / "meta").is_file() and (folder / hundred).is_file():
        names = pickles.names_of(folder / "meta", "fine_label_names")
        return pickles.cifar_pickles([folder / hundred], 100, names)
    return None


def _idx_pair(folder: Path, *, test: bool) -> Found | None:
    """Find MNIST's images of one half."""
    start = "t10k" if test else "train"
    files = sorted(folder.glob(f"{start}*images*idx3*")) + sorted(
        folder.glob(f"{start}*images*-ubyte")
    )
    return binary.idx(files[0]) if files else None


def _lines(path: Path) -> tuple[str, ...]:
    text = path.read_text(encoding="utf-8", errors="replace")
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def _size(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
