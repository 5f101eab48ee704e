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
