"""Folders of pictures: a folder for each class, or one folder and a table of labels."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lapilli.deploy.data.pictures import ImageError, open_picture
from lapilli.deploy.data.samples import Found, Labels, Sample, numbered

PICTURES = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
_FILES = ("file", "filename", "file_name", "path", "image", "image_id", "id", "name")
_LABELS = ("label", "labels", "class", "class_name", "target", "category", "y")


@dataclass(frozen=True, slots=True, eq=False)
class Files:
    """Samples that are a file each.

    Attributes:
        folder: that the names are relative to.
        names: of the files, with / between folders.
        channels: 1, 3, or None for what each picture is.
    """

    folder: Path
    names: Sequence[str]
    channels: int | None = None

    def __len__(self) -> int:
        """Return how many files there are."""
        return len(self.names)

    def name(self, index: int) -> str:
        """Return the path of one."""
        return str(self.folder / self.names[index])

    def read(self, index: int) -> Sample:
        """Open one picture."""
        return open_picture(self.folder / self.names[index], self.name(index), self.channels)


def class_files(
    folder: Path, suffixes: frozenset[str], classes: Sequence[str]
) -> tuple[list[str], Labels, tuple[str, ...]] | None:
    """List the files of a folder of class folders, as ImageFolder does.

    Classes are the sorted names of its folders, and files are sorted within each. Where `classes`
    names every folder, their order decides. Files of all classes come in turn, see `in_turn`.

    Returns:
        Names of files, numbers of classes, names of classes; None where no folder holds any.

    Raises:
        ImageError: a folder without a file, which would shift no class and mean nothing.
    """
    folders = sorted(e.name for e in os.scandir(folder) if e.is_dir() and e.name[0] != ".")
    listed: list[str] = []
    counts: list[int] = []
    for name in folders:
        inside = sorted(_under(folder / name, f"{name}/", suffixes))
        listed += inside
        counts.append(len(inside))
    if not listed:
        return None
    if 0 in counts:
        raise ImageError(f"{folder / folders[counts.index(0)]}: a class without a file")
    known = tuple(classes) if set(folders) <= set(classes) else tuple(folders)
    numbers = np.array([known.index(name) for name in folders], np.int64)
    order = in_turn(counts)
    return [listed[i] for i in order], np.repeat(numbers, counts)[order], known


def in_turn(counts: Sequence[int]) -> Labels:
    """Order samples that lie class after class so that classes take turns.

    Any few of them in a row, the first or the last, hold each class in the share that it has of
    all: sample i of n of a class stands at (2i + 1) / 2n of the way, and of two at one place that
    of the earlier class comes first.

    Args:
        counts: samples of each class.

    Returns:
        The places (sum of counts,) of the samples, in the order in which they are taken.

    >>> in_turn([3, 3]).tolist(), in_turn([4, 1]).tolist()
    ([0, 3, 1, 4, 2, 5], [0, 1, 4, 2, 3])
    """
    places = [(2 * np.arange(n) + 1) / (2 * n) for n in counts]
    return np.argsort(np.concatenate(places), kind="stable").astype(np.int64)


def _under(folder: Path, prefix: str, suffixes: frozenset[str]) -> Iterator[str]:
    """Yield the files of a folder and of those in it; links to folders are not followed."""
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            yield from _under(Path(entry.path), f"{prefix}{entry.name}/", suffixes)
        elif os.path.splitext(entry.name)[1].lower() in suffixes:
            yield f"{prefix}{entry.name}"


def class_folders(folder: Path, channels: int | None, classes: Sequence[str]) -> Found | None:
    """Find pictures in a folder for each class; None where there are none."""
    listed = class_files(folder, PICTURES, classes)
    if listed is None:
        return None
    files, labels, names = listed
    order = "as the network's" if names == tuple(classes) else "sorted"
    return Found(
        format="class folders",
        samples=Files(folder, files, channels),
        labels=labels,
        classes=names,
        rules={"classes": order},
        mixed=True,
    )


def labelled_folder(folder: Path, channels: int | None, classes: Sequence[str]) -> Found | None:
    """Find pictures that one table in their folder labels; None where there is no table.

    Raises:
        ImageError: several tables, or one that does not say files and labels.
    """
    tables = sorted(folder.glob("*.csv"))
    if not tables:
        return None
    if len(tables) > 1:
        raise ImageError(f"{folder}: holds {len(tables)} .csv files; keep the one with the labels")
    names, words = _table(tables[0])
    labels, known = numbered(str(tables[0]), words, classes)
    return Found(
        format="pictures with labels in CSV",
        samples=Files(folder, names, channels),
        labels=labels,
        classes=known,
    )


def _table(path: Path) -> tuple[list[str], list[str]]:
    """Read names of files and labels, by the names of their columns."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            columns = {(c or "").strip().lower(): c for c in rows.fieldnames or ()}
            files = [columns[c] for c in _FILES if c in columns]
            labels = [columns[c] for c in _LABELS if c in columns]
            if len(files) != 1 or len(labels) != 1:
                raise ImageError(
                    f"{path}: its first row must name one column of files and one of labels: "
                    f"file,label; it has {', '.join(columns) or 'none'}"
                )
            pairs = [(row[files[0]], row[labels[0]]) for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ImageError(f"{path}: no table that can be read ({error})") from error
    for number, (name, label) in enumerate(pairs, 2):
        if not name or not label:
            raise ImageError(f"{path}: row {number} lacks a file or a label")
        if ".." in Path(name).parts or Path(name).is_absolute():
            raise ImageError(f"{path}: row {number} names {name!r}, which leaves the folder")
    return [name for name, _ in pairs], [label for _, label in pairs]
