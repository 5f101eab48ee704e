"""What a module returns: dataclasses, and functions at its very end that are the host's."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

aten = torch.ops.aten
# What no host needs of integers, by the operators that torch.export makes of it.
LAST_FUNCTIONS: Mapping[Any, str] = {
    aten.softmax.int: "softmax",
    aten._softmax.default: "softmax",  # noqa: SLF001
    aten.log_softmax.int: "log_softmax",
    aten._log_softmax.default: "log_softmax",  # noqa: SLF001
    aten.sigmoid.default: "sigmoid",
    aten.argmax.default: "argmax",
}
_NAMES = frozenset(LAST_FUNCTIONS.values())


def without_dataclasses(returned: Any) -> Any:
    """Dataclasses that torch does not know as trees become dictionaries, nested ones likewise."""

    def opened(value: Any) -> Any:
        if not dataclasses.is_dataclass(value) or isinstance(value, type):
            return value
        return without_dataclasses(
            {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        )

    return pytree.tree_map(opened, returned)


@contextmanager
def undoing(asked: bool) -> Iterator[Callable[[Tensor], Tensor]]:
    """While this runs, softmax and the like are remembered.

    Yields:
        A function that gives for a tensor what they were made of; itself if it is no such result.
    """
    if not asked:
        yield lambda value: value
        return
    with _Remembering() as remembering:
        yield remembering.undone


class _Remembering(TorchFunctionMode):
    """Keeps the argument beside the result of each function that is left to the host."""

    def __init__(self) -> None:
        super().__init__()
        self._made: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any | None = None
    ) -> Any:
        given = kwargs or {}
        result = func(*args, **given)
        if getattr(func, "__name__", "") in _NAMES:
            self._made[id(result)] = (result, args[0] if args else given["input"])
        return result

    def undone(self, value: Tensor) -> Tensor:
        """What was given to the last of these functions in a row that made a value."""
        while id(value) in self._made:
            value = self._made[id(value)][1]
        return value
