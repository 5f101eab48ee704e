"""The folder of results: options, files of each shard, a summary; each is whole or absent."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lapilli.deploy.validation.layers import Row
from lapilli.deploy.validation.shard import Result
from lapilli.export.atomic import make_folder
from lapilli.ir.errors import FormatError, InputError, OutputError

_ANSWERS = pa.list_(pa.int64())
_KIND = pa.struct({"kind": pa.string(), "compared": pa.int64(), "mismatches": pa.int64()})
SAMPLES = pa.schema(
    {
        "sample": pa.int64(),
        "label": pa.int64(),
        "float": _ANSWERS,  # classes of the largest logits, the largest first; at most five
        "pytorch": _ANSWERS,
        "integer": _ANSWERS,
        "compared": pa.int64(),  # values, with PyTorch's
        "mismatches": pa.int64(),
        "float_mismatches": pa.int64(),  # spikes that differ from those of the model in float
        "divergence": pa.string(),  # the first, as JSON
        "unreadable": pa.string(),  # why the image was left out
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
        "kinds": pa.list_(_KIND),  # the same, of currents, membranes, spikes, ... apart
        "step_events": pa.list_(pa.int64()),  # events at each time step
        "float_events": pa.int64(),
        "float_compared": pa.int64(),
        "float_mismatches": pa.int64(),
    }
)
_SCHEMAS = {"samples": SAMPLES, "layers": LAYERS}
_FOLDERS = ("samples", "layers", "times", "locks")
_FILES = ("options.json", "summary.json")
_LONG = 40  # characters of a value in a message
_WRITTEN = {*_FOLDERS, *_FILES, *(f"{name}.part" for name in _FILES)}


def stored_batch(folder: Path) -> int | None:
    """Say how many images at a time a folder's results were made with; None if there are none."""
    try:
        batch = json.loads((folder / "options.json").read_bytes())["batch"]
    except (OSError, ValueError, TypeError, KeyError):  # whatever it is, `Store` says it
        return None
    return batch if isinstance(batch, int) and batch > 0 else None


def stored_with_model(folder: Path) -> bool:
    """Say whether a folder's results are comparisons with a model; False if there are none."""
    try:
        return json.loads((folder / "options.json").read_bytes())["model"] is not None
    except (OSError, ValueError, TypeError, KeyError):  # as above
        return False


def _differences(
    stored: Mapping[str, Any], asked: Mapping[str, Any], at: str = ""
) -> Iterator[str]:
    """Say where options differ, down to the innermost name."""
    for key in sorted({*stored, *asked}):
        have, want = stored.get(key), asked.get(key)
        if isinstance(have, dict) and isinstance(want, Mapping):
            yield from _differences(have, want, f"{at}{key}.")
        elif have != want:
            yield f"{at}{key}: {_short(have)}, asked {_short(want)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONG else f"{text[:_LONG]}..."


class Store:
    """A folder of results of one validation.

    Raises:
        InputError: it holds results of other options, which are named; or other things.
        OutputError: it cannot be written.
        FormatError: its options are damaged.
    """

    def __init__(self, folder: Path, options: Mapping[str, Any]) -> None:
        self.folder = folder
        make_folder(folder)
        own = {entry.name for entry in os.scandir(folder)}
        if "options.json" not in own and not own <= _WRITTEN:
            raise InputError(f"{folder} holds no results, but other files: name another folder")
        for name in _FOLDERS:
            make_folder(folder / name)
        self._require(options)

    def _require(self, options: Mapping[str, Any]) -> None:
        path = self.folder / "options.json"
        with self._lock("options", wait=True):
            if not path.exists():
                self._put(path, _text(options))
        try:
            stored = json.loads(path.read_bytes())
            odd = list(_differences(stored, options))
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise FormatError(path, f"holds no options ({error}); name another folder") from error
        if options.get("model") is None and stored.get("model") is not None:
            raise InputError(
                f"{self.folder} holds comparisons with a model, and none is named now: give "
                "--checkpoint, of a class of your own --module, too; or name another folder"
            )
        if odd:
            raise InputError(
                f"{self.folder} holds results of other options ({'; '.join(odd)}): repeat them, or "
                "name another folder"
            )

    def is_done(self, shard: int) -> bool:
        """Return whether both files of a shard are there: samples are written last."""
        return self._path("samples", shard).exists() and self._path("layers", shard).exists()

    @contextmanager
    def locked(self, shard: int) -> Iterator[bool]:
        """Hold a shard, or say False where another process does; the lock dies with its process."""
        with self._lock(f"{shard:06}", wait=False) as mine:
            yield mine

    def write(self, shard: int, result: Result) -> None:
        """Write what was found of a shard, which the caller holds.

        Raises:
            OutputError: the system refuses (disk full); no part of a file is left in its place.
        """
        self._put(self.folder / "times" / f"{shard:06}.json", _text(result.run))
        for kind, rows in (("layers", result.layers), ("samples", result.samples)):
            sink = pa.BufferOutputStream()
            pq.write_table(pa.Table.from_pylist(rows, _SCHEMAS[kind]), sink)
            self._put(self._path(kind, shard), sink.getvalue().to_pybytes())

    def write_summary(self, facts: Mapping[str, Any]) -> None:
        """Write summary.json."""
        with self._lock("summary", wait=True):
            self._put(self.folder / "summary.json", _text(facts))

    def read(self, kind: str, shard: int) -> list[Row]:
        """Return the rows of a shard's "samples" or "layers".

        Raises:
            FormatError: the file is damaged; says to remove it.
        """
        path = self._path(kind, shard)
        try:
            rows: list[Row] = pq.read_table(path, schema=_SCHEMAS[kind]).to_pylist()
        except (pa.ArrowException, OSError) as error:
            raise FormatError(path, f"cannot be read ({error}): remove it and run again") from error
        return rows

    def _path(self, kind: str, shard: int) -> Path:
        return self.folder / kind / f"{shard:06}.parquet"

    @contextmanager
    def _lock(self, name: str, *, wait: bool) -> Iterator[bool]:
        path = self.folder / "locks" / name
        try:
            file = open(path, "ab")  # noqa: SIM115
        except OSError as error:
            raise OutputError(path, f"cannot be written ({error.strerror})") from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
            except OSError as error:
                raise OutputError(path, f"cannot be locked ({error.strerror})") from error
            else:
                yield True

    def _put(self, path: Path, data: bytes) -> None:
        """Put a file in its place when it is whole; the caller holds the lock that is for it."""
        part = path.with_name(f"{path.name}.part")  # what a killed process left is written over
        try:
            with open(part, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise OutputError(
                path,
                f"cannot be written ({error.strerror}): free some space, and the same command "
                "goes on",
            ) from error


def _text(facts: Mapping[str, Any]) -> bytes:
    return (json.dumps(facts, indent=2, sort_keys=True) + "\n").encode()
