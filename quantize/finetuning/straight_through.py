"""A gradient for what has none: rounding, cutting off, integer neurons."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def straight_through(real: Tensor, rounded: Tensor, passes: Tensor | None = None) -> Tensor:
    """Return `rounded` bit for bit, with the gradient of `real`.

    Args:
        real: what was rounded.
        rounded: of the same shape; of any precision. Where it has a gradient of its own, that of
            its scale, it is given all of it.
        passes: where the gradient goes on, 1, and where it ends, 0; everywhere by default.
    """
    y: Tensor = _StraightThrough.apply(real, rounded, passes)  # type: ignore[no-untyped-call]
    return y


def by_steps(rounded: Tensor, moved: Tensor, slope: Tensor, together: int) -> Tensor:
    """Return `rounded` bit for bit, with the gradient of the steps by which it was rounded.

    Args:
        rounded: weights, output channels first.
        moved: a number for each step, or one, in which the step is learned.
        slope: of the same shape as `rounded`: by how much it grows with that number.
        together: so many neighbouring channels have one step.
    """
    y: Tensor = _BySteps.apply(rounded, moved, slope, together)  # type: ignore[no-untyped-call]
    return y


class _BySteps(torch.autograd.Function):
    """The sum over all weights of a step of gradient times slope."""

    @staticmethod
    def forward(ctx: Any, rounded: Tensor, moved: Tensor, slope: Tensor, together: int) -> Tensor:
        ctx.save_for_backward(slope)
        ctx.moved, ctx.together = moved.detach(), together
        return rounded.detach().clone()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[None, Tensor, None, None]:
        (grad,), (slope,) = grad_outputs, ctx.saved_tensors
        each = (grad * slope).flatten(1).sum(1)
        together = ctx.together if len(ctx.moved) > 1 else len(each)
        steps = torch.arange(len(each)) // together
        summed = torch.zeros_like(ctx.moved).index_add(0, steps, each.to(ctx.moved.dtype))
        return None, summed, None, None


class _StraightThrough(torch.autograd.Function):
    """Not `real + (rounded - real)`, which rounds once more."""

    @staticmethod
    def forward(ctx: Any, real: Tensor, rounded: Tensor, passes: Tensor | None) -> Tensor:
        ctx.dtype, ctx.passes = real.dtype, passes
        return rounded.detach().clone()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor | None, None]:
        (grad,) = grad_outputs
        rounded = grad if ctx.needs_input_grad[1] else None
        if ctx.passes is not None:
            grad = grad * ctx.passes
        return grad.to(ctx.dtype), rounded, None
