"""Spikformer: spiking self-attention (SSA) with spike-add residuals.

Source: Zhou et al., "Spikformer: When Spiking Neural Network Meets Transformer", ICLR 2023.
Parameter names are those of the official models, so their checkpoints load here; `norm1`,
`norm2`, `norm` and `pos_embed` are in the official files and used by nothing.

The three layouts differ in the synapses of a block: linear layers on (T, B, N, D) for CIFAR;
1-d convolutions, with a 2-d MLP for ImageNet, on maps (T, B, D, H, W) otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from lapilli.model.families.family import (
    LATER_NEURON,
    NORMS,
    OTHER_FAMILIES,
    POSITION,
    QKV_LINEAR,
    ROUTER,
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
    Synapse,
    Units,
    at_each_step,
    conv3,
    encode,
    halve,
    pointwise1d,
    pointwise2d,
    pooling,
)
from lapilli.model.families.lif import LIF


@dataclass(frozen=True, slots=True, kw_only=True)
class SpikformerConfig(NetworkConfig):
    """Defaults: the official CIFAR-10 model 4-384.

    Attributes:
        pooling: one digit for each of the four stem stages; "1" halves the map after it.
        layout: which official model; "dvs" takes (B, T, C, H, W) frames.
        proj_bias: whether the projection after attention has a bias; STEP's for ImageNet has none.
    """

    pooling: str = "0011"
    layout: Layout = "cifar"
    proj_bias: bool = True


class PatchEmbed(Units):
    """Spiking patch splitting: four conv-BN-LIF stages and a convolutional position term."""

    def __init__(self, in_channels: int, dim: int, stages: str) -> None:
        super().__init__()
        widths = (in_channels, dim // 8, dim // 4, dim // 2, dim)
        self.pooling = pooling(stages)
        self.names = ("proj_{}", "proj_{}1", "proj_{}2", "proj_{}3")
        for i, name in enumerate(self.names):
            self.add_unit(name, conv3(widths[i], widths[i + 1]), LIF())
        self.maxpool = halve()
        self.add_unit("rpe_{}", conv3(dim, dim), LIF())

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, C, H, W) image -> (T, B, D, H', W') integers 0..2."""
        for name, pool in zip(self.names, self.pooling, strict=True):
            x = self.unit(name, x)
            if pool:
                x = at_each_step(self.maxpool, x)  # an OR: the values are spikes
        return x + self.unit("rpe_{}", x)


class Spikformer(nn.Module):
    """The classifier: stem, blocks, mean over tokens and time, linear head."""

    def __init__(self, config: SpikformerConfig) -> None:
        super().__init__()
        self.T = config.T
        dim = config.embed_dim
        self.linear = config.layout == "cifar"
        synapses: Mapping[str, Callable[[int, int], Synapse]] = {
            "cifar": nn.Linear,
            "imagenet": pointwise2d,
            "dvs": pointwise1d,
        }
        scale = 0.25 if config.layout == "dvs" else 0.125
        self.patch_embed = PatchEmbed(config.in_channels, dim, config.pooling)
        self.block = nn.ModuleList(
            Block(
                SSA(dim, config.heads, linear=self.linear, scale=scale, bias=config.proj_bias),
                MLP(dim, dim * config.mlp_ratio, synapses[config.layout]),
            )
            for _ in range(config.depth)
        )
        self.head = nn.Linear(dim, config.classes)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) image, shown T times, or (B, T, C, H, W) -> (B, classes) logits."""
        x = self.patch_embed(encode(images, self.T))
        if self.linear:
            x = x.flatten(3).transpose(-1, -2)  # (T, B, N, D)
        for block in self.block:
            x = block(x)  # counts of spikes, 2 more per block
        x = x.mean(2) if self.linear else x.flatten(3).mean(3)
        logits: Tensor = self.head(x.mean(0))
        return logits


# Every published size: what its checkpoint does not say.
_PRESETS: Mapping[str, SpikformerConfig] = {
    "spikformer-cifar10-4-256": SpikformerConfig(embed_dim=256, heads=8),
    "spikformer-cifar10-2-384": SpikformerConfig(depth=2),
    "spikformer-cifar10-4-384": SpikformerConfig(),
    "spikformer-cifar100-4-256": SpikformerConfig(embed_dim=256, heads=8, classes=100),
    "spikformer-cifar100-2-384": SpikformerConfig(depth=2, classes=100),
    "spikformer-cifar100-4-384": SpikformerConfig(classes=100),
    **{
        f"spikformer-imagenet-{depth}-{dim}": SpikformerConfig(
            layout="imagenet", pooling="1111", classes=1000, depth=depth, embed_dim=dim, heads=heads
        )
        for depth, dim, heads in (
            (8, 384, 12), (6, 512, 8), (8, 512, 8), (10, 512, 8), (8, 768, 12),
        )
    },
    **{
        f"spikformer-{name}-2-256-t{T}": SpikformerConfig(
            layout="dvs", pooling="1111", in_channels=2, classes=classes, depth=2, embed_dim=256,
            heads=16, T=T,
        )
        for name, classes in (("cifar10-dvs", 10), ("dvs128-gesture", 11))
        for T in (10, 16)
    },
    **{
        f"step-spikformer-cifar{classes}": SpikformerConfig(classes=classes)
        for classes in (10, 100)
    },
    "step-spikformer-imagenet-8-512": SpikformerConfig(
        layout="imagenet", pooling="1111", classes=1000, depth=8, embed_dim=512, heads=8,
        proj_bias=False,
    ),
}  # fmt: skip

# What nobody published, and presets whose names begin so assume.
_ASSUMED: Mapping[str, str] = {
    "spikformer-cifar10-4-256": "8 heads", "spikformer-cifar100-4-256": "8 heads",
    "spikformer-cifar10-2-384": "12 heads", "spikformer-cifar100-2-384": "12 heads",
    "spikformer-imagenet-8-384": "12 heads", "spikformer-imagenet-6-512": "8 heads",
    "spikformer-imagenet-10-512": "8 heads", "spikformer-imagenet-8-768": "12 heads",
}  # fmt: skip
_SMALL: Mapping[str, tuple[SpikformerConfig, int]] = {
    "spikformer cifar": (SpikformerConfig(embed_dim=32, heads=2, depth=1), 16),
    "spikformer imagenet": (
        SpikformerConfig(embed_dim=32, heads=2, depth=1, layout="imagenet", pooling="1111"), 32
    ),
    "spikformer step": (
        SpikformerConfig(
            embed_dim=32, heads=2, depth=1, layout="imagenet", pooling="1111", proj_bias=False
        ),
        32,
    ),
    "spikformer dvs": (
        SpikformerConfig(
            embed_dim=32, heads=2, depth=1, layout="dvs", pooling="1111", in_channels=2, T=10
        ),
        32,
    ),
}  # fmt: skip

FAMILY = Family(
    name="spikformer",
    config=SpikformerConfig,
    model=Spikformer,
    recognises=(
        Keys(has=(QKV_LINEAR,), lacks=(ROUTER,)),
        Keys(has=(TOKENS_3, POSITION), lacks=(*OTHER_FAMILIES, LATER_NEURON)),
        Keys(has=(TOKENS_3, POSITION, STEM_NEURON), lacks=OTHER_FAMILIES),
    ),
    unused=(NORMS, r"^pos_embed$", r"^norm\.(weight|bias)$", SURROGATE),
    presets=_PRESETS,
    assumed=_ASSUMED,
    small=_SMALL,
)
