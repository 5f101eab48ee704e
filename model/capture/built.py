"""What a first call builds and later calls read: a matrix, and the flag that it is there."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lapilli.model.capture.signature import Signature
from lapilli.model.neurons.adapters import adapter_of, reset_states
from lapilli.model.neurons.copies import copied

_OF_TORCH = frozenset(vars(nn.Module()))


def builds(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Whether a call has put a tensor where none was."""
    return any(
        isinstance(value, Tensor) and not isinstance(before.get(name), Tensor)
        for name, value in after.items()
    )


def once_called(model: nn.Module, signature: Signature, sample: tuple[int, ...]) -> nn.Module:
    """A copy that has what calls build alike, whatever the images; not what they keep of these.

    Args:
        model: in evaluation mode, of one that a call has given a tensor.
        signature: how it is called.
        sample: shape of one sample.
    """
    made = copied(model)
    dtype = next((p.dtype for p in model.parameters()), torch.float32)
    generator = torch.Generator().manual_seed(0)
    called = []
    for count in (2, 3):
        copy = copied(model)
        reset_states(copy)
        images = torch.randn((count, *sample), generator=generator).to(dtype)
        with torch.no_grad():
            signature.call(copy, images)
        called.append(copy)
    for module, *copies in zip(made.modules(), *(c.modules() for c in called), strict=True):
        if adapter_of(module) is None:
            _take(module, *copies)
    return made


def _take(module: nn.Module, one: nn.Module, two: nn.Module) -> None:
    """Attributes that both calls have changed to the same."""
    for name in (vars(one).keys() & vars(two).keys()) - _OF_TORCH:
        if _alike(vars(one)[name], vars(two)[name]):
            setattr(module, name, vars(one)[name])


def _alike(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.shape == b.shape and torch.equal(a, b)
    return isinstance(a, bool | int | float | str | None) and type(a) is type(b) and bool(a == b)
