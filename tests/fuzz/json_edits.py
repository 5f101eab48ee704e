"""Random edits of JSON, and of the header of a `.lapilli` file, which is JSON."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, TypeAlias

import numpy as np

Rng: TypeAlias = np.random.Generator


_ODD: Sequence[Any] = (
    None, True, -1, 0, 1, 3, 4097, 1 << 16, 1 << 31, 1 << 62, 1 << 63, -(1 << 70), 0.5, 1e308, "",
    "x", "Neuron", "1/0", "9" * 300, "\ud800", [], {}, [[[[]]]], [1 << 40] * 3, ["x"] * 40,
    {"a": {}},
)  # fmt: skip


def odd(rng: Rng) -> Any:
    return copy.deepcopy(_ODD[int(rng.integers(len(_ODD)))])


def edit_json(content: Any, rng: Rng) -> None:
    """One random edit somewhere in the tree."""
    places: list[tuple[Any, Any]] = []
    waiting = [content]
    while waiting:
        at = waiting.pop()
        keys = list(at) if isinstance(at, dict) else range(len(at))
        places += [(at, key) for key in keys]
        waiting += [at[key] for key in keys if isinstance(at[key], dict | list)]
    if not places:
        return
    at, key = places[rng.integers(len(places))]
    other_at, other_key = places[rng.integers(len(places))]
    match rng.integers(6):
        case 0:
            del at[key]
        case 1:
            at[key] = copy.deepcopy(other_at[other_key])
        case 2 if isinstance(at, list):
            at.insert(key, copy.deepcopy(at[key]))
        case 3 if isinstance(at, dict):
            at[str(odd(rng))[:50]] = odd(rng)
        case 4 if isinstance(at[key], int):
            at[key] += int(rng.choice([-1, 1, 1 << 20, 1 << 40]))
        case _:
            at[key] = odd(rng)


def damaged_lapilli(data: bytes, rng: Rng) -> bytes:
    size = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + size]), data[8 + size :]
    for _ in range(rng.integers(1, 4)):
        with suppress(KeyError, TypeError, ValueError):  # the last edit left no network to edit
            if rng.random() < 0.7:
                content = json.loads(header["__metadata__"]["network"])
                edit_json(content, rng)
                header["__metadata__"]["network"] = json.dumps(content)
            else:
                edit_json(header, rng)
    text = json.dumps(header).encode()
    claimed = (
        len(text) if rng.random() < 0.9 else int(rng.choice([0, 1, size * 2, 1 << 40, 1 << 63]))
    )
    return (claimed % (1 << 64)).to_bytes(8, "little") + text + body
