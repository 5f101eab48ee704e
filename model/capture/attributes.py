"""Name what a module remembers by: fingerprints of all that it holds.

Only names in a message come from here; whether there is a state at all is decided by what the
module does (`repeatability`).
"""

from __future__ import annotations

import hashlib
import types
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import nn

_PART = 1 << 18  # bytes hashed at a time, while they are in cache
_DEPTH = 6  # of objects in objects; a cycle ends here, too
_OF_TORCH = frozenset(vars(nn.Module())) - {"_parameters", "_buffers"}


class _Bytes(np.ndarray[Any, np.dtype[np.uint8]]):
    """Bytes that Python hashes where they lie: it asks whether their owner has a hash, too."""

    __hash__ = object.__hash__  # type: ignore[assignment]


def fingerprints(module: nn.Module) -> dict[str, bytes]:
    """Hash each attribute of a module, of its class, and what its forward closes over.

    Returns:
        By name as an author reads it: `self.x`, `Class.x`, `forward's x`.
    """
    return {name: _fingerprint(value) for name, value in _held(module)}


def changed_attributes(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> list[str]:
    """Names whose fingerprints differ, or are in one of two alone; sorted."""
    return sorted(n for n in before.keys() | after.keys() if before.get(n) != after.get(n))


def bits(tensor: torch.Tensor) -> Iterator[bytes]:
    """What makes a tensor what it is: type, shape and hashes of the bits of its elements.

    The hash is Python's own of bytes, SipHash, under a key that this process and those that it
    forks share: 64 bits for each part, at several times the speed of those of `hashlib`.
    """
    yield f"{tuple(tensor.shape)}{tensor.dtype}".encode()
    if tensor.layout is torch.strided and not tensor.is_meta:
        plain = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()
        for start in range(0, len(plain), _PART):
            part: Any = plain[start : start + _PART].view(_Bytes)
            part.flags.writeable = False  # a view of bytes that may change has no hash
            yield hash(memoryview(part)).to_bytes(8, "little", signed=True)


def _held(module: nn.Module) -> Iterator[tuple[str, Any]]:
    for name, value in vars(module).items():
        if name in ("_parameters", "_buffers"):
            yield from ((f"self.{n}", v) for n, v in value.items())
        elif name not in _OF_TORCH:
            yield f"self.{name}", value
    for kind in type(module).__mro__:
        if kind is nn.Module:
            break
        for name, value in vars(kind).items():
            if not (name.startswith("__") or callable(value) or isinstance(value, property)):
                yield f"{kind.__name__}.{name}", value
            if isinstance(value, types.FunctionType):
                yield from ((f"{name}'s {n}", v) for n, v in _reached(value))


def _reached(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """What a function can change that outlives its call: closure, defaults, globals."""
    names = function.__code__.co_freevars
    for name, cell in zip(names, function.__closure__ or (), strict=True):
        yield name, _content(cell)
    for number, value in enumerate(function.__defaults__ or ()):
        yield f"default {number}", value
    yield from (function.__kwdefaults__ or {}).items()
    for name in function.__code__.co_names:
        value = function.__globals__.get(name)
        if not isinstance(value, type | types.ModuleType | types.FunctionType | nn.Module):
            yield f"global {name}", value


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not yet assigned
        return None


def _fingerprint(value: Any) -> bytes:
    digest = hashlib.blake2b(digest_size=8)
    for part in _parts(value, _DEPTH):
        digest.update(part)
    return digest.digest()


def _parts(value: Any, depth: int) -> Iterator[bytes]:
    yield type(value).__qualname__.encode()
    if isinstance(value, torch.Tensor):
        yield from bits(value)
    elif isinstance(value, str | bytes | int | float | complex | None):
        yield repr(value).encode()
    elif depth and not isinstance(value, type | types.ModuleType | nn.Module):
        for inner in _inside(value):
            yield from _parts(inner, depth - 1)


def _inside(value: Any) -> Iterator[Any]:
    """What an object is made of."""
    if isinstance(value, Mapping):
        for item in value.items():
            yield from item
    elif isinstance(value, Sequence | AbstractSet):
        yield from value
    elif isinstance(value, types.FunctionType):
        yield from (_content(cell) for cell in value.__closure__ or ())
        yield from value.__defaults__ or ()
        yield from (value.__kwdefaults__ or {}).values()
    elif isinstance(value, types.MethodType):
        yield value.__func__
    elif isinstance(value, types.GeneratorType):
        yield value.gi_frame and dict(value.gi_frame.f_locals)
    elif isinstance(value, torch.Generator):
        yield value.get_state()
    elif hasattr(value, "cache_info"):
        yield repr(value.cache_info())
    else:
        with suppress(Exception):  # an object may refuse to be pickled, in whatever way
            yield from value.__reduce_ex__(2)[1:]
