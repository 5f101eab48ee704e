"""Spike-driven Transformer v1: masked attention (SDSA) with a membrane shortcut.

Source: Yao et al., "Spike-driven Transformer", NeurIPS 2023.
Parameter names are those of the official model, so its checkpoints load here; its
`talking_heads` weight is in the official files and used by nothing.

Shape letters: T time steps, B batch, C channels, H x W map, N = H * W tokens, D embed_dim,
h heads, d = D / h.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from lapilli.model.neuron import LIF


@dataclass(frozen=True, slots=True, kw_only=True)
class SpikeDrivenConfig:
    """What a checkpoint does not say. Defaults: the official CIFAR-10 model 2-512.

    Attributes:
        pooling: one digit for each of the four stem stages; "1" halves the map after it. In
            stage 3 that is a maximum over real currents, before any neuron.
    """

    in_channels: int = 3
    classes: int = 10
    embed_dim: int = 512
    heads: int = 8
    depth: int = 2
    mlp_ratio: int = 4
    T: int = 4
    pooling: str = "0011"


def _synapse(x: Tensor, conv: nn.Module, bn: nn.Module) -> Tensor:
    """Convolution and batch norm at each time step: (T, B, C, H, W) -> (T, B, C', H, W)."""
    y: Tensor = bn(conv(x.flatten(0, 1)))
    return y.reshape(*x.shape[:2], *y.shape[1:])


class PatchEmbed(nn.Module):
    """Stem of four conv-BN stages; it returns real membrane currents, not spikes."""

    def __init__(self, c: SpikeDrivenConfig) -> None:
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

    def _pool(self, x: Tensor, stage: int) -> Tensor:
        if self.pooling[stage] == "0":
            return x
        y: Tensor = self.maxpool(x.flatten(0, 1))
        return y.reshape(*x.shape[:2], *y.shape[1:])

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, C, H, W) image -> (T, B, D, H', W') currents."""
        for i in range(3):
            suffix = str(i) if i else ""
            conv, bn, lif = (
                self.get_submodule(f"proj_{kind}{suffix}") for kind in ("conv", "bn", "lif")
            )
            x = self._pool(lif(_synapse(x, conv, bn)), i)
        x = _synapse(x, self.get_submodule("proj_conv3"), self.get_submodule("proj_bn3"))
        x = self._pool(x, 3)
        spikes = self.get_submodule("proj_lif3")(x)
        return x + _synapse(spikes, self.rpe_conv, self.rpe_bn)


class SDSA(nn.Module):
    """Spike-driven self-attention: Q masked by OR over tokens of K AND V (eq. 10-11)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.shortcut_lif = LIF()
        for role in ("q", "k", "v"):
            self.add_module(f"{role}_conv", nn.Conv2d(dim, dim, 1, bias=False))
            self.add_module(f"{role}_bn", nn.BatchNorm2d(dim))
            self.add_module(f"{role}_lif", LIF())
        self.talking_heads_lif = LIF(v_threshold=0.5)  # one coincidence fires it: an OR
        self.proj_conv = nn.Conv2d(dim, dim, 1)
        self.proj_bn = nn.BatchNorm2d(dim)

    def _spikes(self, role: str, x: Tensor) -> Tensor:
        """(T, B, D, H, W) spikes -> (T, B, h, N, d) spikes."""
        conv, bn, lif = (self.get_submodule(f"{role}_{kind}") for kind in ("conv", "bn", "lif"))
        y = lif(_synapse(x, conv, bn)).flatten(3).transpose(-1, -2)  # (T, B, N, D)
        return y.reshape(*y.shape[:3], self.heads, -1).permute(0, 1, 3, 2, 4)  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, D, H, W) currents -> (T, B, D, H, W) currents."""
        spikes = self.shortcut_lif(x)
        q, k, v = (self._spikes(role, spikes) for role in ("q", "k", "v"))
        mask = self.talking_heads_lif((k * v).sum(-2, keepdim=True))  # (T, B, h, 1, d)
        masked = (q * mask).transpose(3, 4).reshape(x.shape)
        return x + _synapse(masked, self.proj_conv, self.proj_bn)


class MLP(nn.Module):
    """LIF-conv-BN twice, added to the membrane stream."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1_lif = LIF()
        self.fc1_conv = nn.Conv2d(dim, hidden, 1)
        self.fc1_bn = nn.BatchNorm2d(hidden)
        self.fc2_lif = LIF()
        self.fc2_conv = nn.Conv2d(hidden, dim, 1)
        self.fc2_bn = nn.BatchNorm2d(dim)

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, D, H, W) currents -> (T, B, D, H, W) currents."""
        y = _synapse(self.fc1_lif(x), self.fc1_conv, self.fc1_bn)
        return x + _synapse(self.fc2_lif(y), self.fc2_conv, self.fc2_bn)


class Block(nn.Module):
    """SDSA and MLP; both add to the membrane stream."""

    def __init__(self, c: SpikeDrivenConfig) -> None:
        super().__init__()
        self.attn = SDSA(c.embed_dim, c.heads)
        self.mlp = MLP(c.embed_dim, c.embed_dim * c.mlp_ratio)

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, D, H, W) currents -> (T, B, D, H, W) currents."""
        y: Tensor = self.mlp(self.attn(x))
        return y


class SpikeDrivenTransformer(nn.Module):
    """The classifier: stem, blocks, mean over tokens, LIF, linear head, mean over time."""

    def __init__(self, config: SpikeDrivenConfig) -> None:
        super().__init__()
        self.T = config.T
        self.patch_embed = PatchEmbed(config)
        self.block = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.head_lif = LIF()
        self.head = nn.Linear(config.embed_dim, config.classes)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) normalised image, shown T times -> (B, classes) logits."""
        x = self.patch_embed(images.unsqueeze(0).repeat(self.T, 1, 1, 1, 1))
        for block in self.block:
            x = block(x)
        logits: Tensor = self.head(self.head_lif(x.flatten(3).mean(3))).mean(0)
        return logits
