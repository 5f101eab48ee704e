"""The `.lapilli` file: a safetensors container whose metadata holds the graph as JSON.

The format is specified in docs/format.md. Reading executes nothing, and allocates no more
than eight times the file (int8 in the file, int64 in memory).
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import fields
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from lapilli.ir import ops
from lapilli.ir.errors import FormatError, GraphError
from lapilli.ir.graph import Graph, Node
from lapilli.ir.network import InputQuantizer, Network
from lapilli.ir.tensor import DTYPES, IntTensor, narrowest_dtype
from lapilli.ir.types import IntRange, Kind, TensorType

FORMAT = "lapilli/1"
_MOST_STEPS = 1 << 16
_MOST_ELEMENTS = 1 << 28  # of one value at one step: a file cannot ask for more
_OPS: Mapping[str, type[ops.Op]] = {op.__name__: op for op in ops.OPS}


def save_network(network: Network, path: Path) -> None:
    """Write `network` to `path`, whole or not at all."""
    tensors: dict[str, np.ndarray[Any, Any]] = {}
    content = {
        "T": network.graph.T,
        "nodes": [_node_to_json(node, tensors) for node in network.graph.nodes],
        "outputs": list(network.graph.outputs),
        "input": {
            "mean": [str(m) for m in network.input.mean],
            "std": [str(s) for s in network.input.std],
            "exponent": network.input.exponent,
            "lo": network.input.lo,
            "hi": network.input.hi,
        },
        "logit_scale": str(network.logit_scale),
        "classes": list(network.classes),
    }
    metadata = {
        "format": FORMAT,
        "network": json.dumps(content, sort_keys=True, separators=(",", ":")),
        "digest": network.graph.digest,
    }
    write_whole(path, _ordered(save(tensors, metadata)))


def _ordered(data: bytes) -> bytes:
    """The same file with sorted metadata, which safetensors writes in random order."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of eight
    return len(text).to_bytes(8, "little") + text + data[end:]


