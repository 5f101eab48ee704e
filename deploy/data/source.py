"""Data of any format: `open_data` says which it is, and gives one `Data` that reads it."""

from __future__ import annotations

import os
from pathlib import Path

from lapilli.deploy.data import arrays, binary, events, folders, pickles
from lapilli.deploy.data.pictures import ImageError
from lapilli.deploy.data.reading import Data, How, data_of
from lapilli.deploy.data.samples import TEST, TRAINING, Found
from lapilli.deploy.data.sequences import sequence
from lapilli.deploy.data.tables import parquet, parquet_folder

_EXPECTED = (
    "expected a folder of pictures, CIFAR's, MNIST's or N-MNIST's files, .npz, .npy or .parquet; "
    "see docs/data.md"
)


def open_data(source: str | Path, how: How | None = None) -> Data:
    """Say which format a file or folder is of, and what its samples are.

    Raises:
        ImageError: of none, or damaged, or empty; says which.
    """
    path, asked = Path(source), how or How()
    try:
        found = _in_folder(path, asked) if path.is_dir() else _in_file(path, asked)
    except OSError as error:
        where = error.filename or path
        raise ImageError(f"{where}: cannot be read ({error.strerror or error})") from error
    return data_of(str(path), found, asked)


def open_sequence(
    items: object, source: str, how: How | None = None, count: int | None = None
) -> Data:
    """Take anything with `__len__` and `__getitem__`, or its first `count` items; its code runs.

    Raises:
        ImageError: its items are no images.
    """
    asked = how or How()
    found = sequence(
        items, source, asked.classes, count, skip=asked.skip_unreadable, numbers=asked.numbers
    )
    return data_of(source, found, asked)


def _in_file(path: Path, how: How) -> Found:
    if not path.is_file():
        raise ImageError(f"{path}: no such file; {_EXPECTED}")
    if how.numbers:
        return arrays.numbers(path, how.classes, how.names)
    if events.holds_events(path):
        return events.recording(path, how.binning.or_else(how.usual_binning))
    name = path.name.removesuffix(".gz")
    if path.suffix == ".npy":
        return arrays.single_array(path)
    if path.suffix == ".parquet":
        return parquet([path], how.channels, how.classes)
    if path.suffix == ".bin":
        fine = path.name in ("train.bin", "test.bin")
        return binary.cifar([path], 100 if fine else 10, ())
    if path.suffix != ".npz" and ("idx" in name or name.endswith("ubyte")):
        return binary.idx(path)
    if path.suffix == "" and (name.startswith(("data_batch", "test_batch"))):
        return pickles.cifar_pickles([path], 10, ())
    if name in ("train", "test"):
        return pickles.cifar_pickles([path], 100, ())
    return arrays.archive(path, how.classes)


def _in_folder(folder: Path, how: How) -> Found:
    if how.numbers:
        return arrays.numbers(folder, how.classes)  # says what is expected
    for find in (_cifar, _idx_pair):
        if (found := find(folder, test=how.test)) is not None:
            return found
    half = _half(folder, test=how.test)
    binning = how.binning.or_else(how.usual_binning)
    found = (
        parquet_folder(half, how.channels, how.classes, test=how.test)
        or folders.labelled_folder(half, how.channels, how.classes)
        or folders.class_folders(half, how.channels, how.classes)
        or events.recordings(half, binning, how.classes)
    )
    if found is None:
        raise ImageError(f"{folder}: holds no data that are known; {_EXPECTED}")
    return found


def _half(folder: Path, *, test: bool) -> Path:
    """Return the folder of the half that is meant, where there are two: they are no classes."""
    inside = {e.name.lower(): e.name for e in os.scandir(folder) if e.is_dir()}
    if not inside or not set(inside) <= {*TRAINING, *TEST}:
        return folder
    halves = [inside[name] for name in (TEST if test else TRAINING) if name in inside]
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
