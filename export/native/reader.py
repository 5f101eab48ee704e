"""Read a `.lapilli` file: executes nothing, believes nothing.

Allocates no more than eight times the file (int8 in the file, int64 in memory).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from lapilli.export.malformed import MalformedError
from lapilli.export.native import version1
from lapilli.export.native.recipe import recipe_from
from lapilli.export.native.values import (
    boolean,
    fields_of,
    fraction,
    integer,
    integers,
    items,
    mapping,
    pair,
    text,
)
from lapilli.export.native.writer import FORMAT, file_digest
from lapilli.ir import ops
from lapilli.ir.answers import LOGITS, Answer
from lapilli.ir.encoding import Encoding
from lapilli.ir.errors import FormatError, GraphError, InputError
from lapilli.ir.graph import Graph, Node
from lapilli.ir.network import InputQuantizer, Network
from lapilli.ir.parts import InputPart
from lapilli.ir.tensor import DTYPES, IntTensor
from lapilli.ir.types import IntRange, Kind, TensorType

_MOST_STEPS = 1 << 16
_MOST_EXPONENT = 1 << 10  # of a float64
_MOST_ELEMENTS = 1 << 28  # of one value at one step: a file cannot ask for more
_OPS: Mapping[str, type[ops.Op]] = {op.__name__: op for op in ops.OPS}
_KEYS = {version1.FORMAT: ("format", "network", "digest"),
         FORMAT: ("format", "network", "recipe", "digest")}  # fmt: skip


def load_network(path: Path) -> Network:
    """Read a `.lapilli` file.

    Raises:
        FormatError: not such a file, truncated, of an unknown version, or with an unknown op
            or key, a size that nothing justifies, or a digest that is not its content's.
    """
    if not path.is_file():
        raise FormatError(path, "no such file")
    try:
        with safe_open(path, "numpy") as file:
            metadata = dict(file.metadata() or {})
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, TypeError, AttributeError) as error:
        raise FormatError(path, f"truncated, or no lapilli file ({error})") from error
    try:
        return _network_from(metadata, tensors)
    except MalformedError as error:
        raise FormatError(path, str(error)) from error
    except GraphError as error:
        raise FormatError(path, f"holds no valid graph: {error}") from error
    except InputError as error:
        raise FormatError(path, f"holds what does not fit its graph: {error}") from error
    except RecursionError as error:
        raise FormatError(path, "its JSON is nested too deeply") from error


def _network_from(metadata: dict[str, str], tensors: dict[str, Any]) -> Network:
    version = metadata.get("format")
    if version is None or version not in _KEYS:
        known = " and ".join(map(repr, _KEYS))
        raise MalformedError(f"format {version!r} is unknown; this lapilli reads {known}")
    mapping(metadata, "the metadata", _KEYS[version])
    keys = ("T", "nodes", "outputs", "input", "logit_scale", "classes")
    later = ("answers", "encoding", "parts", "ids")
    top = mapping(_parsed(metadata, "network"), "the network", keys, later)
    nodes, told = items(top["nodes"], "nodes"), items(top.get("answers", []), "answers")
    answers = tuple(_answer_from(item, tensors) for item in told)
    of_answers = {str(item.get("matrix")) for item in told}
    graph = _graph_from(nodes, top, {k: v for k, v in tensors.items() if k not in of_answers})
    network = Network(
        graph=graph,
        input=_quantizer_from(top["input"]),
        logit_scale=fraction(top["logit_scale"], "logit_scale"),
        classes=tuple(text(c, "classes") for c in items(top["classes"], "classes")),
        recipe=recipe_from(_parsed(metadata, "recipe")) if "recipe" in metadata else None,
        answers=answers,
        ids=integer(top.get("ids", 0), "ids"),
        parts=tuple(map(_part_from, items(top.get("parts", []), "parts"))),
        encoding=_encoding_from(top["encoding"]) if "encoding" in top else None,
    )
    if version == FORMAT:
        found = file_digest(network.digest, metadata["recipe"])
    else:
        found = version1.digest(graph, nodes)
    if found != metadata["digest"]:
        raise MalformedError("its digest is not its content's: damaged, or edited by hand")
    return network


def _parsed(metadata: dict[str, str], key: str) -> object:
    try:
        return json.loads(metadata[key])
    except ValueError as error:
        raise MalformedError(f"its {key} is no JSON ({error})") from error


def _graph_from(nodes: list[Any], top: dict[str, Any], tensors: dict[str, Any]) -> Graph:
    T = integer(top["T"], "T")
    if not 1 <= T <= _MOST_STEPS:
        raise MalformedError(f"T = {T} leaves 1..{_MOST_STEPS}")
    unused = set(tensors)
    read = tuple(_node_from(item, tensors, unused) for item in nodes)
    if unused:
        raise MalformedError(f"tensor {min(unused)!r} belongs to no node")
    graph = Graph(read, tuple(text(o, "outputs") for o in items(top["outputs"], "outputs")), T)
    for name, kind in graph.types.items():
        if math.prod(kind.shape) > _MOST_ELEMENTS:
            raise MalformedError(f"node {name!r}: a value of shape {list(kind.shape)}")
    return graph


def _answer_from(value: object, tensors: dict[str, Any]) -> Answer:
    where = "answers"
    told = fields_of(Answer, value, where)
    matrix = None
    if told.get("matrix") is not None:
        matrix = _tensor_of(tensors, told["matrix"], f"{where}: matrix")
        if len(matrix.shape) != 2:
            raise MalformedError(f"{where}: a map of {len(matrix.shape)} axes")
    return Answer(
        name=text(told.get("name", LOGITS), f"{where}: name"),
        scale=fraction(told["scale"], f"{where}: scale"),
        steps=boolean(told.get("steps", False), f"{where}: steps"),
        weights=_numbers(told.get("weights", []), f"{where}: weights"),
        matrix=matrix,
        offset=_numbers(told.get("offset", []), f"{where}: offset"),
    )


def _numbers(value: object, where: str) -> tuple[int, ...]:
    return tuple(integer(n, where) for n in items(value, where))


def _tensor_of(tensors: dict[str, Any], value: object, where: str) -> IntTensor:
    key = text(value, where)
    if key not in tensors or tensors[key].dtype not in DTYPES or not tensors[key].size:
        raise MalformedError(f"{where}: no integer tensor {key!r} in the file")
    return IntTensor.of(tensors[key])


def _part_from(value: object) -> InputPart:
    told = fields_of(InputPart, value, "parts")
    shape = integers(told["shape"], "parts: shape")
    exponent = integer(told["exponent"], "parts: exponent")
    if min(shape, default=1) < 1 or abs(exponent) > _MOST_EXPONENT:
        raise MalformedError(f"parts: a shape {list(shape)}, an exponent {exponent}")
    return InputPart(
        name=text(told["name"], "parts: name"),
        layout=text(told["layout"], "parts: layout"),
        shape=shape,
        exponent=exponent,
    )


def _encoding_from(value: object) -> Encoding:
    told = fields_of(Encoding, value, "encoding")
    return Encoding(
        kind=text(told["kind"], "encoding: kind"),
        image=integers(told["image"], "encoding: image"),
        steps=integer(told["steps"], "encoding: steps"),
        seed=integer(told.get("seed", 0), "encoding: seed"),
        neurons=integer(told.get("neurons", 0), "encoding: neurons"),
    )


def _quantizer_from(value: object) -> InputQuantizer:
    source = fields_of(InputQuantizer, value, "input")
    quantizer = InputQuantizer(
        mean=tuple(fraction(m, "mean") for m in items(source["mean"], "mean")),
        std=tuple(fraction(s, "std") for s in items(source["std"], "std")),
        exponent=integer(source["exponent"], "exponent"),
        lo=integer(source["lo"], "lo"),
        hi=integer(source["hi"], "hi"),
    )
    if len(quantizer.mean) != len(quantizer.std) or min(quantizer.std, default=1) <= 0:
        raise MalformedError("input needs one mean and one positive std per channel")
    if quantizer.lo > quantizer.hi:
        raise MalformedError(f"input range [{quantizer.lo}, {quantizer.hi}] is empty")
    if abs(quantizer.exponent) > 64:
        raise MalformedError(f"input exponent {quantizer.exponent} leaves -64..64")
    return quantizer


def _node_from(item: object, tensors: dict[str, Any], unused: set[str]) -> Node:
    node = mapping(item, "a node", ("name", "op", "inputs", "attributes"))
    name = text(node["name"], "the name of a node")
    kind = _OPS.get(text(node["op"], f"the op of {name!r}"))
    if kind is None:
        raise MalformedError(f"node {name!r}: unknown op {node['op']!r}")
    op = _op_from(kind, node["attributes"], f"node {name!r}", tensors, unused)
    inputs = tuple(text(i, f"node {name!r}: inputs") for i in items(node["inputs"], "inputs"))
    return Node(name, op, inputs)


def _op_from(
    kind: type[ops.Op], given: object, where: str, tensors: dict[str, Any], unused: set[str]
) -> ops.Op:
    attributes = fields_of(kind, given, where)

    def tensor(value: object, where: str) -> IntTensor:
        found = _tensor_of(tensors, value, where)
        unused.discard(str(value))
        return found

    readers: Mapping[str, Callable[[object, str], object]] = {
        "IntTensor": tensor,
        "TensorType": _tensor_type,
        "Reset": _reset,
        "Neuron": lambda value, where: _op_from(ops.Neuron, value, where, tensors, unused),
        "bool": boolean,
        "int": integer,
        "tuple[int, ...]": integers,
        "tuple[int, int]": pair,
    }
    arguments = {
        f.name: readers[str(f.type)](attributes[f.name], f"{where}: {f.name}")
        for f in fields(kind)
        if f.name in attributes
    }
    return _make(kind, arguments)


def _make(kind: Callable[..., ops.Op], arguments: Mapping[str, object]) -> ops.Op:
    """Call a constructor with what the readers, which know its types, have read."""
    return kind(**arguments)


def _reset(value: object, where: str) -> ops.Reset:
    try:
        return ops.Reset(value)
    except ValueError as error:
        raise MalformedError(f"{where}: unknown reset {value!r}") from error


def _tensor_type(value: object, where: str) -> TensorType:
    item = mapping(value, where, ("shape", "range", "kind"))
    shape = integers(item["shape"], where)
    if any(n < 1 for n in shape) or np.prod(shape, dtype=object) > _MOST_ELEMENTS:
        raise MalformedError(f"{where}: a value of shape {list(shape)}")
    bounds = integers(item["range"], where)
    try:
        return TensorType(shape, IntRange(*bounds), Kind(item["kind"]))
    except (TypeError, ValueError) as error:
        raise MalformedError(f"{where}: {error}") from error
