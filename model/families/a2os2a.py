"""A2OS2A: addition-only attention of binary queries, rectified keys and ternary values.

Source: Guo et al., "Spiking Transformer: Introducing Accurate Addition-Only Spiking
Self-Attention", CVPR 2025. No code was published; the skeleton is that of Spike-driven
Transformer v1, as the paper says, and so are neurons, heads and the projection after
attention, which it leaves open. Parameter names are those of that family.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from lapilli.model.families.family import Family
from lapilli.model.families.layers import (
    MLP,
    Block,
    NetworkConfig,
    Units,
    encode,
    merge_heads,
    pointwise2d,
    split_heads,
)
from lapilli.model.families.lif import LIF, TernaryLIF
from lapilli.model.families.spike_driven import PatchEmbed


@dataclass(frozen=True, slots=True, kw_only=True)
class A2OS2AConfig(NetworkConfig):
    """Defaults: the paper's CIFAR-10 model 2-512; `pooling` as in Spike-driven Transformer."""

    embed_dim: int = 512
    heads: int = 8
    depth: int = 2
    pooling: str = "0011"


class A2OS2A(Units):
    """LIF(Q K^T V), Q in {0, 1}, K = ReLU >= 0, V in {-1, 0, 1}: only additions (eq. 28)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.shortcut_lif = LIF()
        for role, neuron in (("q", LIF()), ("k", None), ("v", TernaryLIF())):
            self.add_unit(f"{role}_{{}}", nn.Conv2d(dim, dim, 1, bias=False), neuron)
        self.k_relu = nn.ReLU()
        self.attn_lif = LIF()
        self.add_unit("proj_{}", pointwise2d(dim, dim), None)

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, D, H, W) currents -> the currents to add to them."""
        s = self.shortcut_lif(x)
        k = self.k_relu(self.current("k_{}", s))
        q, k, v = (
            split_heads(y, self.heads) for y in (self.unit("q_{}", s), k, self.unit("v_{}", s))
        )
        mixed = merge_heads((q @ k.transpose(-2, -1)) @ v, x.shape)
        return self.current("proj_{}", self.attn_lif(mixed))


class A2OS2ATransformer(nn.Module):
    """The classifier (eq. 10-18): stem, blocks, LIF, mean over tokens and time, linear head."""

    def __init__(self, config: A2OS2AConfig) -> None:
        super().__init__()
        self.T = config.T
        dim = config.embed_dim
        self.patch_embed = PatchEmbed(config.in_channels, dim, config.pooling)
        self.block = nn.ModuleList(
            Block(
                A2OS2A(dim, config.heads),
                MLP(dim, dim * config.mlp_ratio, pointwise2d, membrane=True),
            )
            for _ in range(config.depth)
        )
        self.head_lif = LIF()
        self.head = nn.Linear(dim, config.classes)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) image, shown T times, or (B, T, C, H, W) -> (B, classes) logits."""
        x = self.patch_embed(encode(images, self.T))
        for block in self.block:
            x = block(x)
        logits: Tensor = self.head(self.head_lif(x).flatten(3).mean(3).mean(0))
        return logits


# Every published size: what its checkpoint does not say.
_PRESETS: Mapping[str, A2OS2AConfig] = {
    **{
        f"a2os2a-cifar{classes}-{depth}-{dim}": A2OS2AConfig(
            classes=classes, depth=depth, embed_dim=dim
        )
        for classes in (10, 100)
        for depth, dim in ((2, 256), (4, 256), (2, 384), (4, 384), (2, 512))
    },
    **{
        f"a2os2a-imagenet-{depth}-{dim}": A2OS2AConfig(
            pooling="1111", classes=1000, depth=depth, embed_dim=dim
        )
        for depth, dim in ((8, 384), (6, 512), (8, 512), (10, 512))
    },
}  # fmt: skip

# What nobody published, and presets whose names begin so assume.
_ASSUMED: Mapping[str, str] = {
    "a2os2a-": "8 heads, tau 2, thresholds 1",
}  # fmt: skip
_SMALL: Mapping[str, tuple[A2OS2AConfig, int]] = {
    "a2os2a": (A2OS2AConfig(embed_dim=32, heads=2), 16),
}  # fmt: skip

FAMILY = Family(
    name="a2os2a",
    config=A2OS2AConfig,
    model=A2OS2ATransformer,
    presets=_PRESETS,
    assumed=_ASSUMED,
    small=_SMALL,
)
