"""E-SpikeFormer (Spike-driven Transformer v3): integer spikes in training, D binary ones after.

Source: Yao et al., "Scaling Spike-driven Transformer with Efficient Spike Firing Approximation
Training", TPAMI 2025. Parameter names are those of the official base models, so their
checkpoints load here. Their neurons have no memory, so T, which is 1 there, may be anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from lapilli.model.families.family import BSA_ASSUMES, REP_CONV, Family, Keys
from lapilli.model.families.layers import (
    MLP,
    Block,
    at_each_step,
    encode,
    merge_heads,
    pointwise1d,
    split_heads,
)
from lapilli.model.families.lif import IntegerSpike, TernaryLIF
from lapilli.model.families.meta_spikeformer import ConvBlock, Stages, StagesConfig
from lapilli.model.neurons.shiftmax import Shiftmax


@dataclass(frozen=True, slots=True, kw_only=True)
class ESpikeFormerConfig(StagesConfig):
    """Defaults: the official ImageNet model "s", 5.1 M parameters.

    Attributes:
        value_ratio: values are so many times wider than queries and keys.
        attention: "bsa" replaces it by bipolar self-attention.
    """

    widths: tuple[int, int, int, int] = (32, 64, 128, 192)
    T: int = 1
    value_ratio: int = 4
    attention: Literal["ssa", "bsa"] = "ssa"


def _conv_bn(inputs: int, outputs: int, kernel: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


class SepConv(nn.Module):
    """Spike, 1 x 1, spike, depthwise, spike, 1 x 1; batch norm after each convolution."""

    def __init__(self, dim: int, kernel: int) -> None:
        super().__init__()
        wide = 2 * dim
        self.spike1, self.spike2, self.spike3 = IntegerSpike(), IntegerSpike(), IntegerSpike()
        self.pwconv1 = _conv_bn(dim, wide)
        self.dwconv = _conv_bn(wide, wide, kernel, groups=wide)
        self.pwconv2 = _conv_bn(wide, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, C, H, W) currents -> the currents to add to them."""
        x = at_each_step(self.pwconv1, self.spike1(x))
        x = at_each_step(self.dwconv, self.spike2(x))
        return at_each_step(self.pwconv2, self.spike3(x))


