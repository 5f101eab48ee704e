"""Spikformer: spiking self-attention (SSA) with spike-add residuals.

Source: Zhou et al., "Spikformer: When Spiking Neural Network Meets Transformer", ICLR 2023.
Parameter names are those of the official CIFAR model, so its checkpoints load here.

Shape letters: T time steps, B batch, C channels, H x W map, N = H * W tokens, D embed_dim,
h heads, d = D / h.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from lapilli.model.neuron import LIF


@dataclass(frozen=True, slots=True, kw_only=True)
class SpikformerConfig:
    """What a checkpoint does not say. Defaults: the official CIFAR-10 model 4-384.

    Attributes:
        pooling: one digit for each of the four stem stages; "1" halves the map after it.
    """

    in_channels: int = 3
    classes: int = 10
    embed_dim: int = 384
    heads: int = 12
    depth: int = 4
    mlp_ratio: int = 4
    T: int = 4
    pooling: str = "0011"


class PatchEmbed(nn.Module):
    """Spiking patch splitting: four conv-BN-LIF stages and a convolutional position term."""

    def __init__(self, c: SpikformerConfig) -> None:
        super().__init__()
        widths = (c.in_channels, c.embed_dim // 8, c.embed_dim // 4, c.embed_dim // 2, c.embed_dim)
        self.pooling = c.pooling
        for i in range(4):
            suffix = str(i) if i else ""
            conv = nn.Conv2d(widths[i], widths[i + 1], 3, padding=1, bias=False)
            self.add_module(f"proj_conv{suffix}", conv)
            self.add_module(f"proj_bn{suffix}", nn.BatchNorm2d(widths[i + 1]))
            self.add_module(f"proj_lif{suffix}", LIF())
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.rpe_conv = nn.Conv2d(c.embed_dim, c.embed_dim, 3, padding=1, bias=False)
        self.rpe_bn = nn.BatchNorm2d(c.embed_dim)
        self.rpe_lif = LIF()

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, C, H, W) image -> (T, B, N, D) integers 0..2."""
        T, B = x.shape[:2]
        x = x.flatten(0, 1)
        for i, pool in enumerate(self.pooling):
            suffix = str(i) if i else ""
            conv, bn, lif = (
                self.get_submodule(f"proj_{kind}{suffix}") for kind in ("conv", "bn", "lif")
            )
            x = bn(conv(x))
            x = lif(x.reshape(T, B, *x.shape[1:])).flatten(0, 1)  # (T*B, C, H, W)
            if pool == "1":
                x = self.maxpool(x)  # an OR: the values are spikes
        position = self.rpe_bn(self.rpe_conv(x))
        position = self.rpe_lif(position.reshape(T, B, *x.shape[1:])).flatten(0, 1)
        x = x + position
        return x.reshape(T, B, x.shape[1], -1).transpose(-1, -2)


def _fire(x: Tensor, linear: nn.Module, bn: nn.Module, lif: nn.Module) -> Tensor:
    """Linear, batch norm over tokens, LIF: (T, B, N, C) -> (T, B, N, C')."""
    T, B, N, _ = x.shape
    y = linear(x.flatten(0, 1))  # (T*B, N, C')
    y = bn(y.transpose(-1, -2)).transpose(-1, -2)
    fired: Tensor = lif(y.reshape(T, B, N, -1))
    return fired


class SSA(nn.Module):
    """Spiking self-attention: LIF(0.125 * (Q K^T) V) on binary Q, K, V; no softmax (eq. 6)."""

    scale = 0.125  # a constant of the paper, whatever d is

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        for role in ("q", "k", "v", "proj"):
            self.add_module(f"{role}_linear", nn.Linear(dim, dim))
            self.add_module(f"{role}_bn", nn.BatchNorm1d(dim))
            self.add_module(f"{role}_lif", LIF())
        self.attn_lif = LIF(v_threshold=0.5)

    def _unit(self, role: str, x: Tensor) -> Tensor:
        kinds = ("linear", "bn", "lif")
        return _fire(x, *(self.get_submodule(f"{role}_{kind}") for kind in kinds))

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, N, D) integers -> (T, B, N, D) spikes."""
        T, B, N, D = x.shape
        q, k, v = (
            self._unit(role, x).reshape(T, B, N, self.heads, -1).transpose(2, 3)  # (T, B, h, N, d)
            for role in ("q", "k", "v")
        )
        scores = (q @ k.transpose(-2, -1)) * self.scale  # (T, B, h, N, N) counts / 8
        mixed = (scores @ v).transpose(2, 3).reshape(T, B, N, D)
        fired: Tensor = self.attn_lif(mixed)
        return self._unit("proj", fired)


class MLP(nn.Module):
    """Two linear-BN-LIF units."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1_linear = nn.Linear(dim, hidden)
        self.fc1_bn = nn.BatchNorm1d(hidden)
        self.fc1_lif = LIF()
        self.fc2_linear = nn.Linear(hidden, dim)
        self.fc2_bn = nn.BatchNorm1d(dim)
        self.fc2_lif = LIF()

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, N, D) integers -> (T, B, N, D) spikes."""
        x = _fire(x, self.fc1_linear, self.fc1_bn, self.fc1_lif)
        return _fire(x, self.fc2_linear, self.fc2_bn, self.fc2_lif)


class Block(nn.Module):
    """x + SSA(x), then x + MLP(x): the stream counts spikes, 2 more per block."""

    def __init__(self, c: SpikformerConfig) -> None:
        super().__init__()
        self.attn = SSA(c.embed_dim, c.heads)
        self.mlp = MLP(c.embed_dim, c.embed_dim * c.mlp_ratio)

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, N, D) integers -> (T, B, N, D) integers."""
        x = x + self.attn(x)
        y: Tensor = self.mlp(x)
        return x + y


class Spikformer(nn.Module):
    """The classifier: stem, blocks, mean over tokens and time, linear head."""

    def __init__(self, config: SpikformerConfig) -> None:
        super().__init__()
        self.T = config.T
        self.patch_embed = PatchEmbed(config)
        self.block = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.head = nn.Linear(config.embed_dim, config.classes)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) normalised image, shown T times -> (B, classes) logits."""
        x = self.patch_embed(images.unsqueeze(0).repeat(self.T, 1, 1, 1, 1))
        for block in self.block:
            x = block(x)
        logits: Tensor = self.head(x.mean(2).mean(0))
        return logits
