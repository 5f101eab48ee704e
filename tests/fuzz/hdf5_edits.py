"""Random edits of a HDF5 file: links, types, filters, sizes, other files."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, TypeAlias

import h5py
import numpy as np
from fuzz.json_edits import edit_json

Rng: TypeAlias = np.random.Generator


def damaged_hdf5(data: bytes, rng: Rng, words: Sequence[str]) -> bytes:
    """A few edits; `words` are texts that may stand in such a file."""
    file = io.BytesIO(data)
    with h5py.File(file, "r+") as h5:
        for _ in range(rng.integers(1, 4)):
            places: list[str] = []
            h5.visit(places.append)
            if not places:
                break
            at, other = (places[int(i)] for i in rng.integers(0, len(places), 2))
            with suppress(
                OSError, RuntimeError, LookupError, TypeError, ValueError
            ):  # edited before
                _edit_hdf5(h5, at, other, rng, words)
    return file.getvalue()


_TYPES = ("i1", "u1", "<i4", ">i4", "i8", "f2", "<f4", ">f8", "c8", "V3", "S4", "?")


def _array(rng: Rng) -> Any:
    shape = tuple(int(n) for n in rng.integers(0, 4, rng.integers(0, 5)))
    values = rng.choice([0, 1, -1, 0.5, 2e-4, 1e-4, np.nan, np.inf, 1e300, 127], shape)
    with np.errstate(all="ignore"):
        kind = np.dtype(_TYPES[rng.integers(len(_TYPES))])
        return np.zeros(shape, kind) if kind.kind == "V" else np.asarray(values).astype(kind)


def _edit_hdf5(h5: Any, at: str, other: str, rng: Rng, words: Sequence[str]) -> None:
    how: dict[str, Any] = {}
    match rng.integers(12):
        case 0:
            del h5[at]
            return
        case 1:
            del h5[at]
            h5[at] = h5py.SoftLink("/" + other)
            return
        case 2:
            del h5[at]
            h5[at] = h5py.ExternalLink("/etc/hostname", "/x")
            return
        case 3:
            if not other.startswith(at):
                kept = h5[other]
                del h5[at]
                h5[at] = kept
            return
        case 4:
            how = {"shape": (2, 2), "dtype": "u1", "external": [("/etc/hostname", 0, 4)]}
        case 5:
            layout = h5py.VirtualLayout((2,), "f8")
            layout[:] = h5py.VirtualSource("/etc/hostname", "x", (2,))
            del h5[at]
            h5.create_virtual_dataset(at, layout)
            return
        case 6:
            side = int(rng.choice([10, 1000, 100_000]))
            how = {"shape": (side, side), "dtype": "f4", "chunks": (10, 10), "compression": "gzip"}
        case 7:
            ways: list[dict[str, Any]] = [
                {"compression": "lzf"},
                {"fletcher32": True},
                {"scaleoffset": 3},
                {"shuffle": True, "compression": 9},
            ]
            way = ways[int(rng.integers(4))]
            how = {"data": np.arange(12.0).reshape(3, 4), "chunks": (2, 3), **way}
        case 8:
            how = {"data": words[int(rng.integers(len(words)))], "dtype": h5py.string_dtype()}
        case 9:
            h5[at].attrs["odd"] = _array(rng)
            return
        case 10 if "node/metadata/lapilli" in h5:
            facts = json.loads(h5["node/metadata/lapilli"][()])
            edit_json(facts, rng)
            text = json.dumps(facts)
            del h5["node/metadata/lapilli"]
            h5.create_dataset("node/metadata/lapilli", data=text, dtype=h5py.string_dtype())
            return
        case _:
            how = {"data": _array(rng)}
    del h5[at]
    h5.create_dataset(at, **how)
