"""A LIF as one autograd function over all time steps: what training spends its time in.

Small pieces of the batch pass through all T steps while they lie in the processor's cache. Of the
forward pass only membranes and spikes are kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

_PIECE = 1 << 16  # values of one step at once: what is computed of them stays in the cache


def fused_lif(x: Tensor, tau: float, v_threshold: float, alpha: float) -> Tensor:
    """Return the spikes of `LIF`, with the gradient of its surrogate sigmoid(alpha * x).

    Membranes are float32 where currents are bfloat16 or float16, and of the currents' type
    otherwise; spikes are of the currents' type. The layout of a step in memory is kept.

    Shapes: x (T, B, ...), spikes (T, B, ...).
    """
    spikes: Tensor = _FusedLIF.apply(x, tau, v_threshold, alpha)  # type: ignore[no-untyped-call]
    return spikes


class _FusedLIF(torch.autograd.Function):
    """Charge, fire and reset; each operation rounds as those of `LIF.trace` do."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, tau: float, v_threshold: float, alpha: float) -> Tensor:
        wide = torch.promote_types(x.dtype, torch.float32)
        membranes, spikes = _like(x, wide), _like(x, x.dtype)
        for piece in _pieces(x):
            v: Tensor | None = None
            for current, h, s in zip(x[piece], membranes[piece], spikes[piece], strict=True):
                if v is None:  # at rest
                    torch.div(current.to(wide), tau, out=h)
                    v = torch.empty_like(h)
                else:
                    torch.sub(current.to(wide), v, out=h)
                    h.div_(tau).add_(v)
                fired = s if s.dtype == wide else torch.empty_like(h)
                torch.ge(h, v_threshold, out=fired)
                torch.addcmul(h, h, fired, value=-1, out=v)
                if fired is not s:
                    s.copy_(fired)
        ctx.save_for_backward(membranes, spikes)
        ctx.constants = tau, v_threshold, alpha
        return spikes

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None, None]:
        membranes, spikes = ctx.saved_tensors
        tau, v_threshold, alpha = ctx.constants
        (grad,) = grad_outputs
        back = _like(membranes, membranes.dtype)
        shift = torch.tensor(-alpha * v_threshold, dtype=back.dtype, device=back.device)
        for piece in _pieces(membranes):
            steps = zip(grad[piece], membranes[piece], spikes[piece], back[piece], strict=True)
            later: Tensor | None = None  # the gradient of what the step left of the membrane
            for g, h, s, gx in reversed(tuple(steps)):
                gh = torch.add(shift, h, alpha=alpha).sigmoid_()
                rest = 1 - gh
                gh.mul_(g).mul_(rest)
                if later is None:
                    gh.mul_(alpha)
                else:  # no gradient passes through the reset itself
                    torch.add(later.addcmul_(later, s, value=-1), gh, alpha=alpha, out=gh)
                torch.div(gh, tau, out=gx)
                later = gh.sub_(gx)
        return back, None, None, None


def _like(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Memory for the values of all steps, each step laid out as the first of `x`."""
    step = torch.empty_like(x[0], device="meta")
    return torch.empty_strided(
        x.shape, (step.numel(), *step.stride()), dtype=dtype, device=x.device
    )


def _pieces(x: Tensor) -> Iterator[tuple[slice, ...]]:
    """Cut the batch, so that a step of a piece has no more than `_PIECE` values."""
    if x.dim() == 1:
        yield (slice(None),)
        return
    samples = max(1, _PIECE * x.shape[1] // max(1, x[0].numel()))
    for start in range(0, x.shape[1], samples):
        yield slice(None), slice(start, start + samples)


def keep_layout(x: Tensor) -> Tensor:
    """Return `x`, whose gradient will lie in memory as `x` does: batch norm is slow where not."""
    y: Tensor = _KeepLayout.apply(x)  # type: ignore[no-untyped-call]
    return y


class _KeepLayout(torch.autograd.Function):
    """The identity; its gradient is copied where it lies otherwise than the value."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.strides = x.stride()
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        (grad,) = grad_outputs
        if grad.stride() == ctx.strides:
            return grad
        laid = torch.empty_strided(grad.shape, ctx.strides, dtype=grad.dtype, device=grad.device)
        return laid.copy_(grad)
