"""Attention weights that are powers of two: what `capture` keeps whole, as it keeps neurons.

Source: "Bipolar Self-attention for Spiking Transformers", NeurIPS 2025, eq. 13-15.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


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
