"""Meta-SpikeFormer (Spike-driven Transformer v2): convolution blocks, then attention blocks.

Source: Yao et al., "Spike-driven Transformer V2: Meta Spiking Neural Network Architecture
Inspiring the Design of Next-generation Neuromorphic Chips", ICLR 2024. Parameter names are
those of the official models, so their checkpoints load here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn import functional

from lapilli.model.families.family import REP_CONV, Family, Keys
from lapilli.model.families.layers import (
    MLP,
    Block,
    Units,
    at_each_step,
    conv3,
    encode,
    merge_heads,
    pointwise1d,
    split_heads,
)
from lapilli.model.families.lif import LIF


@dataclass(frozen=True, slots=True, kw_only=True)
class StagesConfig:
    """What Meta-SpikeFormer and E-SpikeFormer have in common.

    Attributes:
        widths: channels of the four stages; the first stage begins with half of them.
        depths: attention blocks in the last two stages.
    """

    in_channels: int = 3
    classes: int = 1000
    widths: tuple[int, int, int, int] = (96, 192, 384, 480)
    depths: tuple[int, int] = (6, 2)
    heads: int = 8
    mlp_ratio: int = 4
    T: int = 4

    @property
    def width(self) -> int:
        """What the head is given: columns of its weight."""
        return self.widths[3]

    def fault(self) -> str | None:
        """Say why no model has these fields together; None if one has."""
        if self.widths[0] % 2 or any(width % self.heads for width in self.widths[2:]):
            return f"widths = {self.widths}, no multiples of its heads"
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class MetaSpikeFormerConfig(StagesConfig):
    """Defaults: the official ImageNet model 8-384, four time steps.

    Attributes:
        distilled: trained with a second head, which is averaged with the first.
    """

    distilled: bool = False


class Downsampling(Units):
    """Neuron (not on images), convolution, batch norm."""

    def __init__(
        self, inputs: int, outputs: int, neuron: nn.Module | None, kernel: int = 3, stride: int = 2
    ) -> None:
        super().__init__()
        conv = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2)
        self.add_unit("encode_{}", conv, neuron)
        self.spiking = neuron is not None

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, C, H, W) image or currents -> (T, B, C', H', W') currents."""
        return self.current("encode_{}", self.fire("encode_{}", x) if self.spiking else x)


class SepConv(nn.Module):
    """LIF, 1 x 1, LIF, depthwise 7 x 7 and 1 x 1 at once: nothing between the last two."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        wide = 2 * dim
        self.lif1 = LIF()
        self.pwconv1 = nn.Conv2d(dim, wide, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(wide)
        self.lif2 = LIF()
        self.dwconv = nn.Conv2d(wide, wide, 7, padding=3, groups=wide, bias=False)
        self.pwconv2 = nn.Conv2d(wide, dim, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(dim)

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, C, H, W) currents -> the currents to add to them."""
        x = at_each_step(lambda s: self.bn1(self.pwconv1(s)), self.lif1(x))
        return at_each_step(lambda s: self.bn2(self.pwconv2(self.dwconv(s))), self.lif2(x))


class ConvBlock(nn.Module):
    """x + separable convolution, then x + two full 3 x 3 convolutions, wide in between."""

    def __init__(
        self, separable: nn.Module, dim: int, ratio: int, neuron: Callable[[], nn.Module] = LIF
    ) -> None:
        super().__init__()
        self.Conv = separable
        self.lif1, self.lif2 = neuron(), neuron()
        self.conv1, self.bn1 = conv3(dim, dim * ratio), nn.BatchNorm2d(dim * ratio)
        self.conv2, self.bn2 = conv3(dim * ratio, dim), nn.BatchNorm2d(dim)

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, C, H, W) currents -> the same shape."""
        x = x + self.Conv(x)
        y = at_each_step(lambda s: self.bn1(self.conv1(s)), self.lif1(x))
        return x + at_each_step(lambda s: self.bn2(self.conv2(s)), self.lif2(y))


class PaddedBatchNorm(nn.Module):
    """Batch norm, then a border of one pixel that holds what it makes of zero."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H + 2, W + 2)."""
        border = [1, 1, 1, 1]
        if not self.training:
            return self.bn(functional.pad(x, border))  # type: ignore[no-any-return]
        y = self.bn(x)
        statistics = {k: v for k, v in self.bn.state_dict().items() if k != "num_batches_tracked"}
        zeros = torch.zeros_like(x[:1, :, :1, :1])
        zero = functional.batch_norm(zeros, **statistics, training=False, eps=self.bn.eps)
        return functional.pad(y - zero, border) + zero