def write_whole(path: Path, data: bytes) -> None:
    """Write through a temporary file in the same folder, so that no reader sees a part."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


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
    except _MalformedError as error:
        raise FormatError(path, str(error)) from error
    except GraphError as error:
        raise FormatError(path, f"holds no valid graph: {error}") from error
    except RecursionError as error:
        raise FormatError(path, "its JSON is nested too deeply") from error


class _MalformedError(Exception):
    """Internal: a sentence about the content, before the path is known."""


def _network_from(metadata: dict[str, str], tensors: dict[str, Any]) -> Network:
    if (version := metadata.get("format")) != FORMAT:
        raise _MalformedError(f"format {version!r} is unknown; this lapilli reads {FORMAT!r}")
    if odd := sorted(metadata.keys() - {"format", "network", "digest"}):
        raise _MalformedError(f"unknown metadata key {odd[0]!r}")
    try:
        content = json.loads(metadata.get("network", ""))
    except ValueError as error:
        raise _MalformedError(f"its network is no JSON ({error})") from error
    keys = ("T", "nodes", "outputs", "input", "logit_scale", "classes")
    top = _mapping(content, "the network", keys)
    T = _integer(top["T"], "T")
    if not 1 <= T <= _MOST_STEPS:
        raise _MalformedError(f"T = {T} leaves 1..{_MOST_STEPS}")
    unused = set(tensors)
    nodes = tuple(_node_from(item, tensors, unused) for item in _list(top["nodes"], "nodes"))
    if unused:
        raise _MalformedError(f"tensor {min(unused)!r} belongs to no node")
    graph = Graph(nodes, tuple(_text(o, "outputs") for o in _list(top["outputs"], "outputs")), T)
    for name, kind in graph.types.items():
        if math.prod(kind.shape) > _MOST_ELEMENTS:
            raise _MalformedError(f"node {name!r}: a value of shape {list(kind.shape)}")
    if graph.digest != metadata.get("digest"):
        raise _MalformedError("its digest is not its content's: damaged, or edited by hand")
    source = _mapping(top["input"], "input", ("mean", "std", "exponent", "lo", "hi"))
    quantizer = InputQuantizer(
        mean=tuple(_fraction(m, "mean") for m in _list(source["mean"], "mean")),
        std=tuple(_fraction(s, "std") for s in _list(source["std"], "std")),
        exponent=_integer(source["exponent"], "exponent"),
        lo=_integer(source["lo"], "lo"),
        hi=_integer(source["hi"], "hi"),
    )
    if len(quantizer.mean) != len(quantizer.std) or min(quantizer.std, default=0) <= 0:
        raise _MalformedError("input needs one mean and one positive std per channel")
    if quantizer.lo > quantizer.hi:
        raise _MalformedError(f"input range [{quantizer.lo}, {quantizer.hi}] is empty")
    if abs(quantizer.exponent) > 64:
        raise _MalformedError(f"input exponent {quantizer.exponent} leaves -64..64")
    classes = tuple(_text(c, "classes") for c in _list(top["classes"], "classes"))
    scale = _fraction(top["logit_scale"], "logit_scale")
    return Network(graph=graph, input=quantizer, logit_scale=scale, classes=classes)


def _node_to_json(node: Node, tensors: dict[str, Any]) -> dict[str, Any]:
    attributes = _attributes_to_json(node.op, f"{node.name}:", tensors)
    op = type(node.op).__name__
    return {"name": node.name, "op": op, "inputs": list(node.inputs), "attributes": attributes}


def _attributes_to_json(op: ops.Op, prefix: str, tensors: dict[str, Any]) -> dict[str, Any]:
    attributes: dict[str, Any] = {}
    for f in fields(op):
        value = getattr(op, f.name)
        if isinstance(value, IntTensor):
            key = f"{prefix}{f.name}"
            tensors[key] = value.array.astype(narrowest_dtype(value.range))
            value = key
        elif isinstance(value, TensorType):
            bounds = [value.range.lo, value.range.hi]
            value = {"shape": list(value.shape), "range": bounds, "kind": value.kind.value}
        elif isinstance(value, ops.Reset):
            value = value.value
        elif isinstance(value, ops.Neuron):
            value = _attributes_to_json(value, f"{prefix}{f.name}.", tensors)
        attributes[f.name] = value
    return attributes


def _node_from(item: object, tensors: dict[str, Any], unused: set[str]) -> Node:
    node = _mapping(item, "a node", ("name", "op", "inputs", "attributes"))
    name = _text(node["name"], "the name of a node")
    kind = _OPS.get(_text(node["op"], f"the op of {name!r}"))
    if kind is None:
        raise _MalformedError(f"node {name!r}: unknown op {node['op']!r}")
    op = _op_from(kind, node["attributes"], f"node {name!r}", tensors, unused)
    inputs = tuple(_text(i, f"node {name!r}: inputs") for i in _list(node["inputs"], "inputs"))
    return Node(name, op, inputs)


def _op_from(
    kind: type[ops.Op], given: object, where: str, tensors: dict[str, Any], unused: set[str]
) -> ops.Op:
    attributes = _mapping(given, where, [f.name for f in fields(kind)])

    def tensor(value: object, where: str) -> IntTensor:
        key = _text(value, where)
        if key not in tensors or tensors[key].dtype not in DTYPES or not tensors[key].size:
            raise _MalformedError(f"{where}: no integer tensor {key!r} in the file")
        unused.discard(key)
        return IntTensor.of(tensors[key])

    readers: Mapping[str, Callable[[object, str], object]] = {
        "IntTensor": tensor,
        "TensorType": _tensor_type,
        "Reset": _reset,
        "Neuron": lambda value, where: _op_from(ops.Neuron, value, where, tensors, unused),
        "bool": _boolean,
        "int": _integer,
        "tuple[int, ...]": _integers,
        "tuple[int, int]": _pair,
    }
    arguments = {
        f.name: readers[str(f.type)](attributes[f.name], f"{where}: {f.name}") for f in fields(kind)
    }
    return _make(kind, arguments)


def _make(kind: Callable[..., ops.Op], arguments: Mapping[str, object]) -> ops.Op:
    """Call a constructor with what the readers, which know its types, have read."""
    return kind(**arguments)


def _mapping(value: object, where: str, keys: tuple[str, ...] | list[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _MalformedError(f"{where}: expected an object")
    if missing := [k for k in keys if k not in value]:
        raise _MalformedError(f"{where}: key {missing[0]!r} is missing")
    if odd := sorted(value.keys() - set(keys)):
        raise _MalformedError(f"{where}: unknown key {odd[0]!r}")
    return value


def _list(value: object, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise _MalformedError(f"{where}: expected a list")
    return value


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise _MalformedError(f"{where}: expected text, got {value!r}")
    return value


def _integer(value: object, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) >= 1 << 63:
        raise _MalformedError(f"{where}: expected a 64-bit integer, got {str(value)[:40]}")
    return value


def _boolean(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        raise _MalformedError(f"{where}: expected true or false, got {value!r}")
    return value


def _integers(value: object, where: str) -> tuple[int, ...]:
    numbers = tuple(_integer(v, where) for v in _list(value, where))
    if len(numbers) > 32:
        raise _MalformedError(f"{where}: {len(numbers)} axes")
    return numbers


def _pair(value: object, where: str) -> tuple[int, ...]:
    numbers = _integers(value, where)
    if len(numbers) != 2 or not all(0 <= n < 1 << 16 for n in numbers):
        raise _MalformedError(f"{where}: expected two small integers, got {numbers}")
    return numbers


def _reset(value: object, where: str) -> ops.Reset:
    try:
        return ops.Reset(value)
    except ValueError as error:
        raise _MalformedError(f"{where}: unknown reset {value!r}") from error


def _tensor_type(value: object, where: str) -> TensorType:
    item = _mapping(value, where, ("shape", "range", "kind"))
    shape = _integers(item["shape"], where)
    if any(n < 1 for n in shape) or np.prod(shape, dtype=object) > _MOST_ELEMENTS:
        raise _MalformedError(f"{where}: a value of shape {list(shape)}")
    bounds = _integers(item["range"], where)
    try:
        return TensorType(shape, IntRange(*bounds), Kind(item["kind"]))
    except (TypeError, ValueError) as error:
        raise _MalformedError(f"{where}: {error}") from error


def _fraction(value: object, where: str) -> Fraction:
    text = _text(value, where)
    try:
        if len(text) > 200 or "e" in text.lower():
            raise ValueError("too long")
        return Fraction(text)
    except (ValueError, ZeroDivisionError) as error:
        raise _MalformedError(f"{where}: {text[:40]!r} is no fraction") from error
