"""EMSA and EMSP: the mixtures of spiking experts that take the place of attention and of the MLP.

Source: Zhou et al., "Spiking Transformer with Experts Mixture", NeurIPS 2024: spikes of a
router gate the spikes of experts, in attention for each token and expert, in the MLP for each
channel. `membrane` as in `layers.SSA`: neurons first, none at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from lapilli.model.families.layers import (
    Synapse,
    Units,
    merge_heads,
    pointwise1d,
    pointwise2d,
    split_heads,
)
from lapilli.model.families.lif import LIF


def unbiased(inputs: int, outputs: int) -> Synapse:
    """A linear map of each token, without bias."""
    return nn.Conv1d(inputs, outputs, 1, bias=False)


def unbiased2d(inputs: int, outputs: int) -> Synapse:
    """A linear map of each pixel, without bias."""
    return nn.Conv2d(inputs, outputs, 1, bias=False)


class Expert(Units):
    """The private query of one expert."""

    def __init__(self, synapse: Synapse, tau: float) -> None:
        super().__init__()
        self.add_unit("unit_{}", synapse, LIF(tau))

    def forward(self, x: Tensor) -> Tensor:
        """Spikes or counts (T, B, D, H, W) or (T, B, N, D) -> spikes, De wide."""
        return self.unit("unit_{}", x)


class EMSA(Units):
    """sum_e r_e AND LIF(s (Q_e K^T) V): E queries, one K and V, one head, a binary router r.

    Args:
        dim, experts, width: D, E and the width De of queries and keys; values are D wide.
        synapse, outer: linear maps of Q, K, V, and of router and projection.
    """

    scale = 0.125

    def __init__(
        self,
        dim: int,
        experts: int,
        width: int,
        *,
        values: int | None = None,
        synapse: Callable[[int, int], Synapse] = unbiased,
        outer: Callable[[int, int], Synapse] = pointwise1d,
        membrane: bool = False,
        tau: float = 2.0,
    ) -> None:
        super().__init__()
        self.membrane = membrane
        values = values or dim
        self.add_unit("k_{}", synapse(dim, width), LIF(tau))
        self.add_unit("v_{}", synapse(dim, values), LIF(tau))
        self.router1 = outer(dim, experts)
        self.router2 = nn.BatchNorm1d(experts)
        self.router3 = LIF(tau)
        self.ff_list = nn.ModuleList(Expert(synapse(dim, width), tau) for _ in range(experts))
        self.lif_list = nn.ModuleList(LIF(tau) for _ in range(experts))
        self.add_unit("proj_{}", outer(values, dim), LIF(tau))

    def route(self, x: Tensor) -> Tensor:
        """Spikes or counts -> spikes of the router (T, B, N, E)."""
        routed = self.router2(self.router1(x.flatten(3).flatten(0, 1)))  # (T*B, E, N)
        spikes: Tensor = self.router3(routed.unflatten(0, x.shape[:2]))
        return spikes.transpose(-1, -2)

    def answers(self, queries: Sequence[Tensor], k: Tensor, v: Tensor) -> list[Tensor]:
        """What each expert says; all (T, B, 1, N, width)."""
        pairs = zip(queries, self.lif_list, strict=True)
        return [lif(((q @ k.transpose(-2, -1)) @ v) * self.scale) for q, lif in pairs]

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, D, H, W) or (T, B, N, D) -> the branch to add to it."""
        s = self.fire("proj_{}", x) if self.membrane else x
        values = self.unit("v_{}", s)
        k, v = split_heads(self.unit("k_{}", s), 1), split_heads(values, 1)
        queries = [split_heads(expert(s), 1) for expert in self.ff_list]
        router = self.route(s).unsqueeze(2)  # (T, B, 1, N, E)
        first, *others = self.answers(queries, k, v)
        total = router[..., :1] * first
        for e, answer in enumerate(others, start=1):
            total = total + router[..., e : e + 1] * answer  # integers 0..E
        mixed = merge_heads(total, values.shape)
        return self.current("proj_{}", mixed) if self.membrane else self.unit("proj_{}", mixed)


class MaskedEMSA(EMSA):
    """Experts in the attention of Spike-driven Transformer: Q_e masked by OR over K AND V.

    Queries, keys and values meet channel by channel, and are all De wide.
    """

    def __init__(self, dim: int, experts: int, width: int, mask_threshold: float) -> None:
        super().__init__(dim, experts, width, values=width, synapse=unbiased2d, membrane=True)
        del self.lif_list  # a masked spike is a spike
        self.talking_heads_lif = LIF(v_threshold=mask_threshold)

    def answers(self, queries: Sequence[Tensor], k: Tensor, v: Tensor) -> list[Tensor]:
        """Masked queries, (T, B, 1, N, De)."""
        mask = self.talking_heads_lif((k * v).sum(-2, keepdim=True))  # (T, B, 1, 1, De)
        return [q * mask for q in queries]


class EMSP(Units):
    """MLP whose hidden half is gated by spikes of a depthwise convolution of the other half."""

    def __init__(
        self,
        dim: int,
        hidden: int,
        *,
        synapse: Callable[[int, int], Synapse] = pointwise2d,
        bias: bool = False,
        membrane: bool = False,
        tau: float = 2.0,
    ) -> None:
        super().__init__()
        self.membrane = membrane
        half = hidden // 2
        self.add_unit("fc1_{}", synapse(dim, hidden), LIF(tau))
        self.add_unit(
            "dw_{}", nn.Conv2d(half, half, 3, padding=1, groups=half, bias=bias), LIF(tau)
        )
        self.add_unit("fc2_{}", synapse(half, dim), LIF(tau))

    def gated(self, hidden: Tensor) -> Tensor:
        """Spikes (T, B, 2C, H, W) -> spikes (T, B, C, H, W)."""
        gate, value = hidden.chunk(2, dim=2)
        return self.unit("dw_{}", gate) * value

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, D, H, W) -> the branch to add to it."""
        if not self.membrane:
            return self.unit("fc2_{}", self.gated(self.unit("fc1_{}", x)))
        hidden = self.fire("fc2_{}", self.current("fc1_{}", self.fire("fc1_{}", x)))
        return self.current("fc2_{}", self.gated(hidden))
