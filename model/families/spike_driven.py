"""Spike-driven Transformer v1: masked attention (SDSA) with a membrane shortcut.

Source: Yao et al., "Spike-driven Transformer", NeurIPS 2023.
Parameter names are those of the official models, so their checkpoints load here; the
`talking_heads` weight is in the official files and used by nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from lapilli.model.families.experts import EMSP, MaskedEMSA
from lapilli.model.families.family import (
    NEURON_FIRST,
    QK_ATTENTION,
    REP_CONV,
    SEMM_ASSUMES,
    SURROGATE,
    TALKING_HEADS,
    TOKENS_4,
    Family,
    Keys,
)
from lapilli.model.families.layers import (
    MLP,
    Block,
    NetworkConfig,
    Units,
    at_each_step,
    conv3,
    encode,
    halve,
    merge_heads,
    pointwise2d,
    pooling,
    split_heads,
)
from lapilli.model.families.lif import LIF


@dataclass(frozen=True, slots=True, kw_only=True)
class SpikeDrivenConfig(NetworkConfig):
    """Defaults: the official CIFAR-10 model 2-512.

    Attributes:
        pooling: one digit for each of the four stem stages; "1" halves the map after it. In
            stage 3 that is a maximum over real currents, before any neuron.
        erode: the official `dvs_mode`: spikes spread to the eight neighbours in attention.
        mask_threshold: of the neuron that masks Q; 1.0 in STEP's re-implementation.
        attention: "emsa" replaces SDSA and MLP by mixtures of experts (SEMM).
        experts, expert_dim: of "emsa": how many, and the width of Q, K and V.
    """

    embed_dim: int = 512
    heads: int = 8
    depth: int = 2
    pooling: str = "0011"
    erode: bool = False
    mask_threshold: float = 0.5
    attention: Literal["sdsa", "emsa"] = "sdsa"
    experts: int = 4
    expert_dim: int = 512


class PatchEmbed(Units):
    """Stem of four conv-BN stages; it returns real membrane currents, not spikes."""

    def __init__(self, in_channels: int, dim: int, stages: str) -> None:
        super().__init__()
        widths = (in_channels, dim // 8, dim // 4, dim // 2, dim)
        self.pooling = pooling(stages)
        self.names = ("proj_{}", "proj_{}1", "proj_{}2", "proj_{}3")
        for i, name in enumerate(self.names):
            self.add_unit(name, conv3(widths[i], widths[i + 1]), LIF())
        self.maxpool = halve()
        self.add_unit("rpe_{}", conv3(dim, dim), None)

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, C, H, W) image -> (T, B, D, H', W') currents."""
        *spiking, last = self.names
        for name, pool in zip(spiking, self.pooling, strict=False):
            x = self.unit(name, x)
            if pool:
                x = at_each_step(self.maxpool, x)  # an OR: the values are spikes
        x = self.current(last, x)
        if self.pooling[3]:
            x = at_each_step(self.maxpool, x)
        return x + self.current("rpe_{}", self.fire(last, x))


class SDSA(Units):
    """Spike-driven self-attention: Q masked by OR over tokens of K AND V (eq. 10-11).

    With `erode`, K, V, their product and the masked Q are spread by a 3 x 3 maximum; the last
    two over the plane of tokens and channels of a head, as the authors do.
    """

    def __init__(self, dim: int, heads: int, erode: bool, mask_threshold: float) -> None:
        super().__init__()
        self.heads = heads
        self.shortcut_lif = LIF()
        for role in ("q", "k", "v"):
            self.add_unit(f"{role}_{{}}", nn.Conv2d(dim, dim, 1, bias=False), LIF())
        self.talking_heads_lif = LIF(v_threshold=mask_threshold)  # 0.5: one K AND V fires it
        self.add_unit("proj_{}", pointwise2d(dim, dim), None)
        window = (1, 3, 3)
        self.spread = nn.MaxPool3d(window, stride=1, padding=(0, 1, 1)) if erode else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, D, H, W) currents -> the currents to add to them."""
        s = self.shortcut_lif(x)
        q = split_heads(self.unit("q_{}", s), self.heads)
        k, v = (split_heads(self.spread(self.unit(n, s)), self.heads) for n in ("k_{}", "v_{}"))
        kv = self.spread(k * v)  # (T, B, h, N, d)
        mask = self.talking_heads_lif(kv.sum(-2, keepdim=True))  # (T, B, h, 1, d)
        return self.current("proj_{}", merge_heads(self.spread(q * mask), x.shape))


def _attention(c: SpikeDrivenConfig) -> nn.Module:
    if c.attention == "emsa":
        return MaskedEMSA(c.embed_dim, c.experts, c.expert_dim, c.mask_threshold)
    return SDSA(c.embed_dim, c.heads, c.erode, c.mask_threshold)


def _mlp(c: SpikeDrivenConfig) -> nn.Module:
    dim, hidden = c.embed_dim, c.embed_dim * c.mlp_ratio
    if c.attention == "emsa":
        return EMSP(dim, hidden, membrane=True)
    return MLP(dim, hidden, pointwise2d, membrane=True)


class SpikeDrivenTransformer(nn.Module):
    """The classifier: stem, blocks, mean over tokens, LIF, linear head, mean over time."""

    def __init__(self, config: SpikeDrivenConfig) -> None:
        super().__init__()
        self.T = config.T
        dim = config.embed_dim
        self.patch_embed = PatchEmbed(config.in_channels, dim, config.pooling)
        self.block = nn.ModuleList(
            Block(_attention(config), _mlp(config)) for _ in range(config.depth)
        )
        self.head_lif = LIF()
        self.head = nn.Linear(dim, config.classes)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) image, shown T times, or (B, T, C, H, W) -> (B, classes) logits."""
        x = self.patch_embed(encode(images, self.T))
        for block in self.block:
            x = block(x)
        logits: Tensor = self.head(self.head_lif(x.flatten(3).mean(3))).mean(0)
        return logits


