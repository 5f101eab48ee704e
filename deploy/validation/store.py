"""The folder of results: its options, and two Parquet files a shard, each whole or not there."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lapilli.export.atomic import make_folder, write_atomic
from lapilli.ir.errors import FormatError, InputError, OutputError

_ANSWERS = pa.list_(pa.int64())
SAMPLES = pa.schema(
    {
        "sample": pa.int64(),
        "label": pa.int64(),
        "float": _ANSWERS,  # classes of the largest logits, the largest first; at most five
        "pytorch": _ANSWERS,
        "integer": _ANSWERS,
        "compared": pa.int64(),
        "mismatches": pa.int64(),
        "divergence": pa.string(),
    }
)
LAYERS = pa.schema(
    {
        "node": pa.string(),
        "events": pa.int64(),
        "most": pa.int64(),  # events if every neuron fired all it can at each step
        "lowest": pa.int64(),  # membrane before reset, where the simulator records it
        "highest": pa.int64(),
        "compared": pa.int64(),
        "mismatches": pa.int64(),
    }
)
Row = dict[str, Any]


class Store:
    """A folder of results of one validation.

    Raises:
        InputError: it holds results of other options; names them.
        OutputError: it cannot be written.
    """

    def __init__(self, folder: Path, options: Mapping[str, Any]) -> None:
        self.folder = folder
        for place in (folder, *(folder / name for name in ("samples", "layers", "locks"))):
            make_folder(place)
        self._require(options)

    def _require(self, options: Mapping[str, Any]) -> None:
        path = self.folder / "options.json"
        if not path.exists():
            write_atomic(path, (json.dumps(options, indent=2, sort_keys=True) + "\n").encode())
        try:
            stored = json.loads(path.read_bytes())
            odd = sorted(k for k in {*stored, *options} if stored.get(k) != options.get(k))
        except (ValueError, TypeError, AttributeError) as error:
            raise FormatError(path, f"holds no options ({error}); name another folder") from error
        if odd:
            told = "; ".join(f"{k}: {stored.get(k)!r}, asked {options.get(k)!r}" for k in odd)
            raise InputError(
                f"{self.folder} holds results of other options ({told}): repeat them, or name "
                "another folder"
            )

    def is_done(self, shard: int) -> bool:
        """Return whether both files of a shard are there: samples are written last."""
        return self._path("samples", shard).exists() and self._path("layers", shard).exists()

    @contextmanager
    def locked(self, shard: int) -> Iterator[bool]:
        """Hold a shard, or say False where another process does; the lock dies with its process."""
        path = self.folder / "locks" / f"{shard:06}"
        try:
            file = open(path, "ab")  # noqa: SIM115
        except OSError as error:
            raise OutputError(path, f"cannot be written ({error.strerror})") from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True

    def write(self, shard: int, samples: Sequence[Row], layers: Sequence[Row]) -> None:
        """Write what was found of a shard, which the caller holds.

        Raises:
            OutputError: the system refuses (disk full); no part of a file is left in its place.
        """
        for kind, rows, schema in (("layers", layers, LAYERS), ("samples", samples, SAMPLES)):
            path = self._path(kind, shard)
            part = path.with_suffix(".part")  # what a killed process left is written over
            try:
                pq.write_table(pa.Table.from_pylist(list(rows), schema), part)
                os.replace(part, path)
            except OSError as error:
                part.unlink(missing_ok=True)
                raise OutputError(path, f"cannot be written ({error}); free some space") from error

    def read(self, kind: str, shard: int) -> list[Row]:
        """Return the rows of a shard's "samples" or "layers".

        Raises:
            FormatError: the file is damaged; says to remove it.
        """
        path = self._path(kind, shard)
        try:
            rows: list[Row] = pq.read_table(path).to_pylist()
        except (pa.ArrowException, OSError) as error:
            raise FormatError(path, f"cannot be read ({error}): remove it and run again") from error
        return rows

    def _path(self, kind: str, shard: int) -> Path:
        return self.folder / kind / f"{shard:06}.parquet"
