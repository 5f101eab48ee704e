"""Spikingformer: neurons before convolutions, so that every synapse but the first sees spikes.

Source: Zhou et al., "Spikingformer: Spike-driven Residual Learning for Transformer-based
Spiking Neural Network", 2023. The residual stream carries membrane currents and is read out
as it is, without a last neuron.
Parameter names are those of the official models, so their checkpoints load here; `norm1` and
`norm2` are in the official files and used by nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

from torch import Tensor, nn

from lapilli.model.families.bsa import BSA
from lapilli.model.families.experts import EMSA, EMSP
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
