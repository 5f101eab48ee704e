"""Random edits of a `.onnx` file: its metadata, its messages, and what costs memory or depth."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, TypeAlias

import numpy as np
import onnx
from fuzz.json_edits import edit_json, odd

Rng: TypeAlias = np.random.Generator

# ModelProto.metadata_props, .functions; GraphProto.node: field numbers as their tags
_EMPTY = (b"\x72\x00", b"\xca\x01\x00", b"\x3a\x02\x0a\x00")


def damaged_onnx(data: bytes, rng: Rng) -> bytes:
    """A few edits of the metadata or of any message; sometimes thousands of empty messages."""
    model = onnx.ModelProto.FromString(data)
    for _ in range(rng.integers(1, 4)):
        with suppress(ValueError, TypeError, LookupError, RecursionError):  # edited before
            match rng.integers(10):
                case 0 | 1 | 2:
                    _edit_content(model, rng)
                case 3 | 4:
                    _edit_pairs(model, rng)
                case 5:
                    _point_outside(model, rng)
                case _:
                    _edit_message(model, rng)
    whole: bytes = model.SerializeToString()
    match rng.integers(20):
        case 0:
            return whole + _EMPTY[rng.integers(len(_EMPTY))] * int(rng.choice([1, 100, 100_000]))
        case 1:
            return whole + _nested(int(rng.choice([3, 50, 5000])))
        case _:
            return whole


def _edit_content(model: onnx.ModelProto, rng: Rng) -> None:
    """The JSON inside a metadata value."""
    pair = model.metadata_props[rng.integers(len(model.metadata_props))]
    content = json.loads(pair.value)
    if isinstance(content, dict | list):
        edit_json(content, rng)
    else:
        content = odd(rng)
    pair.value = json.dumps(content)


def _edit_pairs(model: onnx.ModelProto, rng: Rng) -> None:
    """Keys and values as text."""
    pairs = model.metadata_props
    pair, other = (pairs[int(i)] for i in rng.integers(0, len(pairs), 2))
    match rng.integers(6):
        case 0:
            pairs.remove(pair)
        case 1:
            pairs.add().CopyFrom(pair)
        case 2:
            pair.key = other.key
        case 3:
            pair.value = other.value
        case 4:
            deep = int(rng.choice([10, 1000, 200_000]))
            pair.value = str(rng.choice(["[", '{"a":', "[]," * 9, "9", '"'])) * deep
        case _:
            pair.value = str(odd(rng))


def _point_outside(model: onnx.ModelProto, rng: Rng) -> None:
    """Say that the numbers of a weight lie in another file."""
    tensors = model.graph.initializer
    tensor = tensors[rng.integers(len(tensors))]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.ClearField("raw_data")
    for key, value in (("location", "/etc/hostname"), ("offset", "0"), ("length", "4")):
        tensor.external_data.add(key=key, value=value)


def _messages(message: Any) -> Iterator[Any]:
    """This message and all inside it."""
    yield message
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for inner in value if field.is_repeated else [value]:
                yield from _messages(inner)


def _edit_message(model: onnx.ModelProto, rng: Rng) -> None:
    """A field of any message cleared, doubled, or given another value."""
    messages = list(_messages(model))
    message = messages[rng.integers(len(messages))]
    fields = message.ListFields()
    field, value = fields[rng.integers(len(fields))]
    match rng.integers(4):
        case 0:
            message.ClearField(field.name)
        case 1 if field.is_repeated:
            at = int(rng.integers(len(value)))
            if field.type == field.TYPE_MESSAGE:
                value.add().CopyFrom(value[at])
            else:
                value.append(value[at])
        case 2 if field.is_repeated:
            del value[int(rng.integers(len(value)))]
        case _ if field.type == field.TYPE_MESSAGE:
            inner = value[0] if field.is_repeated else value
            others = [m for m in messages if type(m) is type(inner)]
            other = others[rng.integers(len(others))]
            inner.ParseFromString(other.SerializeToString())  # may be part of it
        case _ if field.is_repeated:
            value[int(rng.integers(len(value)))] = odd(rng)
        case _:
            setattr(message, field.name, odd(rng))


def _nested(deep: int) -> bytes:
    """A graph in an attribute of a node of a graph, and so on."""
    inner = b""
    for _ in range(deep):
        for tag in (b"\x32", b"\x2a", b"\x0a"):  # AttributeProto.g, NodeProto.attribute, .node
            inner = tag + _varint(len(inner)) + inner
    return b"\x3a" + _varint(len(inner)) + inner


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])
