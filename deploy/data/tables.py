"""Parquet files with encoded images and labels, as Hugging Face's `datasets` writes them."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lapilli.deploy.data.pictures import ImageError, open_picture
from lapilli.deploy.data.samples import TEST, TRAINING, Found, Sample, numbered
from lapilli.ir.errors import InputError

_IMAGES = ("image", "img", "images")
_LABELS = ("label", "labels", "fine_label", "target")
_SPLIT = re.compile(r"(?P<split>.+?)-\d+-of-(?P<count>\d+)(-[0-9a-f]+)?\.parquet")


@dataclass(frozen=True, slots=True, eq=False)
class _Shard:
    """One file: its columns, and how many rows each of its row groups has."""

    path: Path
    images: str
    labels: str | None
    classes: tuple[str, ...]
    counts: tuple[int, ...]


class _RowGroups:
    """The images of Parquet files; one row group is kept, so that memory stays bounded."""

    def __init__(self, shards: Sequence[_Shard], channels: int | None) -> None:
        self._groups = [(s, number) for s in shards for number in range(len(s.counts))]
        self._channels = channels
        self._ends = np.cumsum([s.counts[number] for s, number in self._groups], dtype=np.int64)
        before = np.cumsum([0, *(sum(s.counts) for s in shards)])
        self._first = {s.path: int(n) for s, n in zip(shards, before, strict=False)}
        self._held: tuple[int, list[Any]] = (-1, [])

    def __len__(self) -> int:
        """Return how many rows there are."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def _group(self, index: int) -> int:
        return int(np.searchsorted(self._ends, index, side="right"))

    def name(self, index: int) -> str:
        """Return the file and the number of the row."""
        shard, _ = self._groups[self._group(index)]
        return f"image {index - self._first[shard.path]} of {shard.path}"

    def read(self, index: int) -> Sample:
        """Decode one image."""
        which = self._group(index)
        if self._held[0] != which:
            self._held = which, _values(*self._groups[which])
        before = int(self._ends[which - 1]) if which else 0
        held = self._held[1]
        cell = held[index - before] if index - before < len(held) else None
        data = cell.get("bytes") if isinstance(cell, dict) else cell
        if not isinstance(data, bytes):
            raise ImageError(f"{self.name(index)}: holds no bytes of a picture")
        return open_picture(io.BytesIO(data), self.name(index), self._channels)


def _values(shard: _Shard, group: int) -> list[Any]:
    """Read the images of a row group; a damaged page shows only now.

    Raises:
        ImageError: it cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(shard.path) as file:
            table = file.read_row_group(group, columns=[shard.images])
            values: list[Any] = table.column(0).to_pylist()
    except (OSError, ValueError, pa.ArrowException) as error:  # names may be no UTF-8
        raise ImageError(f"{shard.path}: no Parquet file that can be read ({error})") from error
    return values


def parquet_folder(
    folder: Path, channels: int | None, classes: Sequence[str], *, test: bool
) -> Found | None:
    """Find the Parquet files of a folder, in the order of their names; None where there is none.

    Files named as `datasets` does, SPLIT-00000-of-00002.parquet, are those of one split.

    Raises:
        ImageError: a file is missing, or nothing says which split is meant; else as `parquet`.
    """
    files = sorted(folder.glob("*.parquet"))
    if not files:
        return None
    splits: dict[str, list[Path]] = {}
    for path in files:
        named = _SPLIT.fullmatch(path.name)
        splits.setdefault(named["split"] if named else "", []).append(path)
    wanted = [s for s in splits if s.lower() in (TEST if test else TRAINING)]
    if len(splits) > 1 and len(wanted) != 1:
        shown = ", ".join(sorted(s or "others" for s in splits))
        raise ImageError(
            f"{folder}: holds {shown}; name the file that is meant, or move the others"
        )
    chosen = splits[wanted[0]] if len(splits) > 1 else files
    named = _SPLIT.fullmatch(chosen[0].name)
    if named and len(chosen) != int(named["count"]):
        raise ImageError(
            f"{folder}: holds {len(chosen)} of {int(named['count'])} files of the split"
        )
    return parquet(chosen, channels, classes)


def parquet(files: Sequence[Path], channels: int | None, classes: Sequence[str]) -> Found:
    """Find the columns of images and labels of Parquet files, one behind the other.

    Raises:
        InputError: pyarrow is not installed.
        ImageError: no Parquet file, no one column of images, or files that differ in their columns.
    """
    shards: list[_Shard] = []
    given: list[Any] = []
    for path in files:
        shard, own = _opened(path)
        if shards and (shard.labels, shard.classes) != (shards[0].labels, shards[0].classes):
            raise ImageError(f"{path}: has other labels, or names of classes, than {files[0]}")
        shards.append(shard)
        given += own
    samples = _RowGroups(shards, channels)
    if shards[0].labels is None:
        return Found(format="Parquet", samples=samples)
    source = str(files[0] if len(files) == 1 else files[0].parent)
    numbers, found = numbered(source, given, shards[0].classes or tuple(classes))
    return Found(format="Parquet", samples=samples, labels=numbers, classes=found)


def _opened(path: Path) -> tuple[_Shard, list[Any]]:
    """Read what a file says of itself, and its labels."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise InputError(f"{path}: Parquet needs pyarrow: pip install 'lapilli[data]'") from error
    try:
        with pq.ParquetFile(path) as file:
            names, metadata = file.schema_arrow.names, file.schema_arrow.metadata or {}
            groups = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
            images, labels = ([c for c in known if c in names] for known in (_IMAGES, _LABELS))
            if len(images) != 1 or len(labels) > 1:
                raise ImageError(
                    f"{path}: needs one column of {', '.join(_IMAGES)}, and at most one of "
                    f"{', '.join(_LABELS)}; it has {', '.join(names)}"
                )
            given: list[Any] = file.read(labels).column(0).to_pylist() if labels else []
    except ImageError:
        raise
    except (OSError, ValueError, pa.ArrowException) as error:  # names may be no UTF-8
        raise ImageError(f"{path}: no Parquet file that can be read ({error})") from error
    if None in given:
        raise ImageError(f"{path}: row {given.index(None)} has no label")
    if labels and len(given) != sum(groups):
        raise ImageError(f"{path}: says {sum(groups)} rows, and holds {len(given)} labels")
    label = labels[0] if labels else None
    classes = _class_names(metadata, label) if label else ()
    return _Shard(path, images[0], label, classes, tuple(groups)), given


def _class_names(metadata: dict[bytes, bytes], column: str) -> tuple[str, ...]:
    """Return the names that `datasets` stores for a column of class numbers."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return tuple(str(name) for name in features[column]["names"])
    except (KeyError, TypeError, ValueError):
        return ()
