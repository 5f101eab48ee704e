"""Parquet files with encoded images and labels, as Hugging Face's `datasets` writes them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lapilli.deploy.data.pictures import ImageError, open_picture
from lapilli.deploy.data.samples import Found, Sample, numbered
from lapilli.ir.errors import InputError

_IMAGES = ("image", "img", "images")
_LABELS = ("label", "labels", "fine_label", "target")


class _RowGroups:
    """The images of a Parquet file; one row group is kept, so that memory stays bounded."""

    def __init__(self, file: Any, column: str, source: str, channels: int | None) -> None:
        self._file, self._column, self._source, self._channels = file, column, source, channels
        counts = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        self._ends = np.cumsum(counts)
        self._held: tuple[int, list[Any]] = (-1, [])

    def __len__(self) -> int:
        """Return how many rows there are."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def name(self, index: int) -> str:
        """Return the file and the number of the row."""
        return f"image {index} of {self._source}"

    def read(self, index: int) -> Sample:
        """Decode one image."""
        which = int(np.searchsorted(self._ends, index, side="right"))
        if self._held[0] != which:
            self._held = which, _values(self._source, self._read_group, which)
        before = int(self._ends[which - 1]) if which else 0
        cell = self._held[1][index - before]
        data = cell.get("bytes") if isinstance(cell, dict) else cell
        if not isinstance(data, bytes):
            raise ImageError(f"{self.name(index)}: holds no bytes of a picture")
        return open_picture(io.BytesIO(data), self.name(index), self._channels)

    def _read_group(self, which: int) -> Any:
        return self._file.read_row_group(which, columns=[self._column])


def _values(source: str, read: Callable[..., Any], *given: Any) -> list[Any]:
    """Read one column; a damaged page shows only now.

    Raises:
        ImageError: it cannot be read.
    """
    import pyarrow as pa

    try:
        values: list[Any] = read(*given).column(0).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise ImageError(f"{source}: no Parquet file that can be read ({error})") from error
    return values


def parquet(path: Path, channels: int | None, classes: Sequence[str]) -> Found:
    """Find the columns of images and labels of a Parquet file.

    Raises:
        InputError: pyarrow is not installed.
        ImageError: no Parquet file, or no one column of images.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise InputError(f"{path}: Parquet needs pyarrow: pip install 'lapilli[data]'") from error
    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise ImageError(f"{path}: no Parquet file that can be read ({error})") from error
    names = file.schema_arrow.names
    images, labels = ([c for c in known if c in names] for known in (_IMAGES, _LABELS))
    if len(images) != 1 or len(labels) > 1:
        raise ImageError(
            f"{path}: needs one column of {', '.join(_IMAGES)}, and at most one of "
            f"{', '.join(_LABELS)}; it has {', '.join(names)}"
        )
    samples = _RowGroups(file, images[0], str(path), channels)
    if not labels:
        return Found(format="Parquet", samples=samples)
    given = _values(str(path), file.read, labels)
    if None in given:
        raise ImageError(f"{path}: row {given.index(None)} has no label")
    known = _class_names(file.schema_arrow.metadata or {}, labels[0]) or tuple(classes)
    numbers, found = numbered(str(path), given, known)
    return Found(format="Parquet", samples=samples, labels=numbers, classes=found)


def _class_names(metadata: dict[bytes, bytes], column: str) -> tuple[str, ...]:
    """Return the names that `datasets` stores for a column of class numbers."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return tuple(str(name) for name in features[column]["names"])
    except (KeyError, TypeError, ValueError):
        return ()