class Attention(nn.Module):
    """Spike((2 / sqrt(d)) (Q K^T) V), V wider than Q and K."""

    def __init__(self, dim: int, heads: int, value_ratio: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (dim // heads) ** -0.5 * 2
        wide = dim * value_ratio
        self.head_spike = IntegerSpike()
        self.q_spike: nn.Module = IntegerSpike()
        self.k_spike: nn.Module = IntegerSpike()
        self.v_spike = IntegerSpike()
        self.attn_spike: nn.Module = IntegerSpike()
        self.q_conv, self.k_conv = _conv_bn(dim, dim), _conv_bn(dim, dim)
        self.v_conv, self.proj_conv = _conv_bn(dim, wide), _conv_bn(wide, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, C, H, W) currents -> the currents to add to them."""
        s = self.head_spike(x)
        q = split_heads(self.q_spike(at_each_step(self.q_conv, s)), self.heads)
        k = split_heads(self.k_spike(at_each_step(self.k_conv, s)), self.heads)
        values = self.v_spike(at_each_step(self.v_conv, s))
        mixed = ((q @ k.transpose(-2, -1)) @ split_heads(values, self.heads)) * self.scale
        spikes = self.attn_spike(merge_heads(mixed, values.shape))
        return at_each_step(self.proj_conv, spikes)


class BipolarAttention(Attention):
    """TernaryLIF(Shiftmax(Q K^T) V): ternary Q and K, currents V, no scale (BSA, eq. 14-19).

    The input stays an integer spike. With T = 1, as published, its neurons have no memory.
    """

    def __init__(self, dim: int, heads: int, value_ratio: int) -> None:
        super().__init__(dim, heads, value_ratio)
        self.q_spike, self.k_spike = TernaryLIF(), TernaryLIF()
        self.attn_spike = TernaryLIF(v_threshold=0.5)
        del self.v_spike
        self.shiftmax = Shiftmax()

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, C, H, W) currents -> the currents to add to them."""
        s = self.head_spike(x)
        q = split_heads(self.q_spike(at_each_step(self.q_conv, s)), self.heads)
        k = split_heads(self.k_spike(at_each_step(self.k_conv, s)), self.heads)
        values = at_each_step(self.v_conv, s)
        y = self.shiftmax(q @ k.transpose(-2, -1), split_heads(values, self.heads))
        return at_each_step(self.proj_conv, self.attn_spike(merge_heads(y, values.shape)))


class ConvolvedBlock(Block):
    """x + separable convolution before attention and MLP."""

    def __init__(self, convolution: nn.Module, attention: nn.Module, mlp: nn.Module) -> None:
        super().__init__(attention, mlp)
        self.conv = convolution

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, C, H, W) currents -> the same shape."""
        return super().forward(x + self.conv(x))


class ESpikeFormer(Stages):
    """The classifier: four stages, mean over tokens, integer spikes, linear head, mean over T."""

    def __init__(self, config: ESpikeFormerConfig) -> None:
        ratio = config.mlp_ratio
        attention = {"ssa": Attention, "bsa": BipolarAttention}[config.attention]
        super().__init__(
            config,
            IntegerSpike,
            lambda dim: ConvBlock(SepConv(dim, 7), dim, ratio, IntegerSpike),
            lambda dim: ConvolvedBlock(
                SepConv(dim, 3),
                attention(dim, config.heads, config.value_ratio),
                MLP(dim, dim * ratio, pointwise1d, membrane=True, neuron=IntegerSpike),
            ),
        )
        self.T = config.T
        self.spike = IntegerSpike(norm=1)
        self.head = nn.Linear(config.widths[3], config.classes)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) image, shown T times -> (B, classes) logits."""
        x = self.features(encode(images, self.T))
        logits: Tensor = self.head(self.spike(x.flatten(3).mean(3))).mean(0)
        return logits


# Every published size: what its checkpoint does not say.
_PRESETS: Mapping[str, ESpikeFormerConfig] = {
    **{
        f"{prefix}e-spikeformer-imagenet-{size}": ESpikeFormerConfig(
            widths=widths, attention="bsa" if prefix else "ssa"
        )
        for size, widths in (
            ("t", (24, 48, 96, 128)), ("s", (32, 64, 128, 192)),
            ("m", (48, 96, 192, 240)), ("l", (64, 128, 256, 360)),
        )
        for prefix in ("", "bsa-")
        if (prefix, size) != ("bsa-", "t")
    },
}  # fmt: skip

# What nobody published, and presets whose names begin so assume.
_ASSUMED: Mapping[str, str] = {
    "bsa-": BSA_ASSUMES,
}  # fmt: skip

_SMALL_WIDTHS = {"widths": (16, 32, 32, 48), "heads": 2, "classes": 5, "depths": (1, 1)}
_SMALL: Mapping[str, tuple[ESpikeFormerConfig, int]] = {
    "e-spikeformer": (ESpikeFormerConfig(**_SMALL_WIDTHS), 64),  # type: ignore[arg-type]
    "e-spikeformer bsa": (
        ESpikeFormerConfig(**_SMALL_WIDTHS, attention="bsa"), 64  # type: ignore[arg-type]
    ),
}  # fmt: skip

FAMILY = Family(
    name="e-spikeformer",
    config=ESpikeFormerConfig,
    model=ESpikeFormer,
    recognises=(Keys(has=(r"^downsample1_1\.", r"\.pwconv1\.0\."), lacks=(REP_CONV,)),),
    presets=_PRESETS,
    assumed=_ASSUMED,
    small=_SMALL,
)
