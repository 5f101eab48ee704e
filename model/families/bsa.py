"""Bipolar self-attention: ternary queries and keys, power-of-two weights, values not spiked.

Source: "Bipolar Self-attention for Spiking Transformers", NeurIPS 2025, eq. 9-19. The authors
published neither code nor thresholds; ours are those of the host that it replaces SSA in.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lapilli.model.families.layers import SSA, merge_heads, split_heads
from lapilli.model.families.lif import TernaryLIF


class Shiftmax(nn.Module):
    """y = sum_j v_j 2^(x_j - gamma), gamma the smallest integer with 2^gamma >= sum_j 2^x_j.

    Scores x are integers, so every weight is a power of two, and a row of weights sums to more
    than 1/2, at most 1: a value is shifted right, and added (eq. 13-15). What is declared here
    and must be the same on hardware (`ir.ops.ShiftSum`): terms of a row's sum of powers more
    than `window` below the largest are left out, which makes it exact in float64 and in 64-bit
    integers up to 4096 tokens, and so are weights below 2^-reach. Gradient: gamma is taken as a
    constant.

    Attributes:
        reach: at most `window`; quantization lowers it as far as the values' width allows.
        unit: what a sum is truncated to a multiple of, toward zero; quantization sets it to the
            unit of the values. While None, nothing is rounded.
    """

    window = 40

    def __init__(self) -> None:
        super().__init__()
        self.reach = self.window
        self.unit: float | None = None

    def forward(self, x: Tensor, v: Tensor) -> Tensor:
        """Integer scores (..., N, N) and values (..., N, d) -> (..., N, d)."""
        y = self.weights(x) @ v
        if self.unit is None:
            return y
        whole = torch.round(y / self.unit * 2.0**self.reach)  # y is a multiple of this already
        return torch.trunc(whole / 2.0**self.reach) * self.unit

    def weights(self, x: Tensor) -> Tensor:
        """Integers (..., N) -> powers of two, or 0, (..., N)."""
        largest = x.detach().amax(-1, keepdim=True)
        below = (x.detach() - largest).double()  # <= 0
        kept = torch.where(below >= -self.window, torch.exp2(below), torch.zeros_like(below))
        mantissa, exponent = torch.frexp(kept.sum(-1, keepdim=True))  # mantissa in [1/2, 1)
        gamma = largest + exponent - (mantissa == 0.5).to(exponent.dtype)
        return torch.exp2(x - gamma) * (gamma - x.detach() <= self.reach)


class BSA(SSA):
    """TernaryLIF(Shiftmax(Q K^T) V): signed spikes Q and K, currents V, shift and add.

    Keys are those of SSA; there is no `v_lif`. Eq. 17: the scores are not scaled.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        membrane: bool = False,
        tau: float = 2.0,
        bias: bool = True,
    ) -> None:
        super().__init__(dim, heads, membrane=membrane, tau=tau, bias=bias)
        self.q_lif = TernaryLIF(tau)
        self.k_lif = TernaryLIF(tau)
        del self.v_lif
        self.attn_lif = TernaryLIF(tau, v_threshold=0.5)
        self.shiftmax = Shiftmax()

    def mix(self, x: Tensor) -> Tensor:
        """(T, B, C, H, W) spikes or counts -> signed spikes, of the same shape."""
        q, k = (split_heads(self.unit(f"{role}_{{}}", x), self.heads) for role in "qk")
        v = split_heads(self.current("v_{}", x), self.heads)  # currents
        y = self.shiftmax(q @ k.transpose(-2, -1), v)  # (T, B, h, N, d)
        spikes: Tensor = self.attn_lif(merge_heads(y, x.shape))
        return spikes
