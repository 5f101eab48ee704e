"""SEMM: a mixture of spiking experts, with a spiking router, in attention and in the MLP.

Source: Zhou et al., "Spiking Transformer with Experts Mixture", NeurIPS 2024. The two public
implementations are STEP's, on Spikformer for CIFAR and for ImageNet; both are here, with its
parameter names. The other hosts of the paper take `experts.EMSA` and `experts.EMSP`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from lapilli.model.families.experts import EMSA, EMSP
from lapilli.model.families.family import (
    NEURON_FIRST,
    QK_ATTENTION,
    QKV_LINEAR,
    ROUTER,
    SURROGATE,
    TOKENS_3,
    Family,
    Keys,
)
from lapilli.model.families.layers import Block, NetworkConfig, encode
from lapilli.model.families.spikformer import PatchEmbed


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


@dataclass(frozen=True, slots=True, kw_only=True)
class SEMMImageNetConfig(SEMMConfig):
    """Defaults: STEP's ImageNet model 8-512; `mlp_ratio` is used by nothing there."""

    classes: int = 1000
    embed_dim: int = 512
    depth: int = 8
    pooling: str = "1111"


class LinearEMSA(EMSA):
    """STEP's for CIFAR, on tokens (T, B, N, D).

    The router's map (E, N) is read as (N, E) without being transposed, which assigns tokens
    and experts in a scrambled order: so STEP computes and trains it.
    """

    def __init__(self, c: SEMMConfig) -> None:
        super().__init__(c.embed_dim, c.experts, c.expert_dim, synapse=nn.Linear, outer=nn.Linear)

    def route(self, x: Tensor) -> Tensor:
        """(T, B, N, D) counts -> (T, B, N, E) spikes."""
        routed = self.router2(self.router1(x.flatten(0, 1)).transpose(-1, -2))  # (T*B, E, N)
        spikes: Tensor = self.router3(routed.reshape(*x.shape[:3], -1))
        return spikes


class LinearEMSP(EMSP):
    """STEP's for CIFAR, on tokens of a square map."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__(dim, hidden, synapse=nn.Linear)

    def gated(self, hidden: Tensor) -> Tensor:
        """Spikes (T, B, N, 2C) -> spikes (T, B, N, C)."""
        side = round(hidden.shape[2] ** 0.5)
        gate, value = hidden.chunk(2, dim=3)
        maps = gate.transpose(-1, -2).reshape(*hidden.shape[:2], -1, side, side)  # (T, B, C, H, W)
        return self.unit("dw_{}", maps).flatten(3).transpose(-1, -2) * value


class BareEMSA(EMSA):
    """STEP's for ImageNet: keys and values are not normalised, scores not scaled."""

    scale = 1.0

    def __init__(self, c: SEMMConfig) -> None:
        super().__init__(c.embed_dim, c.experts, c.expert_dim)
        self.k_bn, self.v_bn = nn.Identity(), nn.Identity()  # those of its files are not called


class SEMM(nn.Module):
    """The classifier: Spikformer's stem, EMSA and EMSP blocks, means, linear head."""

    linear = True

    def __init__(self, config: SEMMConfig) -> None:
        super().__init__()
        self.T = config.T
        self.patch_embed = PatchEmbed(config.in_channels, config.embed_dim, config.pooling)
        self.block = nn.ModuleList(self.new_block(config) for _ in range(config.depth))
        self.head = nn.Linear(config.embed_dim, config.classes)

    def new_block(self, c: SEMMConfig) -> Block:
        """Attention and MLP of STEP's CIFAR version."""
        return Block(LinearEMSA(c), LinearEMSP(c.embed_dim, c.embed_dim * c.mlp_ratio))

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) image, shown T times -> (B, classes) logits."""
        x = self.patch_embed(encode(images, self.T))
        if self.linear:
            x = x.flatten(3).transpose(-1, -2)  # (T, B, N, D)
        for block in self.block:
            x = block(x)  # counts of spikes, 2 more per block
        x = x.mean(2) if self.linear else x.flatten(3).mean(3)
        logits: Tensor = self.head(x.mean(0))
        return logits


class SEMMImageNet(SEMM):
    """STEP's version for ImageNet, on maps.

    Its head averages over time and batch together; ours is what it computes with one image.
    """

    linear = False

    def new_block(self, c: SEMMConfig) -> Block:
        """Attention and MLP; the hidden width is 16/3 of D, whatever `mlp_ratio` is."""
        return Block(BareEMSA(c), EMSP(c.embed_dim, c.embed_dim // 3 * 16, bias=True))


# Every published size: what its checkpoint does not say.
_PRESETS: Mapping[str, SEMMConfig] = {
    **{
        f"step-semm-cifar{classes}": SEMMConfig(classes=classes)
        for classes in (10, 100)
    },
}  # fmt: skip
_SMALL: Mapping[str, tuple[SEMMConfig, int]] = {
    "semm": (SEMMConfig(embed_dim=32, depth=1, expert_dim=16), 16),
}  # fmt: skip

FAMILY = Family(
    name="semm",
    config=SEMMConfig,
    model=SEMM,
    recognises=(Keys(has=(QKV_LINEAR, ROUTER)),),
    unused=(SURROGATE,),
    presets=_PRESETS,
    small=_SMALL,
)


# Every published size: what its checkpoint does not say.
_IMAGENET_PRESETS: Mapping[str, SEMMImageNetConfig] = {
    "step-semm-imagenet-8-512": SEMMImageNetConfig(),
}  # fmt: skip
_IMAGENET_SMALL: Mapping[str, tuple[SEMMImageNetConfig, int]] = {
    "semm imagenet": (
        SEMMImageNetConfig(embed_dim=32, depth=1, expert_dim=16, classes=10), 32
    ),
}  # fmt: skip

IMAGENET_FAMILY = Family(
    name="semm-imagenet",
    config=SEMMImageNetConfig,
    model=SEMMImageNet,
    recognises=(Keys(has=(TOKENS_3, ROUTER), lacks=(NEURON_FIRST, QK_ATTENTION)),),
    unused=(SURROGATE, r"\.attn\.[kv]_bn\."),
    presets=_IMAGENET_PRESETS,
    small=_IMAGENET_SMALL,
)
