"""A module of several inputs, called with one tensor in which they lie side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from lapilli.ir.parts import InputPart
from lapilli.model.capture.signature import Signature
from lapilli.model.neurons.copies import copied

_PARTS = "_lapilli_parts"


def with_named_inputs(model: nn.Module, parts: Sequence[InputPart]) -> nn.Module:
    """A copy of a module that takes all its inputs in one tensor (B, F), or (B, T, F).

    Its submodules and parameters keep their names; its forward is called with the inputs by theirs.
    """
    made: Any = copied(model)
    kind: Any = type(made)

    def forward(self: Any, given: Tensor) -> Any:
        return kind.forward(self, **_apart(given, getattr(self, _PARTS)))

    made.__class__ = type(kind.__name__, (kind,), {"forward": forward})
    setattr(made, _PARTS, tuple(parts))
    module: nn.Module = made
    return module


def _apart(given: Tensor, parts: Sequence[InputPart]) -> dict[str, Tensor]:
    inputs, start = {}, 0
    for part in parts:
        one = given[..., start : start + part.size]
        start += part.size
        if part.exponent:
            one = one * 2.0**part.exponent
        one = one.reshape(*given.shape[:-1], *part.shape)
        canonical = Signature(layout=part.layout).canonical
        inputs[part.name] = one.permute([canonical.index(axis) for axis in part.layout])
    return inputs
