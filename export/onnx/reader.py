"""What a `.onnx` file of ours says of itself, read as any stranger's file.

protobuf makes messages of the bytes and opens nothing: numbers that lie in other files stay
there. Every name in the metadata must be one that the model has; where a tool has renamed or
removed values, they tell nobody any more where to look, and the file is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto

from lapilli.export.malformed import MalformedError
from lapilli.export.onnx.function import DOMAIN
from lapilli.export.onnx.writer import FORMAT, LARGEST
from lapilli.ir.errors import FormatError
from lapilli.ir.network import InputQuantizer

_PREFIX = "lapilli."
_MUST = ("format", "digest", "T", "model", "outputs", "values", "states", "int64_states")
_MAY = ("logit_scale", "classes", "input", "answers", "encoding", "parts", "ids")
_PARTS = {"value", "current", "membrane"}
_MOST_TEXT = 1 << 21  # characters of metadata; ours are some for each node and class
_MOST_STEPS = _MOST_CHANNELS = 1 << 16
_MOST_EXPONENT = 64
_TYPES: Mapping[int, str] = {
    TensorProto.UINT8: "uint8",
    TensorProto.INT8: "int8",
    TensorProto.INT32: "int32",
    TensorProto.INT64: "int64",
}


@dataclass(frozen=True, slots=True, eq=False)
class OnnxFile:
    """What a file says.

    Attributes:
        version: of lapilli, that wrote it; digest: of the graph that it was written from.
        model: "scan" (all steps) or "step" (one); T: steps of a sample.
        opset, ir_version: of ONNX; functions: names of ours, none where they are inlined.
        inputs, outputs: of the model, name -> type and shape.
        answers: output of the graph -> output of the model.
        values: node that fires -> its value, current and membrane inside the step.
        states: input of a step model -> output that is fed back to it.
        int64_states: nodes whose state takes more than 32 bits.
        classes, logit_scale, input: of the network; empty and None of a graph alone.
    """

    version: str
    digest: str
    model: str
    T: int
    opset: int
    ir_version: int
    functions: tuple[str, ...]
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    answers: Mapping[str, str]
    values: Mapping[str, Mapping[str, str]]
    states: Mapping[str, str]
    int64_states: tuple[str, ...]
    classes: tuple[str, ...]
    logit_scale: Fraction | None
    input: InputQuantizer | None


def read_onnx(path: Path) -> OnnxFile:
    """Read what a `.onnx` file of ours says of itself; opens that file alone, runs nothing.

    Raises:
        FormatError: no such file, truncated, not written by lapilli, of an unknown version, or
            metadata that are damaged or name what the model does not have.
    """
    if not path.is_file():
        raise FormatError(path, "no such file")
    if (size := path.stat().st_size) > LARGEST:
        raise FormatError(path, f"{size} bytes; a protobuf has at most {LARGEST}")
    try:
        return _file(ModelProto.FromString(path.read_bytes()))
    except OSError as error:
        raise FormatError(path, f"cannot be read ({error.strerror})") from error
    except DecodeError as error:
        raise FormatError(path, "truncated, or no ONNX file") from error
    except MalformedError as error:
        raise FormatError(path, str(error)) from error


def _file(model: ModelProto) -> OnnxFile:
    about = _about(model)
    T, kind = about["T"], about["model"]
    if not re.fullmatch(r"[1-9][0-9]{0,5}", T) or int(T) > _MOST_STEPS:
        raise MalformedError(f"metadata: T is {T[:20]!r}; a sample has 1 to {_MOST_STEPS} steps")
    if kind not in ("scan", "step"):
        raise MalformedError(f"metadata: model is {kind[:20]!r}, neither 'scan' nor 'step'")
    if not re.fullmatch(r"[0-9a-f]{64}", about["digest"]):
        raise MalformedError("metadata: digest is no SHA-256")
    step = _scanned(model, int(T)) if kind == "scan" else model.graph
    inputs, outputs = (_ends(infos) for infos in (model.graph.input, model.graph.output))
    inside = {_text(i.name, "the step") for i in chain(step.input, step.output, step.value_info)}
    states = _names("states", about, outputs)
    _known("states", states, inputs)
    if kind == "scan" and states:
        raise MalformedError("metadata: states of a model that takes all steps at once")
    functions = tuple(_text(f.name, "a function") for f in model.functions)
    called = {_text(n.op_type, "a node") for n in step.node if n.domain == DOMAIN}
    if lost := sorted(called - set(functions)):
        raise MalformedError(f"calls the function {lost[0][:40]!r}, which it lacks: truncated?")
    opsets = [o.version for o in model.opset_import if o.domain in ("", "ai.onnx")]
    if len(opsets) != 1:
        raise MalformedError(f"imports {len(opsets)} versions of ONNX's operators")
    return OnnxFile(
        version=_text(model.producer_version, "producer_version")[:40],
        digest=about["digest"],
        model=kind,
        T=int(T),
        opset=opsets[0],
        ir_version=model.ir_version,
        functions=functions,
        inputs=inputs,
        outputs=outputs,
        answers=_names("outputs", about, outputs),
        values=_values(about, inside),
        states=states,
        int64_states=_texts("int64_states", about),
        classes=_texts("classes", about) if "classes" in about else (),
        logit_scale=_fraction(about["logit_scale"]) if "logit_scale" in about else None,
        input=_quantizer(about) if "input" in about else None,
    )


def _about(model: ModelProto) -> dict[str, str]:
    """The metadata under our names."""
    about: dict[str, str] = {}
    size = 0
    for pair in model.metadata_props:
        key = _text(pair.key, "metadata")
        if not key.startswith(_PREFIX):
            continue
        name, value = key.removeprefix(_PREFIX), _text(pair.value, "metadata")
        if name in about or name not in (*_MUST, *_MAY):
            raise MalformedError(f"metadata: {key[:40]!r} is unknown, or stands there twice")
        if (size := size + len(value)) > _MOST_TEXT:
            raise MalformedError(f"metadata: more than {_MOST_TEXT} characters")
        about[name] = value
    if "format" not in about:
        raise MalformedError(f"was not written by lapilli: no {_PREFIX}format in its metadata")
    if about["format"] != FORMAT:
        found = about["format"][:40]
        raise MalformedError(f"format {found!r} is unknown; this lapilli reads {FORMAT!r}")
    if missing := [name for name in _MUST if name not in about]:
        raise MalformedError(f"metadata: {_PREFIX}{missing[0]} is missing")
    return about


def _scanned(model: ModelProto, T: int) -> GraphProto:
    """The step inside the one Scan."""
    scans = [n for n in model.graph.node if n.op_type == "Scan"]
    bodies: list[GraphProto] = [
        a.g for n in scans for a in n.attribute if a.name == "body" and a.HasField("g")
    ]
    if len(bodies) != 1:
        raise MalformedError(f"{len(bodies)} bodies of Scan; a model of all steps has one")
    for info in chain(model.graph.input, model.graph.output):
        dims = info.type.tensor_type.shape.dim
        if not dims or dims[0].dim_value != T:
            name = _text(info.name, "an input")[:40]
            raise MalformedError(f"{name!r}: its first axis is not T = {T}")
    return bodies[0]


def _ends(infos: Iterable[ValueInfoProto]) -> dict[str, str]:
    """Name -> type and shape, for people."""
    ends = {}
    for info in infos:
        name, kind = _text(info.name, "an input or output"), info.type.tensor_type
        if kind.elem_type not in _TYPES:
            raise MalformedError(f"{name[:40]!r}: of type {kind.elem_type}, which we do not write")
        sizes = [_text(d.dim_param, name)[:20] or d.dim_value for d in kind.shape.dim[:32]]
        ends[name] = f"{_TYPES[kind.elem_type]} ({', '.join(map(str, sizes))})"
    if not ends:
        raise MalformedError("a model without inputs or outputs")
    return ends


def _values(about: Mapping[str, str], inside: set[str]) -> dict[str, Mapping[str, str]]:
    values: dict[str, Mapping[str, str]] = {}
    for node, parts in _object("values", about).items():
        if not isinstance(parts, dict) or not {"value"} <= set(parts) <= _PARTS:
            raise MalformedError(f"metadata: values: {node[:40]!r}: not what lapilli writes")
        values[node] = {part: _text(name, "values") for part, name in parts.items()}
        _known("values", values[node].values(), inside)
    return values


def _names(key: str, about: Mapping[str, str], there: Iterable[str]) -> dict[str, str]:
    names = {name: _text(value, key) for name, value in _object(key, about).items()}
    _known(key, names.values(), there)
    return names


def _known(key: str, names: Iterable[str], there: Iterable[str]) -> None:
    if lost := sorted(set(names) - set(there)):
        raise MalformedError(
            f"metadata: {key}: the model has no {lost[0][:60]!r}; was it changed after the export?"
        )


def _object(key: str, about: Mapping[str, str]) -> dict[str, Any]:
    content = _json(key, about)
    if not isinstance(content, dict):
        raise MalformedError(f"metadata: {key}: expected an object")
    return content


def _texts(key: str, about: Mapping[str, str]) -> tuple[str, ...]:
    content = _json(key, about)
    if not isinstance(content, list):
        raise MalformedError(f"metadata: {key}: expected a list")
    return tuple(_text(item, key) for item in content)


def _json(key: str, about: Mapping[str, str]) -> object:
    try:
        return json.loads(about[key])
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"metadata: {key}: no JSON, or nested too deeply") from error


def _quantizer(about: Mapping[str, str]) -> InputQuantizer:
    given = _object("input", about)
    numbers: list[Any] = [given.get(key) for key in ("exponent", "lo", "hi")]
    scales: list[Any] = [given.get(key) for key in ("mean", "std")]
    odd = MalformedError("metadata: input: not what lapilli writes")
    if not all(type(n) is int and abs(n) < 1 << 40 for n in numbers):
        raise odd
    if not all(isinstance(s, list) and len(s) <= _MOST_CHANNELS for s in scales):
        raise odd
    exponent, lo, hi = numbers
    mean, std = (tuple(map(_fraction, s)) for s in scales)
    if len(mean) != len(std) or min(std, default=1) <= 0 or lo > hi:
        raise odd
    if abs(exponent) > _MOST_EXPONENT:
        raise odd
    return InputQuantizer(mean=mean, std=std, exponent=exponent, lo=lo, hi=hi)


def _fraction(value: object) -> Fraction:
    text = _text(value, "a fraction")
    try:
        if len(text) > 200 or "e" in text.lower():
            raise ValueError("too long")
        return Fraction(text)
    except (ValueError, ZeroDivisionError) as error:
        raise MalformedError(f"metadata: {text[:40]!r} is no fraction") from error


def _text(value: object, where: str) -> str:
    """Text; protobuf hands on bytes that are no UTF-8 as bytes."""
    if not isinstance(value, str):
        raise MalformedError(f"{where[:40]}: {str(value)[:40]!r}, expected text")
    return value
