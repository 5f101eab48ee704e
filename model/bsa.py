"""Bipolar self-attention: ternary queries and keys, power-of-two weights, values not spiked.

Source: "Bipolar Self-attention for Spiking Transformers", NeurIPS 2025, eq. 9-19. The authors
published neither code nor thresholds; ours are those of the host that it replaces SSA in.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lapilli.model.layers import SSA, merge_heads, split_heads
from lapilli.model.neuron import TernaryLIF


class Shiftmax(nn.Module):
    """2^(x_i - gamma), gamma the smallest integer with 2^gamma >= sum_j 2^x_j (eq. 13-14).

    x are integers, so every result is a power of two, and a row sums to more than 1/2, at
    most 1. What is declared here and must be the same on hardware: terms of the sum more than
    `window` below the largest are left out, which makes the sum exact in float64 and in 64-bit
    integers up to 4096 tokens. Multiplying a value by the result is an exact shift; nothing is
    rounded. Gradient: gamma is taken as a constant.
    """

    window = 40

    def forward(self, x: Tensor) -> Tensor:
        """Integers (..., N) -> powers of two (..., N)."""
        largest = x.detach().amax(-1, keepdim=True)
        below = (x.detach() - largest).double()  # <= 0
        kept = torch.where(below >= -self.window, torch.exp2(below), torch.zeros_like(below))
        mantissa, exponent = torch.frexp(kept.sum(-1, keepdim=True))  # mantissa in [1/2, 1)
        gamma = largest + exponent - (mantissa == 0.5).to(exponent.dtype)
        return torch.exp2(x - gamma)


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
        weights = self.shiftmax(q @ k.transpose(-2, -1))  # (T, B, h, N, N) powers of two
        spikes: Tensor = self.attn_lif(merge_heads(weights @ v, x.shape))
        return spikes