# Every published size: what its checkpoint does not say.
_PRESETS: Mapping[str, SpikeDrivenConfig] = {
    "spike-driven-cifar10-2-256": SpikeDrivenConfig(embed_dim=256),
    "spike-driven-cifar10-2-512": SpikeDrivenConfig(),
    "spike-driven-cifar100-2-256": SpikeDrivenConfig(embed_dim=256, classes=100),
    "spike-driven-cifar100-2-512": SpikeDrivenConfig(classes=100),
    **{
        f"spike-driven-imagenet-{depth}-{dim}": SpikeDrivenConfig(
            pooling="1111", classes=1000, depth=depth, embed_dim=dim
        )
        for depth, dim in ((8, 384), (6, 512), (8, 512), (10, 512), (8, 768))
    },
    "spike-driven-cifar10-dvs-2-256": SpikeDrivenConfig(
        in_channels=2, embed_dim=256, T=10, erode=True
    ),
    **{
        f"spike-driven-dvs128-gesture-2-256-t{T}": SpikeDrivenConfig(
            in_channels=2, classes=11, embed_dim=256, T=T, pooling="0111"
        )
        for T in (10, 16)
    },
    **{
        f"semm-spike-driven-cifar{classes}-2-512": SpikeDrivenConfig(
            classes=classes, attention="emsa", expert_dim=512
        )
        for classes in (10, 100)
    },
    "semm-spike-driven-imagenet-8-512": SpikeDrivenConfig(
        pooling="1111", classes=1000, depth=8, attention="emsa", expert_dim=512
    ),
    **{
        f"step-spike-driven-cifar{classes}": SpikeDrivenConfig(classes=classes, mask_threshold=1.0)
        for classes in (10, 100)
    },
}  # fmt: skip

# What nobody published, and presets whose names begin so assume.
_ASSUMED: Mapping[str, str] = {
    "semm-": SEMM_ASSUMES,
}  # fmt: skip
_SMALL: Mapping[str, tuple[SpikeDrivenConfig, int]] = {
    "spike-driven cifar": (SpikeDrivenConfig(embed_dim=32, heads=2), 16),
    "spike-driven imagenet": (SpikeDrivenConfig(embed_dim=32, heads=2, pooling="1111"), 32),
    "spike-driven cifar10-dvs": (
        SpikeDrivenConfig(embed_dim=32, heads=2, in_channels=2, T=10, erode=True), 16
    ),
    "spike-driven gesture": (
        SpikeDrivenConfig(embed_dim=32, heads=2, in_channels=2, T=16, pooling="0111"), 32
    ),
    "spike-driven step": (SpikeDrivenConfig(embed_dim=32, heads=2, mask_threshold=1.0), 16),
    "semm spike-driven": (
        SpikeDrivenConfig(embed_dim=32, heads=2, depth=1, attention="emsa", expert_dim=16), 16
    ),
}  # fmt: skip

FAMILY = Family(
    name="spike-driven",
    config=SpikeDrivenConfig,
    model=SpikeDrivenTransformer,
    recognises=(
        Keys(
            has=(TOKENS_4, r"^patch_embed\.proj_conv\."),
            lacks=(QK_ATTENTION, REP_CONV, NEURON_FIRST),
        ),
    ),
    unused=(TALKING_HEADS, r"\.(rpe_lif|attn_lif)\.(threshold|w)$", SURROGATE),
    renamed=((r"\.mlp\.fc_(conv|bn|lif)([12])\.", r".mlp.fc\2_\1."),),  # STEP,
    heads=TALKING_HEADS,
    presets=_PRESETS,
    assumed=_ASSUMED,
    small=_SMALL,
)
