"""`.onnx` files of strangers: ours say what they are; damaged ones are refused in a sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

import lapilli
from lapilli.ir.errors import FormatError
from lapilli.ir.network import InputQuantizer, Network
from lapilli.simulators.conformance import attention_block

onnx = pytest.importorskip("onnx")

from lapilli.export.onnx.reader import read_onnx  # noqa: E402
from lapilli.export.onnx.writer import save_onnx, to_onnx  # noqa: E402  (needs onnx)

BLOCK = attention_block()
SOURCE = InputQuantizer(mean=(Fraction(1, 3),), std=(Fraction(7, 22),), exponent=-2, lo=-9, hi=9)
NETWORK = Network(graph=BLOCK, input=SOURCE, logit_scale=Fraction(-5, 64), classes=("é", "", "c"))


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    save_onnx(NETWORK, tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


@pytest.fixture
def edited(scan: Path) -> Callable[[Callable[[Any], None]], Path]:
    """The file after a change of its model."""

    def edit(change: Callable[[Any], None]) -> Path:
        model = onnx.load(scan)
        change(model)
        scan.write_bytes(model.SerializeToString())
        return scan

    return edit


@pytest.mark.parametrize("inlined", [False, True])
@pytest.mark.parametrize("step", [False, True])
def test_a_file_says_what_it_is(step: bool, inlined: bool, tmp_path: Path) -> None:
    model = save_onnx(NETWORK, tmp_path / "x.onnx", step=step, inlined=inlined)
    read = read_onnx(tmp_path / "x.onnx")
    assert (read.digest, read.T, read.version) == (BLOCK.digest, BLOCK.T, lapilli.__version__)
    assert read.model == ("step" if step else "scan")
    assert (read.opset, read.ir_version) == (21, 10)
    assert read.functions == tuple(f.name for f in model.functions)
    assert bool(read.functions) is not inlined
    assert (read.input, read.logit_scale, read.classes) == (
        SOURCE, NETWORK.logit_scale, NETWORK.classes,
    )  # fmt: skip
    assert set(read.values) == set(BLOCK.firing)
    assert read.answers == {"logits": "logits"}
    first = "" if step else "8, "
    assert read.inputs["x"] == f"uint8 ({first}batch, 4, 6)"
    assert read.outputs["logits"] == f"int32 ({first}batch, 3)"
    assert set(read.inputs) == {"x", *read.states}
    assert set(read.outputs) == {"logits", *read.states.values()}
    assert bool(read.states) is step


def test_a_graph_alone_has_no_classes(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(to_onnx(BLOCK).SerializeToString())
    read = read_onnx(tmp_path / "x.onnx")
    assert (read.input, read.logit_scale, read.classes) == (None, None, ())


def test_metadata_of_others_are_no_obstacle(
    edited: Callable[[Callable[[Any], None]], Path],
) -> None:
    path = edited(lambda model: model.metadata_props.add(key="author", value="somebody"))
    assert read_onnx(path).digest == BLOCK.digest


def test_numbers_in_other_files_are_left_there(
    edited: Callable[[Callable[[Any], None]], Path],
) -> None:
    """Where a tool has moved them; the file says the same, and nothing else is opened."""

    def outside(model: Any) -> None:
        for tensor in model.graph.initializer:
            tensor.ClearField("raw_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value="/nowhere/at/all")

    path = edited(outside)
    assert read_onnx(path).digest == BLOCK.digest
    with pytest.raises(onnx.checker.ValidationError):
        onnx.load(path)


# ---- damage -----------------------------------------------------------------------------


def _set(key: str, value: object) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        (pair,) = (p for p in model.metadata_props if p.key == f"lapilli.{key}")
        pair.value = value if isinstance(value, str) else json.dumps(value)

    return change


def _drop(key: str) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        (pair,) = (p for p in model.metadata_props if p.key == f"lapilli.{key}")
        model.metadata_props.remove(pair)

    return change


def _add(key: str) -> Callable[[Any], None]:
    return lambda model: model.metadata_props.add(key=f"lapilli.{key}", value="1")


def _body(model: Any) -> Any:
    (node,) = (n for n in model.graph.node if n.op_type == "Scan")
    return next(a.g for a in node.attribute if a.name == "body")


def _renamed(model: Any) -> None:
    """What an optimiser of graphs does."""
    for info in _body(model).value_info:
        info.name = info.name.replace("q[t]", "t_17")


def _two_scans(model: Any) -> None:
    model.graph.node.add().CopyFrom(next(n for n in model.graph.node if n.op_type == "Scan"))


def _no_scan(model: Any) -> None:
    del model.graph.node[:]


def _short(model: Any) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 7


def _floats(model: Any) -> None:
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT


def _no_ends(model: Any) -> None:
    del model.graph.input[:]


def _no_functions(model: Any) -> None:
    del model.functions[:]


def _two_opsets(model: Any) -> None:
    model.opset_import.add(version=22)


def _another(model: Any) -> None:
    del model.metadata_props[:]


_INPUT = {"mean": ["1/2"], "std": ["1/3"], "exponent": 2, "lo": -9, "hi": 9}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (_another, "was not written by lapilli: no lapilli.format in its metadata"),
        (_set("format", "lapilli-onnx/9"), "format 'lapilli-onnx/9' is unknown; this lapilli rea"),
        (_drop("values"), "metadata: lapilli.values is missing"),
        (_add("colour"), "metadata: 'lapilli.colour' is unknown"),
        (_add("T"), "metadata: 'lapilli.T' is unknown, or stands there twice"),
        (_set("T", "0"), "metadata: T is '0'; a sample has 1 to 65536 steps"),
        (_set("T", "9" * 9999), "metadata: T is '99999999999999999999'; a sample"),
        (_set("T", "65537"), "metadata: T is '65537'"),
        (_set("T", "7"), "'x': its first axis is not T = 7"),
        (_short, "'x': its first axis is not T = 8"),
        (_set("model", "loop"), "metadata: model is 'loop', neither 'scan' nor 'step'"),
        (_set("digest", "0" * 63), "metadata: digest is no SHA-256"),
        (_renamed, "metadata: values: the model has no 'q[t]'; was it changed after the export?"),
        (_set("outputs", {"logits": "ghost"}), "metadata: outputs: the model has no 'ghost'"),
        (_set("outputs", {"logits": 7}), "outputs: '7', expected text"),
        (_set("outputs", []), "metadata: outputs: expected an object"),
        (_set("states", {"x": "logits"}), "metadata: states of a model that takes all steps"),
        (_set("states", {"ghost": "logits"}), "metadata: states: the model has no 'ghost'"),
        (_set("values", {"q": "q[t]"}), "metadata: values: 'q': not what lapilli writes"),
        (_set("values", {"q": {}}), "metadata: values: 'q': not what lapilli writes"),
        (_set("values", {"q": {"value": "q[t]", "more": "x"}}), "metadata: values: 'q': not what"),
        (_set("classes", {}), "metadata: classes: expected a list"),
        (_set("classes", ["a", 1]), "classes: '1', expected text"),
        (_set("classes", "["), "metadata: classes: no JSON"),
        (_set("classes", "[" * 200_000), "metadata: classes: no JSON, or nested too deeply"),
        (_set("classes", "[]" + " " * (1 << 21)), "metadata: more than 2097152 characters"),
        (_set("int64_states", "9" * 5000), "metadata: int64_states: no JSON"),
        (_set("logit_scale", "1/0"), "metadata: '1/0' is no fraction"),
        (_set("logit_scale", "1e999999999"), "metadata: '1e999999999' is no fraction"),
        (_set("input", {**_INPUT, "mean": []}), "metadata: input: not what lapilli writes"),
        (_set("input", {**_INPUT, "std": ["0"]}), "metadata: input: not what lapilli writes"),
        (_set("input", {**_INPUT, "exponent": 65}), "metadata: input: not what lapilli writes"),
        (_set("input", {**_INPUT, "exponent": True}), "metadata: input: not what lapilli writes"),
        (_set("input", {**_INPUT, "lo": 10}), "metadata: input: not what lapilli writes"),
        (_set("input", {**_INPUT, "mean": "1/2"}), "metadata: input: not what lapilli writes"),
        (_two_scans, "2 bodies of Scan; a model of all steps has one"),
        (_no_scan, "0 bodies of Scan"),
        (_floats, "'logits': of type 1, which we do not write"),
        (_no_ends, "a model without inputs or outputs"),
        (_no_functions, "calls the function 'LIF_1', which it lacks: truncated?"),
        (_two_opsets, "imports 2 versions of ONNX's operators"),
    ],
)
def test_an_edited_file_is_refused(
    change: Callable[[Any], None], sentence: str, edited: Callable[[Callable[[Any], None]], Path]
) -> None:
    path = edited(change)
    with pytest.raises(FormatError) as caught:
        read_onnx(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert sentence in message
    assert "\n" not in message
    assert len(message) < len(str(path)) + 200


def test_every_truncation_is_refused(scan: Path) -> None:
    data = scan.read_bytes()
    for end in (*range(0, len(data), 97), *range(len(data) - 300, len(data))):
        scan.write_bytes(data[:end])
        with pytest.raises(FormatError):
            read_onnx(scan)
    scan.write_bytes(data)
    assert read_onnx(scan).T == BLOCK.T


@pytest.mark.parametrize("data", [b"", b"\x00", b"{}" * 99, b"\x89HDF\r\n\x1a\n" * 99])
def test_another_format_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(data)
    with pytest.raises(FormatError, match=r"no ONNX file|not written by lapilli"):
        read_onnx(tmp_path / "x.onnx")


def test_text_that_is_none(scan: Path) -> None:
    """protobuf lets bytes through that are no UTF-8."""
    data = scan.read_bytes()
    assert data.count(b"lapilli.digest") == 1
    scan.write_bytes(data.replace(b"lapilli.digest", b"lapilli.\xff\xfe\xff\xfe\xff\xfe"))
    with pytest.raises(FormatError, match=r"metadata: .*, expected text"):
        read_onnx(scan)


def test_a_missing_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "no.onnx"):
        with pytest.raises(FormatError, match="no such file"):
            read_onnx(path)


def _field(tag: bytes, content: bytes) -> bytes:
    """A message as a field of another."""
    size = len(content)
    return tag + (bytes([size & 127 | 128, size >> 7]) if size > 127 else bytes([size])) + content


def test_graphs_in_graphs_end_somewhere(scan: Path) -> None:
    """protobuf refuses messages in messages, deeper than 100."""
    honest, graph = scan.read_bytes(), b""
    for deep in range(60):
        for tag in (b"\x32", b"\x2a", b"\x0a"):  # a graph in an attribute of a node of a graph
            graph = _field(tag, graph)
        if deep == 20:
            scan.write_bytes(honest + _field(b"\x3a", graph))
            assert read_onnx(scan).T == BLOCK.T
    scan.write_bytes(honest + _field(b"\x3a", graph))
    with pytest.raises(FormatError, match="truncated, or no ONNX file"):
        read_onnx(scan)
