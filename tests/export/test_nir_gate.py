"""`check` asks first what `nir.read` asks: files of many kinds, compared with what it does."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lapilli.export.malformed import MalformedError
from lapilli.export.nir.check.check import check_file, check_read
from lapilli.export.nir.check.frameworks import IMPORTERS, Verdict
from lapilli.export.nir.read.reader import parse_nir

nir = pytest.importorskip("nir")
h5py = pytest.importorskip("h5py")

_MOST = 1 << 24
Change = Callable[[Any], None]


def _refused_by_nir(data: bytes) -> str | None:
    """What `nir.read` raises on a file, if anything."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            nir.read(io.BytesIO(data))
        except Exception as error:
            return f"{type(error).__name__}: {error}"
    return None


def _refused_by_us(data: bytes) -> str | None:
    """Why `check` says that a file runs nowhere, if it does; the same for every framework."""
    try:
        file = parse_nir(data, _MOST)
    except MalformedError as error:
        return str(error)
    reasons = set()
    for framework in IMPORTERS:
        found = check_read(file, framework)
        assert found
        at_gate = [f for f in found if "nir.read" in f.reason]
        assert not at_gate or all(f.verdict is Verdict.REFUSED for f in found)
        reasons.add("; ".join(f"{f.node}: {f.reason}" for f in at_gate))
    (reason,) = reasons
    return reason or None


def _written(nodes: Mapping[str, Any], edges: list[tuple[str, str]] | None = None) -> bytes:
    """A file as `nir.write` writes it, without the fields that are None, which it cannot."""

    def put(group: Any, fields: Mapping[str, Any]) -> None:
        for key, value in fields.items():
            if isinstance(value, dict):
                put(group.create_group(key), value)
            elif value is not None:
                group[key] = value

    out = io.BytesIO()
    edges = list(pairwise(nodes)) if edges is None else edges
    with h5py.File(out, "w") as file:
        file["version"] = nir.version
        put(file, {"node": {"type": "NIRGraph", "edges": edges, "metadata": {}}})
        put(file["node"].create_group("nodes"), {k: n.to_dict() for k, n in nodes.items()})
    return out.getvalue()


def _changed(data: bytes, change: Change) -> bytes:
    out = io.BytesIO(data)
    with h5py.File(out, "r+") as file:
        change(file)
    return out.getvalue()


def _put(where: str, value: Any) -> Change:
    def change(file: Any) -> None:
        if where in file:
            del file[where]
        file[where] = value

    return change


def _one_more_edge(source: str, target: str) -> Change:
    def change(file: Any) -> None:
        rows = [[a.decode(), b.decode()] for a, b in file["node/edges"][()]]
        _put("node/edges", [*rows, [source, target]])(file)

    return change


def _drop(where: str) -> Change:
    def change(file: Any) -> None:
        del file[where]

    return change


def _conv2d(**other: Any) -> Any:
    return nir.Conv2d(**{
        "input_shape": (6, 6), "weight": np.ones((3, 2, 3, 3)), "stride": np.array([1, 1]),
        "padding": np.array([1, 1]), "dilation": np.array([1, 1]), "groups": 1,
        "bias": np.zeros(3), **other,
    })  # fmt: skip


def _lif(*shape: int) -> Any:
    one = np.ones(shape)
    return nir.LIF(tau=one, r=one, v_leak=one * 0, v_threshold=one)


def _cuba(*shape: int) -> Any:
    one = np.ones(shape)
    return nir.CubaLIF(tau_syn=one, tau_mem=one, r=one, v_leak=one * 0, v_threshold=one)


