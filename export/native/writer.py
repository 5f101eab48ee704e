"""Write a `.lapilli` file."""

from __future__ import annotations

import enum
import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from lapilli.export.atomic import write_atomic
from lapilli.ir import ops
from lapilli.ir.answers import Answer
from lapilli.ir.graph import Node
from lapilli.ir.network import Network
from lapilli.ir.recipe import Json
from lapilli.ir.tensor import IntTensor
from lapilli.ir.types import TensorType

FORMAT = "lapilli/2"


def save_network(network: Network, path: Path) -> None:
    """Write `network` to `path`, whole or not at all."""
    tensors: dict[str, np.ndarray[Any, Any]] = {}
    content: dict[str, Any] = {
        "T": network.graph.T,
        "nodes": [_node_to_json(node, tensors) for node in network.graph.nodes],
        "outputs": list(network.graph.outputs),
        "input": as_json(network.input),
        "logit_scale": str(network.logit_scale),
        "classes": list(network.classes),
    }
    if network.answers:
        content["answers"] = [
            _answer_to_json(answer, f"answer:{i}:", tensors)
            for i, answer in enumerate(network.answers)
        ]
    if network.encoding is not None:
        content["encoding"] = as_json(network.encoding)
    if network.ids:
        content["ids"] = network.ids
    if network.parts:
        content["parts"] = as_json(network.parts)
    told = json.dumps(as_json(network.recipe), sort_keys=True, separators=(",", ":"))
    metadata = {
        "format": FORMAT,
        "network": json.dumps(content, sort_keys=True, separators=(",", ":")),
        "recipe": told,
        "digest": file_digest(network.digest, told),
    }
    write_atomic(path, _ordered(save(tensors, metadata)))


def file_digest(network_digest: str, recipe: str) -> str:
    """SHA-256 of everything in a file: what decides an answer, and how it was made."""
    return hashlib.sha256(f"{network_digest}\n{recipe}".encode()).hexdigest()


def as_json(value: object) -> Json:
    """Write a dataclass, field by field; fractions as text, enumerations by their value."""
    if is_dataclass(value) and not isinstance(value, IntTensor):
        return {f.name: as_json(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [as_json(item) for item in value]
    if isinstance(value, enum.Enum):
        return str(value.value)
    if isinstance(value, Fraction):
        return str(value)
    if isinstance(value, IntTensor):
        rows: list[Json] = value.array.tolist()
        return rows
    if value is None or isinstance(value, bool | int | str):
        return value
    raise TypeError(f"a {type(value).__name__} has no place in a file")


def _ordered(data: bytes) -> bytes:
    """The same file with sorted metadata, which safetensors writes in random order."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of eight
    return len(text).to_bytes(8, "little") + text + data[end:]


def _answer_to_json(answer: Answer, prefix: str, tensors: dict[str, Any]) -> Json:
    told: dict[str, Json] = {
        "name": answer.name,
        "scale": str(answer.scale),
        "steps": answer.steps,
        "weights": [*answer.weights],
    }
    if (matrix := answer.matrix) is not None:
        key = f"{prefix}matrix"
        tensors[key] = matrix.stored
        told |= {"matrix": key, "offset": [*answer.offset]}
    return told


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
            tensors[key] = value.stored
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
