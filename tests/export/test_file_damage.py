"""`.lapilli` files: what is damaged is refused with a sentence."""

from __future__ import annotations

import copy
import json
import struct
import tracemalloc
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from lapilli.export.native import load_network, save_network
from lapilli.ir.errors import FormatError
from lapilli.ir.network import InputQuantizer, Network
from lapilli.simulators.conformance import attention_block

_QUANTIZER = InputQuantizer(
    mean=(Fraction(1, 3),), std=(Fraction(7, 22),), exponent=-2, lo=-127, hi=126
)
NETWORK = Network(
    graph=attention_block(2, 4, 2),
    input=_QUANTIZER,
    logit_scale=Fraction(-5, 3 << 70),
    classes=("é", "", "b\n"),
)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.lapilli"
    save_network(NETWORK, path)
    return path


def _header(data: bytes) -> tuple[dict[str, Any], bytes]:
    (size,) = struct.unpack("<Q", data[:8])
    header: dict[str, Any] = json.loads(data[8 : 8 + size])
    return header, data[8 + size :]


def _file(header: dict[str, Any], body: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def _edit(path: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> None:
    """Change the network's JSON or the safetensors header, and write both back."""
    header, body = _header(path.read_bytes())
    content = json.loads(header["__metadata__"]["network"])
    text = json.dumps(content)
    change(content, header)
    if json.dumps(content) != text:
        header["__metadata__"]["network"] = json.dumps(content)
    path.write_bytes(_file(header, body if len(header) > 1 else b""))


def _refused(path: Path) -> str:
    """The one sentence, after the path."""
    with pytest.raises(FormatError) as caught:
        load_network(path)
    assert caught.value.path == path
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


def test_a_missing_file(tmp_path: Path) -> None:
    assert _refused(tmp_path / "no.lapilli") == "no such file"
    assert _refused(tmp_path) == "no such file"


def test_every_truncation_is_refused(small: Path) -> None:
    data = small.read_bytes()
    offsets = {*range(64), *range(64, len(data), 97), *range(len(data) - 64, len(data))}
    for size in sorted(offsets):
        small.write_bytes(data[:size])
        assert "truncated, or no lapilli file" in _refused(small), size


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n" * 20, b"{}", b"\0" * 100])
def test_another_format_is_refused(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.lapilli"
    path.write_bytes(data)
    assert "truncated, or no lapilli file" in _refused(path)


def test_safetensors_of_somebody_else(tmp_path: Path) -> None:
    path = tmp_path / "x.lapilli"
    save_file({"w": np.zeros(3, np.int8)}, path)
    assert (
        _refused(path) == "format None is unknown; this lapilli reads 'lapilli/1' and 'lapilli/2'"
    )


def _node(content: dict[str, Any], name: str) -> dict[str, Any]:
    (node,) = (n for n in content["nodes"] if n["name"] == name)
    found: dict[str, Any] = node
    return found


def _attributes(content: dict[str, Any], name: str) -> dict[str, Any]:
    attributes: dict[str, Any] = _node(content, name)["attributes"]
    return attributes


def _set(*path: str, to: object) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    def change(content: dict[str, Any], header: dict[str, Any]) -> None:
        at: Any = content
        for key in path[:-1]:
            at = _node(at, key[1:]) if key.startswith("%") else at[key]
        at[path[-1]] = to

    return change


def _drop(*path: str) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    def change(content: dict[str, Any], header: dict[str, Any]) -> None:
        at: Any = content
        for key in path[:-1]:
            at = _node(at, key[1:]) if key.startswith("%") else at[key]
        del at[path[-1]]

    return change


def _meta(key: str, to: str) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    def change(content: dict[str, Any], header: dict[str, Any]) -> None:
        header["__metadata__"][key] = to

    return change


def _rewire(content: dict[str, Any], header: dict[str, Any]) -> None:
    _node(content, "y")["inputs"] = ["x", "ghost"]


def _expanded(*shape: int) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    def change(content: dict[str, Any], header: dict[str, Any]) -> None:
        _node(content, "x")["attributes"]["type"]["shape"] = [1, 1]
        huge = {"name": "huge", "op": "Expand", "inputs": ["x"], "attributes": {"shape": [*shape]}}
        content["nodes"] = [_node(content, "x"), huge]
        content["outputs"] = ["huge"]
        for key in [k for k in header if k != "__metadata__"]:
            del header[key]

    return change


_TYPE = ("%x", "attributes", "type")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (_meta("format", "lapilli/3"), "format 'lapilli/3' is unknown"),
        (_meta("format", "lapilli/1"), "the metadata: unknown key 'recipe'"),
        (_meta("extra", "1"), "the metadata: unknown key 'extra'"),
        (_meta("network", "{"), "its network is no JSON"),
        (_meta("network", "[]"), "the network: expected an object"),
        (_meta("network", "[" * 100_000), "its JSON is nested too deeply"),
        (_meta("network", '{"a":' * 50_000), "its JSON is nested too deeply"),
        (_meta("network", "9" * 10_000), "network"),
        (_meta("digest", "0" * 64), "its digest is not its content's"),
        (_drop("T"), "the network: key 'T' is missing"),
        (_drop("classes"), "the network: key 'classes' is missing"),
        (_set("more", to=1), "the network: unknown key 'more'"),
        (_set("T", to=0), r"T = 0 leaves 1..65536"),
        (_set("T", to=65537), r"T = 65537 leaves 1..65536"),
        (_set("T", to=4.0), "T: expected a 64-bit integer, got 4.0"),
        (_set("T", to=True), "T: expected a 64-bit integer, got True"),
        (_set("T", to="4"), "T: expected a 64-bit integer"),
        (_set("T", to=5), "its digest is not its content's"),
        (_set("nodes", to={}), "nodes: expected a list"),
        (_set("nodes", to=[]), "belongs to no node"),
        (_set("outputs", to=["ghost"]), "'ghost': is an output but not a node"),
        (_set("outputs", to=[1]), "outputs: expected text, got 1"),
        (_set("classes", to=[["a"]]), "classes: expected text"),
        (_set("logit_scale", to="1/0"), "logit_scale: '1/0' is no fraction"),
        (_set("logit_scale", to="1e9999999"), "logit_scale: '1e9999999' is no fraction"),
        (_set("logit_scale", to="9" * 201), "logit_scale: "),
        (_set("logit_scale", to=0.5), "logit_scale: expected text"),
        (_set("input", to=None), "input: expected an object"),
        (_set("input", "mean", to=["1/3", "1/3"]), "one mean and one positive std"),
        (_set("input", "std", to=["0"]), "one mean and one positive std"),
        (_set("input", "exponent", to=65), "input exponent 65 leaves -64..64"),
        (_set("input", "lo", to=127), "input range [127, 126] is empty"),
        (_set("input", "zero", to=0), "input: unknown key 'zero'"),
        (_set("%q", "op", to="Softmax"), "node 'q': unknown op 'Softmax'"),
        (_set("%q", "op", to="__init__"), "node 'q': unknown op '__init__'"),
        (_set("%q", "op", to=["Neuron"]), "the op of 'q': expected text"),
        (_set("%q", "op", to="Add"), "node 'q': unknown key 'bias'"),
        (_set("%q", "attributes", "tau", to=2), "node 'q': unknown key 'tau'"),
        (_drop("%q", "attributes", "dv"), "its digest is not its content's"),
        (_drop("%q", "inputs"), "a node: key 'inputs' is missing"),
        (_set("%q", "doc", to=""), "a node: unknown key 'doc'"),
        (_set("%q", "name", to=3), "the name of a node: expected text"),
        (_set("%q", "inputs", to="x"), "inputs: expected a list"),
        (_set("%q", "name", to="x"), "'x': name is used twice"),
        (_rewire, "'y': input 'ghost' is not defined"),
        (_set("%q", "attributes", "dv", to=4097), "'q': decays 4097, 4096 leave 0..4096"),
        (_set("%q", "attributes", "dv", to=1 << 63), "node 'q': dv: expected a 64-bit integer"),
        (_set("%q", "attributes", "reset", to="soft"), "node 'q': reset: unknown reset 'soft'"),
        (_set("%q", "attributes", "reset", to=[]), "node 'q': reset: unknown reset []"),
        (_set("%q", "attributes", "ternary", to=1), "node 'q': ternary: expected true or false"),
        (_set("%q", "attributes", "threshold", to="ghost"), "'q': threshold: no integer tensor"),
        (_set("%q", "attributes", "threshold", to=1), "'q': threshold: expected text"),
        (_set("%q.split", "attributes", "shape", to=[2, 2]), "'q.split': "),
        (_set("%q.split", "attributes", "shape", to=[1] * 33), "node 'q.split': shape: 33 axes"),
        (_set("%q.split", "attributes", "shape", to=2), "node 'q.split': shape: expected a list"),
        (_set("%x", "attributes", "type", "shape", to=[1 << 15, 1 << 14]), "a value of shape"),
        (_set("%x", "attributes", "type", "shape", to=[1 << 40, 1 << 40]), "a value of shape"),
        (_set("%x", "attributes", "type", "shape", to=[0, 4]), "a value of shape [0, 4]"),
        (_set("%x", "attributes", "type", "shape", to=[2.0, 4]), "expected a 64-bit integer"),
        (_set("%x", "attributes", "type", "range", to=[0]), "node 'x': type: "),
        (_set("%x", "attributes", "type", "range", to=[1, 0]), "type: empty range [1, 0]"),
        (_set("%x", "attributes", "type", "range", to=[0, 2]), "[0, 2] cannot be spikes"),
        (_set("%x", "attributes", "type", "kind", to="floats"), "node 'x': type: "),
        (_set("%x", "attributes", "type", "kind", to={}), "node 'x': type: "),
        (_set("%x", "attributes", "type", to=[]), "node 'x': type: expected an object"),
        (_expanded(1 << 15, 1 << 14), "node 'huge': a value of shape [32768, 16384]"),
        (_expanded(1 << 62, 1 << 62), "node 'huge': a value of shape"),
    ],
)  # fmt: skip
def test_an_edited_file_is_refused(
    change: Callable[[dict[str, Any], dict[str, Any]], None], sentence: str, small: Path
) -> None:
    _edit(small, change)
    message = _refused(small)
    assert sentence in message
    assert "\n" not in message
    assert len(message) < 400


def test_editing_nothing_is_accepted(small: Path) -> None:
    _edit(small, lambda content, header: None)
    assert load_network(small).graph == attention_block(2, 4, 2)


@pytest.mark.parametrize("missing", ["format", "network", "digest"])
def test_missing_metadata(missing: str, small: Path) -> None:
    def change(content: dict[str, Any], header: dict[str, Any]) -> None:
        del header["__metadata__"][missing]

    _edit(small, change)
    assert missing in _refused(small)


# ---- tensors ----------------------------------------------------------------------------


def _repacked(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Write the file again with other tensors."""
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        metadata = file.metadata()
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    change(tensors)
    save_file(tensors, path, metadata)


_WEIGHT = "q.linear:weight"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t: t.pop(_WEIGHT), f"node 'q.linear': weight: no integer tensor {_WEIGHT!r}"),
        (lambda t: t.update(more=np.zeros(1, np.int8)), "tensor 'more' belongs to no node"),
        (lambda t: t.update({_WEIGHT: t[_WEIGHT].astype(np.float32)}), "no integer tensor"),
        (lambda t: t.update({_WEIGHT: t[_WEIGHT].astype(np.uint8)}), "no integer tensor"),
        (lambda t: t.update({_WEIGHT: t[_WEIGHT].astype(bool)}), "no integer tensor"),
        (lambda t: t.update({_WEIGHT: np.zeros((0, 4), np.int8)}), "no integer tensor"),
        (lambda t: t.update({_WEIGHT: t[_WEIGHT][:, :3]}), "'q.linear': input"),
        (lambda t: t.update({_WEIGHT: t[_WEIGHT].ravel()}), "'q.linear': input"),
        (lambda t: t.update({_WEIGHT: t[_WEIGHT] + np.int8(1)}), "its digest"),
        (lambda t: t.update({_WEIGHT: np.full((4, 4), -(1 << 63))}), "'q.linear': sums of weights"),
        (lambda t: t.update({"q:threshold": np.array([0], np.int8)}), "'q': a threshold must be"),
        (lambda t: t.update({"q:threshold": np.ones(3, np.int8)}), "'q': threshold (3,) does not"),
        (lambda t: t.update({"q:bias": np.array([-(1 << 63)])}), "'q': its state can grow"),
    ],
)  # fmt: skip
def test_an_edited_tensor_is_refused(
    change: Callable[[dict[str, Any]], None], sentence: str, small: Path
) -> None:
    _repacked(small, change)
    assert sentence in _refused(small)


def test_equal_numbers_in_a_wider_type_are_the_same_network(small: Path) -> None:
    before = load_network(small)
    _repacked(small, lambda t: t.update({_WEIGHT: t[_WEIGHT].astype(np.int64)}))
    assert load_network(small) == before


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [1 << 40, 4]},
        {"shape": [1 << 62, 1 << 62]},
        {"shape": [4, 5]},
        {"data_offsets": [0, 1 << 50]},
        {"data_offsets": [1 << 60, 1 << 61]},
        {"data_offsets": [-1, 4]},
        {"dtype": "I64"},
        {"dtype": "F4096"},
        {"shape": [1 << 40, 4], "data_offsets": [0, 1 << 42]},
    ],
    ids=str,
)
def test_sizes_beyond_the_file_are_refused(change: dict[str, Any], small: Path) -> None:
    header, body = _header(small.read_bytes())
    header[_WEIGHT].update(change)
    small.write_bytes(_file(header, body))
    tracemalloc.start()
    try:
        assert "truncated, or no lapilli file" in _refused(small)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("size", [1 << 62, (1 << 64) - 1, 1 << 31, 99_999_999])
def test_a_header_beyond_the_file_is_refused(size: int, small: Path) -> None:
    small.write_bytes(struct.pack("<Q", size) + small.read_bytes()[8:])
    assert "truncated, or no lapilli file" in _refused(small)


def test_weights_edited_by_hand_are_noticed(small: Path) -> None:
    data = small.read_bytes()
    for at in range(1, 60, 7):  # from the end: in the tensors
        small.write_bytes(data[:-at] + bytes([data[-at] ^ 1]) + data[len(data) - at + 1 :])
        _refused(small)


# ---- fuzz -------------------------------------------------------------------------------

_ODD: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2, 1 << 16, 1 << 31, 1 << 62, -(1 << 63), 1 << 63, 10**30, 0.5, 1e400, "",
    "x", "Neuron", "Expand", "1/0", [], [[]], {}, [0], [-1], [1 << 62, 4], [0, 0], {"": 0},
)  # fmt: skip


def _spots(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    keys: Any = range(len(value)) if isinstance(value, list) else ()
    keys = value.keys() if isinstance(value, dict) else keys
    return [spot for k in keys for spot in ((*at, k), *_spots(value[k], (*at, k)))]


def _mutated(data: bytes, rng: np.random.Generator) -> bytes:
    kind = rng.integers(4)
    if kind == 0:  # flip up to four bytes
        out = bytearray(data)
        for _ in range(rng.integers(1, 5)):
            out[rng.integers(len(out))] ^= int(rng.integers(1, 256))
        return bytes(out)
    if kind == 1:  # cut, or cut out
        start, size = rng.integers(len(data)), rng.integers(1, 200)
        return data[:start] + (data[start + size :] if rng.integers(2) else b"")
    header, body = _header(data)
    content = json.loads(header["__metadata__"]["network"])
    target = content if kind == 2 else header
    for _ in range(rng.integers(1, 4)):
        spots = _spots(target)
        *path, key = spots[rng.integers(len(spots))]
        at = target
        for step in path:
            at = at[step]
        other = spots[rng.integers(len(spots))]
        choice = rng.integers(4)
        if choice == 0:
            del at[key]
        elif choice == 1 and isinstance(at, dict):
            at[str(other[-1])] = copy.deepcopy(at[key])
        else:
            at[key] = copy.deepcopy(_ODD[rng.integers(len(_ODD))])
        if not target:
            break
    if kind == 2:
        header["__metadata__"]["network"] = json.dumps(content)
    return _file(header, body)


def test_no_mutation_does_harm(small: Path, tmp_path: Path) -> None:
    """Only a refusal or a network, and no more memory than the file justifies."""
    data = small.read_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / "mutant.lapilli"
    refusals: dict[str, int] = {}
    loaded = 0
    tracemalloc.start()
    try:
        for _ in range(3000):
            path.write_bytes(_mutated(data, rng))
            try:
                load_network(path)
                loaded += 1
            except FormatError as error:
                reason = str(error).removeprefix(f"{path}: ")[:24]
                refusals[reason] = refusals.get(reason, 0) + 1
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()
    assert 0 < loaded < 1000
    assert len(refusals) > 40
    assert load_network(small) == NETWORK
