"""The spiking neurons that our models use, each with a surrogate gradient.

Every one takes currents (T, ...) and returns spikes (T, ...); `trace` returns the membranes
as well. `LIF` is the neuron of Spikformer, Spikingformer, Spike-driven Transformer and
QKFormer, and `PLIF` an option of theirs; `TernaryLIF` is that of A2OS2A and BSA, `IntegerSpike`
that of E-SpikeFormer.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.jit import is_scripting, is_tracing  # type: ignore[attr-defined]

from lapilli.model.families.fused import fused_lif

_BLOCK = 1 << 16  # neurons at a time, so that what is between current and spike stays in cache
# Where to compare with a threshold is to subtract it and look at the sign.
_PRECISE = (torch.float32, torch.float64)


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
    if not (torch.is_grad_enabled() or is_tracing()):  # no need of an autograd function's frame
        return (x >= 0).to(x.dtype)
    spikes: Tensor = _Spike.apply(x)  # type: ignore[no-untyped-call]
    return spikes


class LIF(nn.Module):
    """Leaky integrate-and-fire over the leading time axis; starts from rest at every call.

        h[t] = v[t-1] + (x[t] - v[t-1]) / tau        charge
        s[t] = 1 if h[t] >= v_threshold else 0       fire
        v[t] = h[t] * (1 - s[t])                     hard reset to zero

    Source: Fang et al., "Incorporating Learnable Membrane Time Constant", ICCV 2021, eq. 1-3.
    Shapes: x (T, ...), spikes (T, ...).

    In training mode the whole loop over T is one autograd function (`fused`), with the same spikes
    and gradients, several times as fast. Without gradients, many neurons run some at a time.
    """

    def __init__(self, tau: float = 2.0, v_threshold: float = 1.0) -> None:
        super().__init__()
        self.tau = tau
        self.v_threshold = v_threshold

    def forward(self, x: Tensor) -> Tensor:
        """Return the spikes that the currents `x` evoke."""
        if is_scripting():  # the rest is no TorchScript
            return self._steps(x)[0]
        if self.training and type(self) is LIF:  # subclasses charge or fire in ways of their own
            return fused_lif(x, self.tau, self.v_threshold, _Spike.alpha)
        if "trace" in vars(self) or not self._runs_in_blocks(x):  # someone looks at membranes
            return self.trace(x)[0]
        flat = x.reshape(len(x), -1)
        spikes = torch.empty_like(flat)
        for block in zip(*(y.split(_BLOCK, 1) for y in (flat, spikes)), strict=True):
            self._steps_into(*block)
        return spikes.reshape(x.shape)

    def _runs_in_blocks(self, x: Tensor) -> bool:
        return not (torch.is_grad_enabled() or is_tracing()) and x[0].numel() > _BLOCK

    def trace(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return spikes and membranes h (before reset), both (T, ...)."""
        if not self._runs_in_blocks(x):
            return self._steps(x)
        flat = x.reshape(len(x), -1)
        spikes, membranes = torch.empty_like(flat), torch.empty_like(flat)
        blocks = zip(*(y.split(_BLOCK, 1) for y in (flat, spikes, membranes)), strict=True)
        for block in blocks:
            self._steps_into(*block)
        return spikes.reshape(x.shape), membranes.reshape(x.shape)

    def _steps(self, x: Tensor) -> tuple[Tensor, Tensor]:
        v = torch.zeros_like(x[0])
        spikes, membranes = [], []
        for current in x:
            h = v + self._leak(current - v)
            s = self._spike(h)
            v = h * (1 - s.detach().abs())  # the reset carries no gradient, as in official code
            spikes.append(s)
            membranes.append(h)
        return torch.stack(spikes), torch.stack(membranes)

    def _steps_into(self, x: Tensor, spikes: Tensor, membranes: Tensor | None = None) -> None:
        """Write what `_steps` returns, in as few walks over memory as give the same bits."""
        v = torch.zeros_like(x[0])
        charges = [torch.empty_like(v)] * len(x) if membranes is None else membranes
        if type(self) is LIF and x.dtype in _PRECISE:  # subclasses charge or fire otherwise
            for current, spike, h in zip(x, spikes, charges, strict=True):
                torch.sub(current, v, out=h).div_(self.tau).add_(v)
                torch.ge(h, self.v_threshold, out=spike)
                torch.addcmul(h, h, spike, value=-1, out=v)
            return
        for current, spike, h in zip(x, spikes, charges, strict=True):
            torch.add(v, self._leak(current - v), out=h)
            s = self._spike(h)
            spike.copy_(s)
            torch.sub(1, s.abs(), out=v).mul_(h)

    def _leak(self, x: Tensor) -> Tensor:
        return x / self.tau

    def _spike(self, h: Tensor) -> Tensor:
        return _fire(h - self.v_threshold)

    def extra_repr(self) -> str:
        """Show the two constants in `print(model)`."""
        return f"tau={self.tau}, v_threshold={self.v_threshold}"


class PLIF(LIF):
    """A LIF that learns its time constant: 1 / tau is sigmoid(w), one `w` for all its neurons.

    Source: as `LIF`. Its key in a checkpoint, `w`, is that of SpikingJelly and of STEP.
    """

    def __init__(self, tau: float = 2.0, v_threshold: float = 1.0) -> None:
        super().__init__(tau, v_threshold)
        self.w = nn.Parameter(torch.logit(torch.tensor(1 / tau)))

    def _leak(self, x: Tensor) -> Tensor:
        return x * self.w.sigmoid()

    def extra_repr(self) -> str:
        """Show the two constants in `print(model)`."""
        return f"tau={float(1 / self.w.detach().sigmoid()):g}, v_threshold={self.v_threshold}"


class TernaryLIF(LIF):
    """A LIF that also fires -1 when h <= -v_threshold; either spike resets it to zero.

    Source: Guo et al., "Spiking Transformer: Introducing Accurate Addition-Only Spiking
    Self-Attention", CVPR 2025, eq. 25-27 (printed there without the sign), and BSA, eq. 9-11.
    They write the input without decay: their weights are ours divided by tau.
    """

    def _spike(self, h: Tensor) -> Tensor:
        return _fire(h - self.v_threshold) - _fire(-h - self.v_threshold)


class _Round(torch.autograd.Function):
    """round(clamp(x, 0, D)), half to even; backward is 1 inside [0, D], else 0."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, D: int) -> Tensor:
        ctx.save_for_backward((x >= 0) & (x <= D))
        return torch.round(torch.clamp(x, 0, D))

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        (inside,) = ctx.saved_tensors
        return grad_outputs[0] * inside, None


class IntegerSpike(nn.Module):
    """round(clamp(x, 0, D)) / norm, half to even: D binary spikes at once, no memory.

    Source: Yao et al., "Scaling Spike-driven Transformer with Efficient Spike Firing
    Approximation Training", TPAMI 2025. `norm` is D unless given.
    """

    def __init__(self, D: int = 4, norm: int | None = None) -> None:
        super().__init__()
        self.D = D
        self.norm = D if norm is None else norm

    def forward(self, x: Tensor) -> Tensor:
        """Return 0, 1/norm, ..., D/norm; any shape."""
        integers: Tensor = _Round.apply(x, self.D)  # type: ignore[no-untyped-call]
        return integers / self.norm

    def trace(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return spikes and membranes, which are the currents."""
        return self.forward(x), x

    def extra_repr(self) -> str:
        """Show the two constants in `print(model)`."""
        return f"D={self.D}, norm={self.norm}"
