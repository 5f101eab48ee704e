"""Spikingformer: neurons before convolutions, so that every synapse but the first sees spikes.

Source: Zhou et al., "Spikingformer: Spike-driven Residual Learning for Transformer-based
Spiking Neural Network", 2023. The residual stream carries membrane currents and is read out
as it is, without a last neuron.
Parameter names are those of the official models, so their checkpoints load here; `norm1` and
`norm2` are in the official files and used by nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

from torch import Tensor, nn

from lapilli.model.families.bsa import BSA
from lapilli.model.families.experts import EMSA, EMSP
from lapilli.model.families.family import (
    BSA_ASSUMES,
    LATER_NEURON,
    NEURON_FIRST,
    NORMS,
    OTHER_FAMILIES,
    POSITION,
    QK_ATTENTION,
    REP_CONV,
    SEMM_ASSUMES,
    STEM_NEURON,
    SURROGATE,
    TOKENS_3,
    Family,
    Keys,
)
from lapilli.model.families.layers import (
    MLP,
    SSA,
    Block,
    Layout,
    NetworkConfig,
    Units,
    at_each_step,
    conv3,
    encode,
    halve,
    pointwise2d,
    pooling,
)
from lapilli.model.families.lif import LIF


@dataclass(frozen=True, slots=True, kw_only=True)
class SpikingformerConfig(NetworkConfig):
    """Defaults: the official CIFAR-10 model 4-384.

    Attributes:
        pooling: one digit for each of the four stem stages after the first; "1" halves the
            map before its convolution.
        layout: which official model; "cifar" names the stages block0 to block4, the others
            proj to proj4; "dvs" takes (B, T, C, H, W) frames.
        tau: of every neuron; 1.5 in the official models for event cameras.
        attention: "bsa" replaces SSA by bipolar self-attention; "emsa" replaces SSA and MLP
            by mixtures of experts.
        experts, expert_dim: of "emsa": how many, and the width of a query and a key.
        proj_bias: whether `attn.proj_conv` has a bias; STEP's has none.
    """

    pooling: str = "0011"
    layout: Layout = "cifar"
    tau: float = 2.0
    attention: Literal["ssa", "bsa", "emsa"] = "ssa"
    experts: int = 4
    expert_dim: int = 96
    proj_bias: bool = True


class Tokenizer(Units):
    """Conv-BN, then four times LIF-pool-conv-BN; it returns currents."""

    def __init__(self, c: SpikingformerConfig) -> None:
        super().__init__()
        D = c.embed_dim
        widths = (c.in_channels, D // 8, D // 4, D // 2, D, D)
        stage = "block{}" if c.layout == "cifar" else "proj{}"
        first = "block0" if c.layout == "cifar" else "proj"
        self.names = (f"{first}_{{}}", *(f"{stage.format(i)}_{{}}" for i in range(1, 5)))
        self.pooling = pooling(c.pooling)
        for i, name in enumerate(self.names):
            self.add_unit(name, conv3(widths[i], widths[i + 1]), LIF(c.tau) if i else None)
        self.maxpool = halve()

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, C, H, W) image -> (T, B, D, H', W') currents."""
        x = self.current(self.names[0], x)
        for name, pool in zip(self.names[1:], self.pooling, strict=True):
            x = self.fire(name, x)
            if pool:
                x = at_each_step(self.maxpool, x)  # an OR: the values are spikes
            x = self.current(name, x)
        return x


def _attention(c: SpikingformerConfig) -> nn.Module:
    if c.attention == "emsa":
        return EMSA(c.embed_dim, c.experts, c.expert_dim, membrane=True, tau=c.tau)
    attention = BSA if c.attention == "bsa" else SSA
    return attention(c.embed_dim, c.heads, membrane=True, tau=c.tau, bias=c.proj_bias)


def _mlp(c: SpikingformerConfig) -> nn.Module:
    dim, hidden = c.embed_dim, c.embed_dim * c.mlp_ratio
    if c.attention == "emsa":
        return EMSP(dim, hidden, membrane=True, tau=c.tau)
    names = ("mlp1_{}", "mlp2_{}")
    return MLP(dim, hidden, pointwise2d, names=names, membrane=True, neuron=partial(LIF, c.tau))


