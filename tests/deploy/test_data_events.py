"""Events as people have them: binned by hand, by count and by time."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lapilli.deploy.cli.images import training_images
from lapilli.deploy.data.binning import Binning
from lapilli.deploy.data.events import read_events
from lapilli.deploy.data.pictures import ImageError
from lapilli.deploy.data.reading import How
from lapilli.deploy.data.source import open_data

Bytes = npt.NDArray[np.uint8]


def n_mnist(events: list[tuple[int, int, int, int]]) -> bytes:
    return b"".join(bytes((x, y, p << 7 | t >> 16, t >> 8 & 255, t & 255)) for x, y, t, p in events)


EVENTS = [(0, 0, 0, 1), (1, 0, 10, 0), (1, 0, 20, 0), (33, 33, 30, 1), (2, 5, 100, 1)]


def frames(by: str) -> Bytes:
    """By hand: two frames; by count 2 and 3 events; by time 4 until t = 50, and the last."""
    out = np.zeros((2, 2, 34, 34), np.uint8)
    split = 2 if by == "count" else 4
    for i, (x, y, _, p) in enumerate(EVENTS):
        out[int(i >= split), p, y, x] += 1
    return out


def test_recordings_without_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    structured = np.array(EVENTS, [(n, "<i8") for n in "xytp"])
    np.save(tmp_path / "b.npy", structured)
    columns: dict[str, Any] = {n: structured[n] for n in "xytp"}
    np.savez(tmp_path / "a.npz", **columns)
    np.savez(tmp_path / "c.npz", other=np.zeros(3))
    (tmp_path / "d.npz").write_bytes(b"none")
    how = How(binning=Binning(frames=2, sensor=(34, 34)))
    data = open_data(tmp_path, how)
    assert (len(data), data.labels, data.found.mixed) == (2, None, False)
    for source in (tmp_path / "a.npz", tmp_path / "b.npy"):
        alone = open_data(source, how)
        assert (len(alone), alone.name(0)) == (1, str(source))
        assert np.array_equal(alone.read([0])[0], frames("count"))
    with pytest.raises(ImageError, match="events need --frames"):
        open_data(tmp_path / "a.npz")
    training_images(str(tmp_path), how)
    assert "frames hold equal numbers of events; --bin-by time" in capsys.readouterr().err
    training_images(str(tmp_path), replace(how, binning=replace(how.binning, by="time")))
    assert "--bin-by" not in capsys.readouterr().err


@pytest.mark.parametrize("by", ["count", "time"])
@pytest.mark.parametrize("kind", ["bin", "npy", "npz"])
def test_events(kind: str, by: str, tmp_path: Path) -> None:
    path = tmp_path / "7" / f"a.{kind}"
    path.parent.mkdir()
    structured = np.array(EVENTS, [(n, "<i8") for n in "xytp"])
    if kind == "bin":
        path.write_bytes(n_mnist(EVENTS))
    elif kind == "npy":
        np.save(path, structured)
    else:
        np.savez(path, x=structured["x"], y=structured["y"], t=structured["t"], p=structured["p"])
    data = open_data(tmp_path, How(binning=Binning(frames=2, by=by, sensor=(34, 34))))
    assert (data.shape, data.classes) == ((2, 2, 34, 34), ("7",))
    assert np.array_equal(data.read([0])[0], frames(by))
    assert data.describe()["bin_by"] == by
    with pytest.raises(ImageError, match="events need --frames"):
        open_data(tmp_path)
    with pytest.raises(ImageError, match="has x = 33, and --sensor is 34x30"):
        open_data(tmp_path, How(binning=Binning(frames=2, sensor=(34, 30))))
    with pytest.raises(ImageError, match="5 events make no 6 frames"):
        open_data(tmp_path, How(binning=Binning(frames=6, by=by, sensor=(34, 34))))


def test_the_bits_of_n_mnist(tmp_path: Path) -> None:
    """Times of 23 bits; each mark in row 240 adds 2^13 to all that follows, and is no event."""
    written = [(1, 2, 5, 1), (0, 240, 0, 0), (3, 4, 70000, 0), (0, 240, 0, 0), (5, 6, 8388607, 1)]
    (tmp_path / "a.bin").write_bytes(n_mnist(written))
    got = read_events(tmp_path / "a.bin")
    assert got.t.tolist() == [5, 70000 + 8192, 8388607 + 16384]
    assert (got.x.tolist(), got.y.tolist(), got.p.tolist()) == ([1, 3, 5], [2, 4, 6], [1, 0, 1])


@pytest.mark.parametrize(
    ("column", "sentence"),
    [("p", "has p = -1, and polarities are 0 and 1"), ("t", "not in the order of time")],
)
def test_events_of_other_conventions(column: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    columns: dict[str, Any] = {name: np.zeros(3, np.int64) for name in "xyp"} | {"t": np.arange(3)}
    how = How(binning=Binning(frames=2, sensor=(4, 4)))
    np.savez(tmp_path / "0" / "a.npz", **{**columns, column: np.array([0, 1, -1])})
    with pytest.raises(ImageError, match=sentence):
        open_data(tmp_path, how)


def test_events_larger_than_they_are(tmp_path: Path) -> None:
    """Neither a header that says 2^60 numbers nor a sensor of 10^10 pixels takes memory."""
    (tmp_path / "0").mkdir()
    columns: dict[str, Any] = {name: np.arange(3) for name in "xyt"} | {"p": np.zeros(3, np.int64)}
    path = tmp_path / "0" / "a.npz"
    np.savez(path, **columns)
    with pytest.raises(ImageError, match="too many pixels to hold"):
        open_data(tmp_path, How(binning=Binning(frames=2, sensor=(99999, 99999))))
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<i8", "fortran_order": False, "shape": (1 << 60,)}
    )
    with zipfile.ZipFile(path, "a") as archive:
        names = archive.namelist()
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, header.getvalue())
    with pytest.raises(ImageError, match=r"'x' says .*, and holds another number of bytes"):
        open_data(tmp_path, How(binning=Binning(frames=2, sensor=(4, 4))))


def test_the_clock_of_n_mnist_goes_round(tmp_path: Path) -> None:
    """Two marks: 2 * 2^13 is added to what follows, so that the time splits 3 to 1."""
    events = [
        (0, 0, 0, 1),
        (0, 0, 1, 1),
        (0, 0, 2, 1),
        (0, 240, 3, 0),
        (0, 240, 3, 0),
        (0, 0, 3, 1),
    ]
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "a.bin").write_bytes(n_mnist(events))
    how = How(binning=Binning(frames=2, by="time"))
    assert open_data(tmp_path, how).read([0])[0, :, 1, 0, 0].tolist() == [3, 1]
    (tmp_path / "0" / "a.bin").write_bytes(n_mnist(events)[:-1])
    with pytest.raises(ImageError, match="29 bytes are no whole number of events"):
        open_data(tmp_path, how)
    (tmp_path / "0" / "a.bin").write_bytes(n_mnist([(0, 0, 0, 1)] * 600))
    with pytest.raises(ImageError, match="300 events in one pixel"):
        open_data(tmp_path, How(binning=Binning(frames=2)))