class RepConv(nn.Module):
    """1 x 1, padded batch norm, depthwise 3 x 3, 1 x 1, batch norm: one convolution at last."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        spatial = nn.Conv2d(dim, dim, 3, groups=dim, bias=False)
        mixing = nn.Sequential(spatial, nn.Conv2d(dim, dim, 1, bias=False), nn.BatchNorm2d(dim))
        self.body = nn.Sequential(nn.Conv2d(dim, dim, 1, bias=False), PaddedBatchNorm(dim), mixing)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        y: Tensor = self.body(x)
        return y


class Attention(nn.Module):
    """LIF(0.125 Q (K^T V)) with re-parameterised convolutions; input neuron first, none last."""

    scale = 0.125

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.head_lif = LIF()
        for role in ("q", "k", "v", "proj"):
            conv = nn.Sequential(RepConv(dim), nn.BatchNorm2d(dim))
            self.add_module(f"{role}_conv", conv)
        self.q_lif, self.k_lif, self.v_lif = LIF(), LIF(), LIF()
        self.attn_lif = LIF(v_threshold=0.5)

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, C, H, W) currents -> the currents to add to them."""
        s = self.head_lif(x)
        q, k, v = (
            split_heads(lif(at_each_step(conv, s)), self.heads)
            for conv, lif in (
                (self.get_submodule("q_conv"), self.q_lif),
                (self.get_submodule("k_conv"), self.k_lif),
                (self.get_submodule("v_conv"), self.v_lif),
            )
        )
        mixed = (q @ (k.transpose(-2, -1) @ v)) * self.scale  # (T, B, h, N, d)
        spikes = self.attn_lif(merge_heads(mixed, x.shape))
        return at_each_step(self.get_submodule("proj_conv"), spikes)


class Stages(nn.Module):
    """Four stages, two of convolution blocks and two of attention blocks."""

    def __init__(
        self,
        c: StagesConfig,
        neuron: Callable[[], nn.Module],
        convolution: Callable[[int], nn.Module],
        attention: Callable[[int], nn.Module],
    ) -> None:
        super().__init__()
        c1, c2, c3, c4 = c.widths
        self.downsample1_1 = Downsampling(c.in_channels, c1 // 2, None, kernel=7)
        self.ConvBlock1_1 = nn.ModuleList([convolution(c1 // 2)])
        self.downsample1_2 = Downsampling(c1 // 2, c1, neuron())
        self.ConvBlock1_2 = nn.ModuleList([convolution(c1)])
        self.downsample2 = Downsampling(c1, c2, neuron())
        self.ConvBlock2_1 = nn.ModuleList([convolution(c2)])
        self.ConvBlock2_2 = nn.ModuleList([convolution(c2)])
        self.downsample3 = Downsampling(c2, c3, neuron())
        self.block3 = nn.ModuleList(attention(c3) for _ in range(c.depths[0]))
        self.downsample4 = Downsampling(c3, c4, neuron(), stride=1)
        self.block4 = nn.ModuleList(attention(c4) for _ in range(c.depths[1]))

    def features(self, x: Tensor) -> Tensor:
        """(T, B, C, H, W) image -> (T, B, c4, H / 16, W / 16) currents."""
        for downsample, *blocks in (
            (self.downsample1_1, self.ConvBlock1_1),
            (self.downsample1_2, self.ConvBlock1_2),
            (self.downsample2, self.ConvBlock2_1, self.ConvBlock2_2),
            (self.downsample3, self.block3),
            (self.downsample4, self.block4),
        ):
            x = downsample(x)
            for block in chain.from_iterable(blocks):
                x = block(x)
        return x


class MetaSpikeFormer(Stages):
    """The classifier: four stages, mean over tokens, LIF, linear head, mean over time."""

    def __init__(self, config: MetaSpikeFormerConfig) -> None:
        ratio = config.mlp_ratio
        super().__init__(
            config,
            LIF,
            lambda dim: ConvBlock(SepConv(dim), dim, ratio),
            lambda dim: Block(
                Attention(dim, config.heads), MLP(dim, dim * ratio, pointwise1d, membrane=True)
            ),
        )
        self.T = config.T
        self.lif = LIF()
        self.head = nn.Linear(config.widths[3], config.classes)
        self.distilled = config.distilled
        if config.distilled:
            self.head_kd = nn.Linear(config.widths[3], config.classes)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) image, shown T times -> (B, classes) logits."""
        spikes = self.lif(self.features(encode(images, self.T)).flatten(3).mean(3))
        logits: Tensor = self.head(spikes).mean(0)
        return (logits + self.head_kd(spikes).mean(0)) / 2 if self.distilled else logits


# Every published size: what its checkpoint does not say.
_PRESETS: Mapping[str, MetaSpikeFormerConfig] = {
    **{
        f"meta-spikeformer-imagenet-8-{size}{kd}-t{T}": MetaSpikeFormerConfig(
            widths=widths, T=T, distilled=bool(kd)
        )
        for size, widths in (
            (384, (96, 192, 384, 480)), (512, (128, 256, 512, 640)), (768, (192, 384, 768, 960)),
        )
        for kd in ("", "-kd")
        for T in (1, 4)
    },
}  # fmt: skip

_SMALL_WIDTHS = {"widths": (16, 32, 32, 48), "heads": 2, "classes": 5, "depths": (1, 1)}
_SMALL: Mapping[str, tuple[MetaSpikeFormerConfig, int]] = {
    "meta-spikeformer": (MetaSpikeFormerConfig(**_SMALL_WIDTHS), 64),  # type: ignore[arg-type]
    "meta-spikeformer kd": (
        MetaSpikeFormerConfig(**_SMALL_WIDTHS, distilled=True, T=2), 64  # type: ignore[arg-type]
    ),
}  # fmt: skip

FAMILY = Family(
    name="meta-spikeformer",
    config=MetaSpikeFormerConfig,
    model=MetaSpikeFormer,
    recognises=(Keys(has=(REP_CONV,)),),
    presets=_PRESETS,
    small=_SMALL,
)
