"""Bipolar self-attention: ternary queries and keys, power-of-two weights, values not spiked.

Source: "Bipolar Self-attention for Spiking Transformers", NeurIPS 2025, eq. 9-19. The authors
published neither code nor thresholds; ours are those of the host that it replaces SSA in.
"""

from __future__ import annotations

from torch import Tensor

from lapilli.model.families.layers import SSA, merge_heads, split_heads
from lapilli.model.families.lif import TernaryLIF
from lapilli.model.neurons.shiftmax import Shiftmax


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
