"""Honest data sets of each format, small, and damage to what they pack."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from lapilli.deploy.data.binning import Binning
from lapilli.deploy.data.reading import How
from lapilli.deploy.data.source import open_data

Rng: TypeAlias = np.random.Generator
# Each kind, and where its file lies: what lies in a folder "0" is a set of one class.
PLACES = {
    "parquet": "x.parquet",
    "cifar": "data_batch_1.bin",
    "pickle": "data_batch_1",
    "idx": "x-images-idx3-ubyte",
    "idx-gz": "x-images-idx3-ubyte.gz",
    "npz": "x.npz",
    "npy": "x.npy",
    "csv": "labels.csv",
    "n-mnist": "0/x.bin",
    "events-npz": "0/x.npz",
    "events-npy": "0/x.npy",
}
_HOW = How(binning=Binning(frames=2, by="time", sensor=(8, 8)))
_MOST = 8  # samples that are read of a set
_WORDS = (
    "label",
    "file",
    "../x",
    "/",
    "0.png",
    "-1",
    "99999999999999999999",
    '"',
    ",",
    "\n",
    "é",
    "",
)


def read_data(path: Path) -> None:
    """Open a set of one file, and read its samples."""
    folder = path.parent.parent if path.parent.name == "0" else path.parent
    events = path.parent.name == "0"
    source = folder if events or path.suffix == ".csv" else path
    data = open_data(source, _HOW if events else How())
    data.read(range(min(len(data), _MOST)))
    assert data.labels is None or len(data.labels) == len(data)
    data.describe()


def honest_data(kind: str, folder: Path) -> list[bytes]:
    """Files of this format; the pictures that a table names are written into the folder."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (4, 3, 8, 8)).astype(np.uint8)
    records = rng.integers(0, 10, (3, 3073)).astype(np.uint8)
    match kind:
        case "parquet":
            return [_parquet(pixels, labels) for labels in ([0, 1, 1, 0], None)]
        case "cifar":
            return [records.tobytes()]
        case "pickle":
            content = {b"data": records[:, 1:], b"labels": records[:, 0].tolist()}
            return [pickle.dumps(content, protocol) for protocol in (2, 4)]
        case "idx":
            return [bytes((0, 0, 8, 3)) + struct.pack(">3I", 4, 8, 8) + pixels[:, 0].tobytes()]
        case "idx-gz":
            return [gzip.compress(honest_data("idx", folder)[0], mtime=0)]
        case "npz":
            return [_npz(how, images=pixels, labels=np.arange(4)) for how in (0, 8)]
        case "npy":
            return [_npy(pixels), _npy(pixels[:, 0])]
        case "csv":
            for number, image in enumerate(pixels):
                Image.fromarray(image[0]).save(folder / f"{number}.png")
            return [_table("ab").encode(), _table("01").encode("utf-8-sig")]
        case "n-mnist":
            return [_events(packed=True)]
        case "events-npz":
            return [_npz(8, **{n: _events()[n] for n in "xytp"})]
        case _:
            return [_npy(_events())]


def repacked(kind: str, data: bytes, rng: Rng, flip: Callable[[bytes, Rng], bytes]) -> bytes:
    """What a format packs, damaged, and packed again: sums and sizes fit."""
    if kind == "idx-gz":
        return gzip.compress(flip(gzip.decompress(data), rng), mtime=0)
    if kind in ("npz", "events-npz"):
        return _rezipped(data, rng, flip)
    if kind == "csv":
        cells = data.decode("utf-8-sig").replace("\n", ",\n,").split(",")
        for _ in range(int(rng.choice([1, 1, 2, 8]))):
            cells[rng.integers(len(cells))] = _WORDS[rng.integers(len(_WORDS))]
        return ",".join(cells).replace(",\n,", "\n").encode()
    if kind == "parquet":  # its structure lies at the end, and its length says where
        length = int.from_bytes(data[-8:-4], "little")
        footer = flip(data[-8 - length : -8], rng)
        return data[: -8 - length] + footer + len(footer).to_bytes(4, "little") + b"PAR1"
    head = data[:128]
    return _numbers_changed(head, rng) + data[128:]


def _numbers_changed(head: bytes, rng: Rng) -> bytes:
    """Digits of the text in a header, or its numbers of four bytes."""
    raw = bytearray(head)
    digits = [i for i, b in enumerate(raw) if chr(b).isdigit()]
    if digits and rng.random() < 0.7:
        raw[digits[rng.integers(len(digits))]] = ord("0123456789-"[rng.integers(11)])
        return bytes(raw)
    at = 4 * int(rng.integers(len(raw) // 4))
    raw[at : at + 4] = struct.pack(">I", int(rng.choice([0, 1, 3, 255, 1 << 16, (1 << 32) - 1])))
    return bytes(raw)


def _rezipped(data: bytes, rng: Rng, flip: Callable[[bytes, Rng], bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        entries = old.infolist()
        chosen = int(rng.integers(len(entries)))
        for number, entry in enumerate(entries):
            content = old.read(entry)
            if number == chosen:
                content = (
                    flip(content, rng)
                    if rng.random() < 0.3
                    else _numbers_changed(content[:128], rng) + content[128:]
                )
            new.writestr(entry, content)
    return out.getvalue()


def _table(classes: str) -> str:
    return "file,label\n" + "".join(f"{n}.png,{classes[n % 2]}\n" for n in range(4))


def _parquet(pixels: np.ndarray[Any, Any], labels: list[int] | None) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pa.set_cpu_count(1)  # no threads: each would map its own memory
    cells = []
    for image in pixels:
        buffer = io.BytesIO()
        Image.fromarray(image[0]).save(buffer, "PNG")
        cells.append({"bytes": buffer.getvalue(), "path": None})
    table = pa.table({"image": cells} | ({} if labels is None else {"label": labels}))
    facts = {"info": {"features": {"label": {"names": ["a", "b"]}}}}
    table = table.replace_schema_metadata({"huggingface": json.dumps(facts)})
    out = io.BytesIO()
    pq.write_table(table, out, row_group_size=2)
    return out.getvalue()


def _npy(array: np.ndarray[Any, Any]) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def _npz(compression: int, **arrays: np.ndarray[Any, Any]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, array in arrays.items():
            archive.writestr(f"{name}.npy", _npy(array))
    return out.getvalue()


def _events(*, packed: bool = False) -> Any:
    rng = np.random.default_rng(1)
    events = np.zeros(40, [("x", "u1"), ("y", "u1"), ("t", "i8"), ("p", "u1")])
    for name, most in (("x", 8), ("y", 8), ("t", 9000), ("p", 2)):
        events[name] = rng.integers(0, most, 40)
    events["t"].sort()
    if not packed:
        return events
    words = [
        bytes(
            (e["x"], e["y"], e["p"] << 7 | int(e["t"]) >> 16, int(e["t"]) >> 8 & 255, e["t"] & 255)
        )
        for e in events
    ]
    return b"".join(words)