class Spikingformer(nn.Module):
    """The classifier: stem, blocks, mean of the currents over tokens and time, linear head."""

    def __init__(self, config: SpikingformerConfig) -> None:
        super().__init__()
        self.T = config.T
        dim = config.embed_dim
        self.patch_embed = Tokenizer(config)
        self.block = nn.ModuleList(
            Block(_attention(config), _mlp(config)) for _ in range(config.depth)
        )
        self.head = nn.Linear(dim, config.classes)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) image, shown T times, or (B, T, C, H, W) -> (B, classes) logits."""
        x = self.patch_embed(encode(images, self.T))
        for block in self.block:
            x = block(x)
        logits: Tensor = self.head(x.flatten(3).mean(3).mean(0))
        return logits


# Every published size: what its checkpoint does not say.
_PRESETS: Mapping[str, SpikingformerConfig] = {
    "spikingformer-cifar10-4-256": SpikingformerConfig(embed_dim=256, heads=8),
    "spikingformer-cifar10-2-384": SpikingformerConfig(depth=2),
    "spikingformer-cifar10-4-384": SpikingformerConfig(),
    "spikingformer-cifar100-4-256": SpikingformerConfig(embed_dim=256, heads=8, classes=100),
    "spikingformer-cifar100-2-384": SpikingformerConfig(depth=2, heads=8, classes=100),
    "spikingformer-cifar100-4-384": SpikingformerConfig(heads=8, classes=100),
    **{
        f"spikingformer-imagenet-8-{dim}": SpikingformerConfig(
            layout="imagenet", pooling="1111", classes=1000, depth=8, embed_dim=dim, heads=8
        )
        for dim in (384, 512, 768)
    },
    **{
        f"spikingformer-{name}-2-256-t{T}": SpikingformerConfig(
            layout="dvs", pooling="1111", in_channels=2, classes=classes, depth=2, embed_dim=256,
            heads=16, T=T, tau=1.5,
        )
        for name, classes in (("cifar10-dvs", 10), ("dvs128-gesture", 11))
        for T in (10, 16)
    },
    **{
        f"bsa-spikingformer-imagenet-8-{dim}": SpikingformerConfig(
            layout="imagenet", pooling="1111", classes=1000, depth=8, embed_dim=dim, heads=8,
            attention="bsa",
        )
        for dim in (512, 768)
    },
    **{
        f"semm-spikingformer-cifar{classes}-4-384": SpikingformerConfig(
            heads=8, classes=classes, attention="emsa"
        )
        for classes in (10, 100)
    },
    "semm-spikingformer-imagenet-8-512": SpikingformerConfig(
        layout="imagenet", pooling="1111", classes=1000, depth=8, embed_dim=512, heads=8,
        attention="emsa",
    ),
    **{
        f"step-spikingformer-cifar{classes}": SpikingformerConfig(classes=classes, proj_bias=False)
        for classes in (10, 100)
    },
}  # fmt: skip

# What nobody published, and presets whose names begin so assume.
_ASSUMED: Mapping[str, str] = {
    "spikingformer-cifar10-4-256": "8 heads", "spikingformer-cifar100-4-256": "8 heads",
    "spikingformer-cifar10-2-384": "12 heads", "spikingformer-cifar100-2-384": "8 heads",
    "bsa-": BSA_ASSUMES, "semm-": SEMM_ASSUMES,
}  # fmt: skip
_SMALL: Mapping[str, tuple[SpikingformerConfig, int]] = {
    "spikingformer cifar": (SpikingformerConfig(embed_dim=32, heads=2, depth=1), 16),
    "spikingformer imagenet": (
        SpikingformerConfig(embed_dim=32, heads=2, depth=1, layout="imagenet", pooling="1111"), 32
    ),
    "spikingformer dvs": (
        SpikingformerConfig(
            embed_dim=32, heads=2, depth=1, layout="dvs", pooling="1111", in_channels=2, T=10,
            tau=1.5,
        ),
        32,
    ),
    "spikingformer bsa": (SpikingformerConfig(embed_dim=32, heads=2, depth=1, attention="bsa"), 16),
    "semm spikingformer": (
        SpikingformerConfig(embed_dim=32, heads=2, depth=1, attention="emsa", expert_dim=16), 16
    ),
}  # fmt: skip

FAMILY = Family(
    name="spikingformer",
    config=SpikingformerConfig,
    model=Spikingformer,
    recognises=(
        Keys(has=(NEURON_FIRST,), lacks=(QK_ATTENTION, REP_CONV)),
        Keys(  # STEP's: the stem's first stage is a current
            has=(TOKENS_3, POSITION, LATER_NEURON), lacks=(*OTHER_FAMILIES, STEM_NEURON)
        ),
    ),
    unused=(NORMS, SURROGATE),
    renamed=(  # the authors' older files, and STEP
        (r"^patch_embed\.proj_(conv|bn|lif)([1-3])\.", r"patch_embed.proj\2_\1."),
        (r"^patch_embed\.proj_(conv|bn|lif)([1-3])\.", r"patch_embed.block\2_\1."),
        (r"^patch_embed\.proj_(conv|bn)\.", r"patch_embed.block0_\1."),
        (r"^patch_embed\.rpe_", r"patch_embed.proj4_"),
        (r"^patch_embed\.rpe_", r"patch_embed.block4_"),
        (r"\.mlp\.fc([12])_", r".mlp.mlp\1_"),
    ),
    presets=_PRESETS,
    assumed=_ASSUMED,
    small=_SMALL,
)
