"""`.nir` files of strangers: what HDF5 would follow or expand is refused, with a sentence."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lapilli.export.limits import justified
from lapilli.export.malformed import MalformedError
from lapilli.export.nir.read.reader import parse_nir, read_nir
from lapilli.ir.errors import FormatError

nir = pytest.importorskip("nir")
h5py = pytest.importorskip("h5py")


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    one = np.ones(3)
    nodes = {
        "x": nir.Input(np.array([2])),
        "fc": nir.Affine(weight=np.arange(6, dtype=np.int8).reshape(3, 2), bias=np.zeros(3)),
        "lif": nir.LIF(tau=one, r=one, v_leak=one * 0, v_threshold=one),
        "y": nir.Output(np.array([3])),
    }
    graph = nir.NIRGraph(nodes, [("x", "fc"), ("fc", "lif"), ("lif", "y")], metadata={"a": "b"})
    path: Path = tmp_path_factory.mktemp("nir") / "honest.nir"
    nir.write(path, graph)
    return path


@pytest.fixture
def edited(honest: Path, tmp_path: Path) -> Callable[[Callable[[Any], None]], Path]:
    """A copy of the honest file after a change."""

    def edit(change: Callable[[Any], None]) -> Path:
        path = tmp_path / "edited.nir"
        shutil.copy(honest, path)
        with h5py.File(path, "r+") as file:
            change(file)
        return path

    return edit


@pytest.mark.parametrize("compression", [None, "gzip", "lzf", 9])
def test_an_honest_file_is_what_nir_reads(compression: Any, honest: Path, tmp_path: Path) -> None:
    theirs = nir.read(honest)
    nir.write(tmp_path / "x.nir", theirs, compression=compression)
    ours = read_nir(tmp_path / "x.nir")
    assert set(ours.nodes) == set(theirs.nodes)
    assert set(ours.edges) == set(theirs.edges)
    assert ours.nodes["fc"].arrays["weight"].dtype == np.int8
    for name in ("weight", "bias"):
        want = getattr(theirs.nodes["fc"], name)
        assert np.array_equal(ours.nodes["fc"].arrays[name], want)
    assert set(ours.nodes["lif"].arrays) == {"tau", "r", "v_leak", "v_threshold", "v_reset"}


def test_shuffled_and_cut_chunks_are_put_together(
    edited: Callable[[Callable[[Any], None]], Path],
) -> None:
    weight = np.random.default_rng(0).integers(-99, 99, (3, 2)).astype(np.int32)

    def change(file: Any) -> None:
        del file["node/nodes/fc/weight"]
        file["node/nodes/fc"].create_dataset(
            "weight", data=weight, chunks=(2, 2), shuffle=True, compression="gzip"
        )

    read = read_nir(edited(change)).nodes["fc"].arrays["weight"]
    assert np.array_equal(read, weight)


def test_a_file_from_before_v_reset_is_read(
    edited: Callable[[Callable[[Any], None]], Path],
) -> None:
    def change(file: Any) -> None:
        del file["node/nodes/lif/v_reset"]
        file["version"][()] = "1.0.4"

    assert "v_reset" not in read_nir(edited(change)).nodes["lif"].arrays


_FC = "node/nodes/fc"


def _put(file: Any, where: str, **how: Any) -> None:
    if where in file:
        del file[where]
    file.create_dataset(where, **how)


def _external(file: Any) -> None:
    Path(file.filename + ".other").write_bytes(np.full(6, 77.0).tobytes())
    _put(file, f"{_FC}/weight", shape=(3, 2), dtype="f8",
         external=[(file.filename + ".other", 0, 48)])  # fmt: skip


def _external_link(file: Any) -> None:
    with h5py.File(file.filename + ".other", "w") as other:
        other["w"] = np.full((3, 2), 77.0)
    del file[f"{_FC}/weight"]
    file[f"{_FC}/weight"] = h5py.ExternalLink(file.filename + ".other", "/w")


def _virtual(file: Any) -> None:
    layout = h5py.VirtualLayout((3, 2), "f8")
    layout[:] = h5py.VirtualSource(file.filename + ".other", "w", (3, 2))
    del file[f"{_FC}/weight"]
    file.create_virtual_dataset(f"{_FC}/weight", layout)


def _soft(file: Any) -> None:
    del file[f"{_FC}/weight"]
    file[f"{_FC}/weight"] = h5py.SoftLink("/node/nodes/lif/tau")


def _hard(file: Any) -> None:
    del file[f"{_FC}/bias"]
    file[f"{_FC}/bias"] = file["node/nodes/lif/tau"]


def _cycle(file: Any) -> None:
    file["node/metadata/again"] = file["node"]


def _deep(file: Any) -> None:
    at = file["node/metadata"]
    for name in "ABCDEFGHIJKLMNOPQRST":
        at = at.create_group(name)


def _sparse_bomb(file: Any) -> None:
    _put(file, f"{_FC}/weight", shape=(20_000, 20_000), dtype="f4", chunks=(1000, 1000),
         compression="gzip")  # fmt: skip


def _full_bomb(file: Any) -> None:
    _put(file, f"{_FC}/weight", data=np.zeros((4000, 1000), np.int8), chunks=(4000, 1000),
         compression="gzip")  # fmt: skip


def _late_bomb(file: Any) -> None:
    _put(file, f"{_FC}/weight", shape=(3, 2), dtype="f4")


def _deflated_bomb(file: Any) -> None:
    """A chunk of 48 bytes that deflates to 32 MiB."""
    import zlib

    _put(file, f"{_FC}/weight", shape=(3, 2), dtype="f8", chunks=(3, 2), compression="gzip")
    file[f"{_FC}/weight"].id.write_direct_chunk((0, 0), zlib.compress(bytes(32 << 20)))


def _long_text(file: Any) -> None:
    rows = np.full((4000, 2), "x" * 100_000, object)
    _put(file, "node/edges", data=rows, dtype=h5py.string_dtype())


def _one_text_often(file: Any) -> None:
    """65 536 names that are all the same 64 KiB of the file."""
    _put(file, "node/edges", shape=(32768, 2), dtype=h5py.string_dtype())
    file["node/edges"][0] = ["x" * 65536] * 2
    heap = file["node/edges"].id.get_offset()
    file.flush()
    with open(file.filename, "r+b") as raw:
        raw.seek(heap)
        pointer = raw.read(16)
        raw.seek(heap)
        raw.write(pointer * 65536)


def _filter(file: Any) -> None:
    _put(file, f"{_FC}/weight", data=np.zeros((3, 2)), fletcher32=True)


def _set(where: str, value: Any, **how: Any) -> Callable[[Any], None]:
    return lambda file: _put(file, where, data=value, **how)


def _drop(where: str) -> Callable[[Any], None]:
    return lambda file: file.__delitem__(where)


_EDGES = [["x", "fc"], ["fc", "lif"], ["lif", "y"]]


def _edges(*more: list[str]) -> Callable[[Any], None]:
    rows = np.array([*_EDGES, *more], object)
    return _set("node/edges", rows, dtype=h5py.string_dtype())


def _edges_without(source: str) -> Callable[[Any], None]:
    rows = np.array([edge for edge in _EDGES if edge[0] != source], object)
    return _set("node/edges", rows, dtype=h5py.string_dtype())


_BOMB = "bytes of memory, and its size justifies no more than 16777216; if you trust it: --memory-"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (_external, "/node/nodes/fc/weight: its numbers lie in another file"),
        (_external_link, "/node/nodes/fc/weight: a link into another file"),
        (_virtual, "/node/nodes/fc/weight: a virtual dataset"),
        (_soft, "/node/nodes/fc/weight: a soft link"),
        (_hard, "is an object that has another name already"),
        (_cycle, "is an object that has another name already"),
        (_deep, "groups in groups, deeper than 16"),
        (_sparse_bomb, _BOMB),
        (_full_bomb, _BOMB),
        (_late_bomb, "/node/nodes/fc/weight: holds no numbers for its shape [3, 2]"),
        (_deflated_bomb, "/node/nodes/fc/weight: a chunk of 49 bytes, not 48"),
        (_one_text_often, "/node/edges: the file asks for"),
        (_filter, "/node/nodes/fc/weight: filter 3; only gzip, shuffle and lzf"),
        (_set("version", "2.0"), "written by nir 2.0; this lapilli reads version 1"),
        (_set("version", "10.4.1"), "written by nir 10.4.1; this lapilli reads version 1"),
        (_set("version", 3), "/version: expected text"),
        (_drop("node"), "/node: is missing"),
        (_drop("node/edges"), "/node/edges: is missing"),
        (_set("more", 1), "/more: unknown"),
        (_set("node/more", 1), "/node/more: unknown"),
        (_set("node/type", "LIF"), "/node/type: a single 'LIF'"),
        (_set("node/nodes/fc/type", "Softmax"), "node 'fc': unknown type 'Softmax'"),
        (_set("node/nodes/fc/type", "NIRGraph"), "node 'fc': a graph in the graph"),
        (_set("node/nodes/fc/type", 7), "/node/nodes/fc/type: expected text"),
        (_set("node/nodes/fc/scale", 1.0), "/node/nodes/fc/scale: unknown; expected type, weight"),
        (_drop("node/nodes/lif/tau"), "/node/nodes/lif/tau: is missing"),
        (_set("node/nodes/lif/tau", [np.nan, 1, 1]), "node 'lif': tau: a number that is not fin"),
        (_set("node/nodes/lif/r", [np.inf, 1, 1]), "node 'lif': r: a number that is not finite"),
        (_set("node/nodes/lif/r", "r"), "node 'lif': r: expected numbers"),
        (_set("node/nodes/lif/r", [1j]), "/node/nodes/lif/r: values of type"),
        (_set(f"{_FC}/weight", np.full((3, 2), np.nan)), "node 'fc': weight: a number that is not"),
        (_set(f"{_FC}/weight", np.zeros(3)), "node 'fc': weight of shape [3]; expected 2 axes"),
        (_set(f"{_FC}/bias", np.zeros(4)), "node 'fc': bias of shape [4] does not fit"),
        (_set(f"{_FC}/bias", h5py.Empty("f8")), "/node/nodes/fc/bias: an empty dataspace"),
        (_set(f"{_FC}/bias", np.zeros((0,))), "node 'fc': bias: no numbers"),
        (_set("node/nodes/x/shape", [-1]), "node 'x': a value of shape [-1]"),
        (_set("node/nodes/x/shape", [1 << 20, 1 << 20]), "node 'x': a value of shape"),
        (_set("node/nodes/x/shape", [1.5]), "node 'x': shape: expected small whole numbers"),
        (_edges(["x", "ghost"]), "edge 'x' -> 'ghost': no such node"),
        (_edges(["x", "fc"]), "edge 'x' -> 'fc': listed twice"),
        (_edges_without("x"), "node 'fc': no edge leads to it"),
        (_edges_without("lif"), "node 'lif': no edge leads on from it"),
        (_edges(["y", "fc"]), "node 'y': an edge on the wrong side"),
        (_set("node/edges", np.array([["x", "fc"]], object), dtype=h5py.string_dtype()),
         "node 'fc': no edge leads on from it"),
        (_set("node/edges", np.zeros((3, 2))), "/node/edges: expected rows of two names"),
        (_set("node/metadata/lapilli", "{"), "metadata: what should be lapilli's is no JSON"),
        (_set("node/metadata/lapilli", "[]"), "metadata: what should be lapilli's is no object"),
        (_set("node/metadata/lapilli", "[" * 100_000), "metadata: what should be lapilli's is no"),
    ],
)  # fmt: skip
def test_an_edited_file_is_refused(
    change: Callable[[Any], None], sentence: str, edited: Callable[[Callable[[Any], None]], Path]
) -> None:
    data = edited(change).read_bytes()
    with pytest.raises(MalformedError) as caught:
        parse_nir(data, justified(len(data)))
    message = str(caught.value)
    assert sentence in message
    assert "\n" not in message
    assert len(message) < 400


@pytest.mark.parametrize("change", [_external, _external_link, _sparse_bomb, _cycle])
def test_a_refusal_comes_out_of_the_worker(
    change: Callable[[Any], None], edited: Callable[[Callable[[Any], None]], Path]
) -> None:
    path = edited(change)
    with pytest.raises(FormatError, match=r"^\S+: /node\S*: ") as caught:
        read_nir(path)
    assert caught.value.path == path


def test_who_trusts_a_file_can_give_it_more(
    edited: Callable[[Callable[[Any], None]], Path],
) -> None:
    path = edited(_full_bomb)
    assert justified(path.stat().st_size) == 16 << 20
    with pytest.raises(FormatError, match="bias of shape"):  # read, and then found not to fit
        read_nir(path, memory_limit=64 << 20)


@pytest.mark.parametrize(
    "data", [b"", b"\x89HDF\r\n\x1a\n", b"\x89HDF\r\n\x1a\n" * 999, b"{}" * 99]
)
def test_another_format_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.nir").write_bytes(data)
    with pytest.raises(FormatError, match="damaged, or no HDF5 file"):
        read_nir(tmp_path / "x.nir")


def test_a_missing_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "no.nir"):
        with pytest.raises(FormatError, match="cannot be read"):
            read_nir(path)


def test_a_library_that_does_not_end_is_ended(
    honest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lapilli.export.hdf5 import process as hdf5_worker

    monkeypatch.setattr(hdf5_worker, "_CODE", "while True: pass")
    monkeypatch.setattr(hdf5_worker, "_PATIENCE", 1.0)
    with pytest.raises(FormatError, match="did not come to an end"):
        read_nir(honest)