def _whole() -> bytes:
    """A file with a node of most kinds, which `nir.read` takes."""
    one = np.ones(12)
    nodes = {
        "x": nir.Input(np.array([2, 6, 6])),
        "conv": _conv2d(),
        "lif": _lif(3, 6, 6),
        "sum": nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])),
        "avg": nir.AvgPool2d(np.array([2, 2]), np.array([1, 1]), np.array([0, 0])),
        "flat": nir.Flatten(None, 0, -1),
        "fc": nir.Linear(np.ones((4, 12))),
        "if": nir.IF(r=np.ones(4), v_threshold=np.ones(4)),
        "affine": nir.Affine(np.ones((12, 4)), np.zeros(12)),
        "cuba": _cuba(12),
        "li": nir.LI(tau=one, r=one, v_leak=one),
        "cubali": nir.CubaLI(tau_syn=one, tau_mem=one, r=one, v_leak=one),
        "i": nir.I(one),
        "delay": nir.Delay(one),
        "threshold": nir.Threshold(one),
        "scale": nir.Scale(one),
        "y": nir.Output(np.array([12])),
    }
    return _written(nodes)


WHOLE = _whole()


def test_a_file_that_nir_reads_passes() -> None:
    assert _refused_by_nir(WHOLE) is None
    assert _refused_by_us(WHOLE) is None


def _datasets(data: bytes) -> list[str]:
    found: list[str] = []
    with h5py.File(io.BytesIO(data)) as file:
        file["node"].visititems(
            lambda name, item: found.append(f"node/{name}") if hasattr(item, "dtype") else None
        )
    return found


def test_every_missing_field_is_judged_as_nir_does() -> None:
    refused = 0
    for where in _datasets(WHOLE):
        data = _changed(WHOLE, _drop(where))
        theirs, ours = _refused_by_nir(data), _refused_by_us(data)
        refused += theirs is not None
        assert (theirs is None) == (ours is None), (where, theirs, ours)
    assert refused > 50


def test_every_field_of_another_shape_is_judged_as_nir_does() -> None:
    refused = 0
    with h5py.File(io.BytesIO(WHOLE)) as file:
        values = {where: file[where][()] for where in _datasets(WHOLE)}
    for where, value in values.items():
        if not isinstance(value, np.ndarray | np.number) or value.dtype.kind not in "iuf":
            continue
        array = np.asarray(value)
        for other in (
            array.ravel()[0],
            array.ravel()[:1],
            np.concatenate([array.ravel(), array.ravel()[:1]]),
            array[None],
            array.ravel().astype(np.float32),
            array.ravel()[0].astype(np.float32),
            array.astype(np.uint8),
            array + 1,
            array * 0,
        ):
            data = _changed(WHOLE, _put(where, other))
            theirs, ours = _refused_by_nir(data), _refused_by_us(data)
            refused += theirs is not None
            assert theirs is None or ours is not None, (where, other, theirs)
            if theirs is None and ours is not None:  # stricter, and never at the gate
                assert "nir.read" not in ours, (where, other, ours)
    assert refused > 200


