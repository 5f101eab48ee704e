"""What a linear map gave is recalled where it is given the same bits again, not computed.

A convolution, or a product of matrices, is a function of its arguments. So a module that remembers
something from call to call is found as if each were computed: all that the author wrote runs each
time, and what is recalled is what would have been computed. Nor does it matter which function of
its arguments a map is, as long as it is the same at each call: where processors have products of
bfloat16, large maps of float32 are computed so. That could hide a small difference in what a map is
given, and so the arguments of all such maps are compared, too, as hashes. Results lie in memory
that forked processes share.
"""

from __future__ import annotations

import hashlib
import math
import mmap
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from lapilli.model.capture.attributes import bits
from lapilli.model.capture.layers import are_plain, coarsely, computed, inside_layers

_MAPS = frozenset({functional.linear, torch.conv1d, torch.conv2d})
_PRODUCTS = 256  # that a number of the result takes; for fewer, to compute it is as fast
_NUMBERS = 1 << 16  # of a result that is worth it
_MOST = 2 << 30  # bytes that are kept, or a part of the machine's memory
_PART = 8
_ALIGNED = 64  # bytes

# Where a result begins, its shape and its type, and the type in which it is answered.
_Place: TypeAlias = tuple[int, tuple[int, ...], torch.dtype, torch.dtype]


class Results:
    """Results by their arguments, in memory that processes share.

    Attributes:
        index: where each is; a process knows those of its own, and those that it is told of.
    """

    def __init__(self) -> None:
        self.index: dict[bytes, _Place] = {}
        self._memory: mmap.mmap | None = None
        with suppress(OSError):  # a machine that promises no more than it has
            self._memory = mmap.mmap(-1, _room())

    def keep(self, key: bytes, result: Tensor, answered: torch.dtype) -> None:
        """Keep a copy, if there is room, to answer it in another type."""
        start = max((_end(place) for place in self.index.values()), default=0)
        place = start, tuple(result.shape), result.dtype, answered
        if self._memory is None or _end(place) > len(self._memory):
            return
        self._at(self._memory, place).copy_(result)
        self.index[key] = place

    def recall(self, key: bytes) -> Tensor | None:
        """A copy of what is kept of these arguments, if anything is."""
        place = self.index.get(key)
        if place is None or self._memory is None:
            return None
        return self._at(self._memory, place).to(place[-1], copy=True)

    @staticmethod
    def _at(memory: mmap.mmap, place: _Place) -> Tensor:
        start, shape, dtype, _ = place
        flat = torch.frombuffer(memory, dtype=dtype, count=math.prod(shape), offset=start)
        return flat.reshape(shape)


def _room() -> int:
    if not hasattr(os, "sysconf"):
        return _MOST
    return min(_MOST, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // _PART)


def _end(place: _Place) -> int:
    start, shape, dtype, _ = place
    return start + -(-math.prod(shape) * dtype.itemsize // _ALIGNED) * _ALIGNED


@contextmanager
def recalling(results: Results) -> Iterator[list[bytes]]:
    """Let PyTorch's layers recall what they gave for the same arguments, weights among them.

    Yields:
        A list that takes up hashes of the arguments, call by call.
    """
    mode = _Recalling(results)
    with inside_layers(mode):
        yield mode.given


class _Recalling(TorchFunctionMode):
    def __init__(self, results: Results) -> None:
        super().__init__()
        self.results = results
        self.given: list[bytes] = []

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any | None = None
    ) -> Any:
        if func not in _MAPS or kwargs or not _is_worth(*args[:2]):
            return func(*args, **(kwargs or {}))
        if not are_plain(args):
            return func(*args)
        key = key_of(func, args)
        self.given.append(key)
        found = self.results.recall(key)
        if found is not None:
            return found
        coarse = coarsely(func, args)
        found = computed(func, args) if coarse is None else coarse
        answered = found.dtype if coarse is None else args[0].dtype
        if found.is_contiguous() and found.numel() >= _NUMBERS:
            self.results.keep(key, found, answered)
        return found.to(answered)


def _is_worth(x: Tensor, weight: Tensor) -> bool:
    return weight[0].numel() >= _PRODUCTS and not torch.is_grad_enabled()


def key_of(func: Any, args: Sequence[Any]) -> bytes:
    """Hash all that the result of a pure function depends on."""
    digest = hashlib.blake2b(repr(func).encode(), digest_size=16)
    for arg in args:
        for part in bits(arg) if isinstance(arg, Tensor) else [repr(arg).encode()]:
            digest.update(part)
    return digest.digest()
