"""The spiking neuron that our models use: a multi-step LIF with a surrogate gradient.

    h[t] = v[t-1] + (x[t] - v[t-1]) / tau        charge
    s[t] = 1 if h[t] >= v_threshold else 0       fire
    v[t] = h[t] * (1 - s[t])                     hard reset to zero

Source: Fang et al., "Incorporating Learnable Membrane Time Constant", ICCV 2021, eq. 1-3;
the neuron of Spikformer, Spikingformer, Spike-driven Transformer and QKFormer.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class _Spike(torch.autograd.Function):
    """Heaviside step; backward is the derivative of sigmoid(alpha * x), alpha = 4."""

    alpha = 4.0

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(_Spike.alpha * x)
        return grad_outputs[0] * _Spike.alpha * s * (1 - s)


def _fire(x: Tensor) -> Tensor:
    spikes: Tensor = _Spike.apply(x)  # type: ignore[no-untyped-call]
    return spikes


class LIF(nn.Module):
    """Leaky integrate-and-fire over the leading time axis; starts from rest at every call.

    Shapes: x (T, ...), spikes (T, ...).
    """

    def __init__(self, tau: float = 2.0, v_threshold: float = 1.0) -> None:
        super().__init__()
        self.tau = tau
        self.v_threshold = v_threshold

    def forward(self, x: Tensor) -> Tensor:
        """Return the spikes that the currents `x` evoke."""
        return self.trace(x)[0]

    def trace(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return spikes and membranes h (before reset), both (T, ...)."""
        v = torch.zeros_like(x[0])
        spikes, membranes = [], []
        for current in x:
            h = v + (current - v) / self.tau
            s = _fire(h - self.v_threshold)
            v = h * (1 - s.detach())  # the reset carries no gradient, as in the official code
            spikes.append(s)
            membranes.append(h)
        return torch.stack(spikes), torch.stack(membranes)

    def extra_repr(self) -> str:
        """Show the two constants in `print(model)`."""
        return f"tau={self.tau}, v_threshold={self.v_threshold}"