FILES: dict[str, tuple[bytes, str]] = {
    "an extra field of the graph": (
        _changed(WHOLE, _put("node/input_type", np.array([2]))),
        "has a field 'input_type', which no NIRGraph takes",
    ),
    "a convolution without its size": (
        _changed(WHOLE, _drop("node/nodes/conv/input_shape")),
        "conv: nir.read refuses the file: has no input_shape",
    ),
    "an edge between two shapes": (
        _written({"x": nir.Input(np.array([3])), "fc": nir.Linear(np.ones((2, 4))),
                  "y": nir.Output(np.array([2]))}),
        "fc: nir.read refuses the file: takes [4], and is given [3] by 'x'",
    ),
    "a result of another shape": (
        _written({"x": nir.Input(np.array([4])), "fc": nir.Linear(np.ones((2, 4))),
                  "y": nir.Output(np.array([1, 2]))}),
        "y: nir.read refuses the file: takes [1, 2], and is given [2] by 'fc'",
    ),
    "one threshold for all": (
        _changed(WHOLE, _put("node/nodes/lif/v_threshold", np.ones(1))),
        "lif: nir.read refuses the file: r has shape [3, 6, 6], and v_threshold [1]",
    ),
    "a convolution in groups": (
        _written({"x": nir.Input(np.array([4, 6, 6])),
                  "conv": _conv2d(weight=np.ones((4, 1, 3, 3)), bias=np.zeros(4), groups=4),
                  "y": nir.Output(np.array([4, 6, 6]))}),
        "conv: nir.read refuses the file: takes [1, 6, 6], and is given [4, 6, 6]",
    ),
    "a kernel that is no square": (
        _written({"x": nir.Input(np.array([2, 6, 6])),
                  "conv": _conv2d(weight=np.ones((3, 2, 3, 1)), padding=np.array([1, 0])),
                  "y": nir.Output(np.array([3, 6, 6]))}),
        "y: nir.read refuses the file: takes [3, 6, 6], and is given [3, 6, 4]",
    ),
    "no input": (
        _written({"a": _lif(2), "b": _lif(2), "y": nir.Output(np.array([2]))},
                 [("a", "b"), ("b", "a"), ("b", "y")]),
        "(the graph): nir.read refuses the file: has no node of type Input",
    ),
    "no output": (
        _written({"x": nir.Input(np.array([2])), "a": _lif(2), "b": _lif(2)},
                 [("x", "a"), ("a", "b"), ("b", "a")]),
        "(the graph): nir.read refuses the file: has no node of type Output",
    ),
    "edges in a row": (
        _changed(WHOLE, _put("node/edges", [b"x", b"conv", b"conv", b"lif"])),
        "/node/edges: expected rows of two names",
    ),
    "edges in threes": (
        _changed(WHOLE, _put("node/edges", [[b"x", b"conv", b"lif"]] * 2)),
        "/node/edges: expected rows of two names",
    ),
    "edges of numbers": (
        _changed(WHOLE, _put("node/edges", [[0, 1]])), "/node/edges: expected rows of two names"
    ),
    "a duplicate edge": (
        _changed(WHOLE, _one_more_edge("x", "conv")),
        "listed twice",
    ),
    "an edge to nowhere": (
        _changed(WHOLE, _one_more_edge("x", "z")),
        "no such node",
    ),
    "an extra field of a node": (
        _changed(WHOLE, _put("node/nodes/fc/scale", np.ones(2))), "/node/nodes/fc/scale: unknown"
    ),
    "an unknown type": (
        _changed(WHOLE, _put("node/nodes/fc/type", "Softmax")), "unknown type 'Softmax'"
    ),
    "another padding": (
        _changed(WHOLE, _put("node/nodes/conv/padding", "full")), "padding: expected numbers"
    ),
    "a pool out of nothing": (
        _changed(WHOLE, _put("node/nodes/avg/stride", np.array([0, 0]))),
        "node 'avg': stride: a number below 1",
    ),
    "a pool with one step for two axes": (
        _changed(WHOLE, _put("node/nodes/avg/stride", np.array([1]))),
        "avg: nir.read refuses the file: has no shape for an input of [3, 3]",
    ),
    "no type": (_changed(WHOLE, _drop("node/type")), "/node/type: is missing"),
    "an axis that is not there": (
        _changed(WHOLE, _put("node/nodes/flat/start_dim", 1)),
        "fc: nir.read refuses the file: takes [12], and is given [3, 4] by 'flat'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_what_nir_refuses_is_refused(name: str) -> None:
    data, sentence = FILES[name]
    assert _refused_by_nir(data) is not None
    assert sentence in str(_refused_by_us(data))


def test_files_of_older_versions_take_the_defaults_of_nir() -> None:
    for where in (
        "node/nodes/cuba/w_in",
        "node/nodes/cubali/w_in",
        "node/nodes/cuba/v_reset",
        "node/nodes/if/v_reset",
        "node/nodes/lif/v_reset",
        "node/nodes/flat/end_dim",
    ):
        data = _changed(WHOLE, _drop(where))
        assert _refused_by_nir(data) is None
        assert _refused_by_us(data) is None


def test_a_missing_w_in_is_judged_as_a_written_one() -> None:
    shape = np.array([3])
    data = _written({"x": nir.Input(shape), "cuba": _cuba(3), "y": nir.Output(shape)})
    old = _changed(data, _drop("node/nodes/cuba/w_in"))
    for framework in IMPORTERS:
        found = check_read(parse_nir(old, _MOST), framework)
        assert found == check_read(parse_nir(data, _MOST), framework)


def test_the_gate_stands_before_files(tmp_path: Path) -> None:
    data, sentence = FILES["one threshold for all"]
    (tmp_path / "x.nir").write_bytes(data)
    (found,) = check_file(tmp_path / "x.nir", "snntorch")
    assert (found.kind, found.verdict) == ("LIF", Verdict.REFUSED)
    assert f"{found.node}: {found.reason}" == sentence


def _random(rng: np.random.Generator) -> bytes:
    """A chain of random nodes with random sizes, some of which do not fit."""

    def some(*options: Any) -> Any:
        return options[rng.integers(len(options))]

    def small(*shape: int) -> Any:
        kind = some(np.int64, np.int64, np.int8, np.uint8, np.float32)
        return rng.integers(0, 4, shape).astype(kind)

    def sizes() -> Any:
        return some(small(2), small(2), small(1), small(3), int(rng.integers(1, 3)))

    shape = tuple(int(n) for n in rng.integers(1, 7, some(1, 3, 3, 3)))
    nodes: dict[str, Any] = {"x": nir.Input(some(np.array, np.uint8)(shape))}
    for i in range(int(rng.integers(1, 5))):
        C = shape[0] if rng.integers(8) else 2
        kind = some("conv", "pool", "flat", "neuron", "linear", "conv1d")
        if kind == "conv":
            k = int(rng.integers(1, 4))
            padding = some(sizes(), "same", "valid")
            node = nir.Conv2d(None, np.ones((2, C, k, some(k, k, 2))), sizes(), padding, sizes(),
                              1, np.ones(2))  # fmt: skip
            node.input_shape = some(shape[1:3], shape[1:3], 4, (4,))
            shape = tuple(int(n) for n in rng.integers(1, 7, 3))
        elif kind == "conv1d":
            node = nir.Conv1d(None, np.ones((2, C, 2)), sizes(), some(0, "same"), 1, 1, np.ones(2))
            node.input_shape = some(shape[-1], 3, (3,))
            shape = (2, some(shape[-1], max(shape[-1] - 1, 1)))
        elif kind == "pool":
            node = some(nir.SumPool2d, nir.AvgPool2d)(sizes(), sizes(), sizes())
            shape = tuple(int(n) for n in rng.integers(1, 7, len(shape)))
        elif kind == "flat":
            node = nir.Flatten(None, int(rng.integers(-2, 3)), int(rng.integers(-3, 3)))
            if rng.integers(2):
                node.input_type = {"input": np.array(shape)}
            shape = some(shape, (int(np.prod(shape)),))
        elif kind == "neuron":
            node = some(_lif, _cuba)(*shape)
        else:
            shape, width = (int(rng.integers(1, 4)),), shape[-1]
            node = nir.Linear(np.ones((*shape, width)))
        nodes[f"n{i}"] = node
    nodes["y"] = nir.Output(np.array(shape))
    names = list(nodes)
    more = [(some(*names[:-1]), some(*names[1:])) for _ in range(some(0, 0, 1, 2))]
    return _written(nodes, list(dict.fromkeys([*pairwise(nodes), *more])))


def test_random_files_are_judged_as_nir_does() -> None:
    rng = np.random.default_rng(0)
    read = refused = 0
    for _ in range(400):
        data = _random(rng)
        theirs, ours = _refused_by_nir(data), _refused_by_us(data)
        read, refused = read + (theirs is None), refused + (theirs is not None)
        assert theirs is None or ours is not None, theirs
        assert theirs is not None or "nir.read" not in str(ours), ours
    assert read > 10
    assert refused > 50
