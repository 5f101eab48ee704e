"""A gradient for what has none: rounding, cutting off, integer neurons."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def straight_through(real: Tensor, rounded: Tensor, passes: Tensor | None = None) -> Tensor:
    """Return `rounded` bit for bit, with the gradient of `real`.

    Args:
        real: what was rounded.
        rounded: of the same shape; of any precision.
        passes: where the gradient goes on, 1, and where it ends, 0; everywhere by default.
    """
    y: Tensor = _StraightThrough.apply(real, rounded, passes)  # type: ignore[no-untyped-call]
    return y


class _StraightThrough(torch.autograd.Function):
    """Not `real + (rounded - real)`, which rounds once more."""

    @staticmethod
    def forward(ctx: Any, real: Tensor, rounded: Tensor, passes: Tensor | None) -> Tensor:
        ctx.dtype, ctx.passes = real.dtype, passes
        return rounded.detach().clone()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        (grad,) = grad_outputs
        if ctx.passes is not None:
            grad = grad * ctx.passes
        return grad.to(ctx.dtype), None, None
