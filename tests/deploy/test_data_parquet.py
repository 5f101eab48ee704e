"""Data sets in several Parquet files: one behind the other, of one split, and none missing."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

pa = pytest.importorskip("pyarrow")

import pyarrow.parquet as pq  # noqa: E402
from PIL import Image  # noqa: E402

from lapilli.deploy.data.pictures import ImageError  # noqa: E402
from lapilli.deploy.data.reading import How  # noqa: E402
from lapilli.deploy.data.source import open_data  # noqa: E402

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 1, 6, 6)).astype(np.uint8)
LABELS = [3, 1, 0, 2, 2, 1, 0, 3, 1]


def write(
    path: Path, rows: Sequence[int], *, group: int = 2, column: str = "label", names: str = "abcd"
) -> None:
    cells = []
    for row in rows:
        buffer = io.BytesIO()
        Image.fromarray(PIXELS[row, 0]).save(buffer, "PNG")
        cells.append({"bytes": buffer.getvalue(), "path": None})
    table = pa.table({"image": cells, column: [LABELS[row] for row in rows]})
    facts = {"info": {"features": {column: {"names": list(names)}}}}
    table = table.replace_schema_metadata({"huggingface": json.dumps(facts)})
    path.parent.mkdir(exist_ok=True)
    pq.write_table(table, path, row_group_size=group)


def test_shards_are_one_set(tmp_path: Path) -> None:
    for number, rows in enumerate(([0, 1, 2], [3], [4, 5, 6, 7, 8])):
        write(tmp_path / f"test-{number:05d}-of-00003.parquet", rows, group=number + 1)
        write(tmp_path / f"train-{number:05d}-of-00003-0a1b.parquet", [*rows, 0])
    data = open_data(tmp_path)
    assert data.labels is not None
    assert (data.labels.tolist(), data.classes) == (LABELS, tuple("abcd"))
    assert np.array_equal(data.read(range(9)), PIXELS)
    assert np.array_equal(data.read([8, 0, 3, 2, 7]), PIXELS[[8, 0, 3, 2, 7]])
    assert [data.name(i) for i in (2, 3, 8)] == [
        f"image {row} of {tmp_path}/test-0000{shard}-of-00003.parquet"
        for row, shard in ((2, 0), (0, 1), (4, 2))
    ]
    assert len(open_data(tmp_path, How(test=False))) == 12


def test_shards_of_any_name_are_taken_in_order(tmp_path: Path) -> None:
    write(tmp_path / "b.parquet", [2, 3])
    write(tmp_path / "a.parquet", [8])
    assert np.array_equal(open_data(tmp_path).read(range(3)), PIXELS[[8, 2, 3]])


@pytest.mark.parametrize(
    ("files", "why"),
    [
        (["test-00000-of-00002"], "holds 1 of 2 files of the split"),
        (["one-0-of-1", "two-0-of-1"], "holds one, two; name the file that is meant"),
        (["test-0-of-1", "validation-0-of-1"], "holds test, validation; name the file"),
        (["train-0-of-1", "a"], "holds others, train; name the file"),
    ],
)
def test_what_is_missing_or_meant_is_asked(tmp_path: Path, files: list[str], why: str) -> None:
    for name in files:
        write(tmp_path / f"{name}.parquet", [0])
    with pytest.raises(ImageError, match=why):
        open_data(tmp_path)


def test_shards_that_differ_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", [0, 1])
    write(tmp_path / "b.parquet", [0], names="abdc")
    with pytest.raises(ImageError, match=r"b\.parquet: has other labels, or names of classes"):
        open_data(tmp_path)
    write(tmp_path / "b.parquet", [0], column="fine_label")
    with pytest.raises(ImageError, match=r"b\.parquet: has other labels, or names of classes"):
        open_data(tmp_path)
    (tmp_path / "b.parquet").write_bytes(b"PAR1")
    with pytest.raises(ImageError, match=r"b\.parquet: no Parquet file that can be read"):
        open_data(tmp_path)
