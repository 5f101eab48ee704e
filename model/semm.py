"""SEMM: a mixture of spiking experts, with a spiking router, in attention and in the MLP.

Source: Zhou et al., "Spiking Transformer with Experts Mixture", NeurIPS 2024, in the form of
its one public implementation, STEP's for CIFAR; parameter names are STEP's.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from lapilli.model.layers import Block, NetworkConfig, Units, encode
from lapilli.model.neuron import LIF
from lapilli.model.spikformer import PatchEmbed


@dataclass(frozen=True, slots=True, kw_only=True)
class SEMMConfig(NetworkConfig):
    """Defaults: STEP's CIFAR-10 model 4-384.

    Attributes:
        heads: in STEP's configuration and used by nothing.
        experts, expert_dim: how many query experts, and the width of a query and a key.
        pooling: as in Spikformer.
    """

    heads: int = 8
    experts: int = 4
    expert_dim: int = 96
    pooling: str = "0011"


class Expert(Units):
    """The private query of one expert."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.add_unit("unit_{}", nn.Linear(dim, width), LIF())

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, N, D) counts -> (T, B, N, De) spikes."""
        return self.unit("unit_{}", x)


class EMSA(Units):
    """sum_e r_e AND LIF(0.125 (Q_e K^T) V): shared K and V, one head, binary router r.

    The router's map (E, N) is read as (N, E) without being transposed, which assigns tokens
    and experts in a scrambled order: so STEP computes and trains it.
    """

    scale = 0.125

    def __init__(self, c: SEMMConfig) -> None:
        super().__init__()
        D, De = c.embed_dim, c.expert_dim
        for role, width in (("k", De), ("v", D), ("proj", D)):
            self.add_unit(f"{role}_{{}}", nn.Linear(D, width), LIF())
        self.router1 = nn.Linear(D, c.experts)
        self.router2 = nn.BatchNorm1d(c.experts)
        self.router3 = LIF()
        self.ff_list = nn.ModuleList(Expert(D, De) for _ in range(c.experts))
        self.lif_list = nn.ModuleList(LIF() for _ in range(c.experts))

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, N, D) counts -> (T, B, N, D) spikes."""
        k, v = self.unit("k_{}", x), self.unit("v_{}", x)
        routed = self.router2(self.router1(x.flatten(0, 1)).transpose(-1, -2))  # (T*B, E, N)
        router = self.router3(routed.reshape(*x.shape[:3], len(self.ff_list)))  # (T, B, N, E)
        mixed = []
        for e, (expert, lif) in enumerate(zip(self.ff_list, self.lif_list, strict=True)):
            spikes = lif(((expert(x) @ k.transpose(-2, -1)) @ v) * self.scale)  # (T, B, N, D)
            mixed.append(router[..., e : e + 1] * spikes)
        total = mixed[0]
        for part in mixed[1:]:
            total = total + part  # integers 0..E
        return self.unit("proj_{}", total)


class EMSP(Units):
    """MLP whose hidden half is gated by a depthwise convolution of the other half."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        half = hidden // 2
        self.add_unit("fc1_{}", nn.Linear(dim, hidden), LIF())
        self.add_unit("dw_{}", nn.Conv2d(half, half, 3, padding=1, groups=half, bias=False), LIF())
        self.add_unit("fc2_{}", nn.Linear(half, dim), LIF())

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, N, D) counts of a square map -> (T, B, N, D) spikes."""
        side = round(x.shape[2] ** 0.5)
        gate, value = self.unit("fc1_{}", x).chunk(2, dim=3)  # (T, B, N, 2D) each
        maps = gate.transpose(-1, -2).reshape(*x.shape[:2], -1, side, side)  # (T, B, 2D, H, W)
        gate = self.unit("dw_{}", maps).flatten(3).transpose(-1, -2)
        return self.unit("fc2_{}", gate * value)


class SEMM(nn.Module):
    """The classifier: Spikformer's stem, EMSA and EMSP blocks, means, linear head."""

    def __init__(self, config: SEMMConfig) -> None:
        super().__init__()
        self.T = config.T
        dim = config.embed_dim
        self.patch_embed = PatchEmbed(config.in_channels, dim, config.pooling)
        self.block = nn.ModuleList(
            Block(EMSA(config), EMSP(dim, dim * config.mlp_ratio)) for _ in range(config.depth)
        )
        self.head = nn.Linear(dim, config.classes)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) image, shown T times -> (B, classes) logits."""
        x = self.patch_embed(encode(images, self.T)).flatten(3).transpose(-1, -2)
        for block in self.block:
            x = block(x)  # (T, B, N, D) counts of spikes, 2 more per block
        logits: Tensor = self.head(x.mean(2).mean(0))
        return logits
