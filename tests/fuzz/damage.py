"""Damaged files by number: half of them edited in their structure, half in their bytes."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from fuzz.data_files import PLACES, repacked
from fuzz.files import FORMATS
from fuzz.hdf5_edits import damaged_hdf5
from fuzz.json_edits import damaged_lapilli
from fuzz.protobuf_edits import damaged_onnx

Rng: TypeAlias = np.random.Generator
_NIR_WORDS = ("x", "fc", "lif", "y", "Neuron", "NIRGraph", "Conv2d", "same", "{", "é" * 9)
_NET_WORDS = ("input", "dense", "conv", "flatten", "average", "CUBA", "LOIHI", "SDNN", "{", "é" * 9)


def damaged(kind: str, honest: list[bytes], number: int) -> bytes:
    """The file of this number."""
    rng = np.random.default_rng([FORMATS.index(kind), number])
    data = honest[rng.integers(len(honest))]
    if rng.random() < 0.5:
        return _flipped(data, rng)
    if kind in PLACES:
        return repacked(kind, data, rng, _flipped)
    match kind:
        case "lapilli":
            return damaged_lapilli(data, rng)
        case "nir":
            return damaged_hdf5(data, rng, _NIR_WORDS)
        case "net":
            return damaged_hdf5(data, rng, _NET_WORDS)
        case _:
            return damaged_onnx(data, rng)


def _flipped(data: bytes, rng: Rng) -> bytes:
    """Bytes changed, cut off, doubled or moved; half of the time near the beginning."""
    raw = bytearray(data)
    for _ in range(int(rng.choice([1, 1, 2, 4, 16]))):
        end = len(raw) if rng.random() < 0.5 else min(len(raw), 4096)
        at = int(rng.integers(end)) if end else 0
        length = int(rng.choice([1, 4, 8, 64]))
        match rng.integers(6):
            case 0:
                raw = raw[:at] if rng.random() < 0.2 else raw
            case 1:
                raw[at:at] = raw[at : at + length]
            case 2:
                other = int(rng.integers(end)) if end else 0
                raw[at : at + length] = raw[other : other + length]
            case 3:
                raw[at : at + length] = bytes([int(rng.choice([0, 255]))]) * length
            case _:
                if raw:
                    raw[at] = raw[at] ^ (1 << int(rng.integers(8)))
    return bytes(raw)
