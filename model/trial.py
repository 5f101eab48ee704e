"""Small untrained models of every family, whose neurons are alive: what exactness is tried on."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lapilli.model.families.a2os2a import A2OS2AConfig
from lapilli.model.families.e_spikeformer import ESpikeFormerConfig
from lapilli.model.families.meta_spikeformer import MetaSpikeFormerConfig
from lapilli.model.families.qkformer import QKFormerConfig
from lapilli.model.families.semm import BareEMSA, SEMMConfig, SEMMImageNetConfig
from lapilli.model.families.spike_driven import SpikeDrivenConfig
from lapilli.model.families.spikformer import SpikformerConfig
from lapilli.model.families.spikingformer import SpikingformerConfig
from lapilli.model.families.table import Config, make

_WIDTHS = {"widths": (16, 32, 32, 48), "heads": 2, "classes": 5, "depths": (1, 1)}
# Family and layout -> configuration, and the height and width of its images.
SMALL: Mapping[str, tuple[Config, int]] = {
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
    "spike-driven cifar": (SpikeDrivenConfig(embed_dim=32, heads=2), 16),
    "spike-driven imagenet": (SpikeDrivenConfig(embed_dim=32, heads=2, pooling="1111"), 32),
    "spike-driven cifar10-dvs": (
        SpikeDrivenConfig(embed_dim=32, heads=2, in_channels=2, T=10, erode=True), 16
    ),
    "spike-driven gesture": (
        SpikeDrivenConfig(embed_dim=32, heads=2, in_channels=2, T=16, pooling="0111"), 32
    ),
    "spike-driven step": (SpikeDrivenConfig(embed_dim=32, heads=2, mask_threshold=1.0), 16),
    "a2os2a": (A2OS2AConfig(embed_dim=32, heads=2), 16),
    "qkformer cifar": (QKFormerConfig(embed_dim=64, heads=2, depth=3), 16),
    "qkformer imagenet": (QKFormerConfig(embed_dim=64, heads=2, depth=4, layout="imagenet"), 32),
    "qkformer dvs": (
        QKFormerConfig(embed_dim=64, heads=2, depth=2, layout="dvs", in_channels=2, T=16), 32
    ),
    "qkformer channel": (QKFormerConfig(embed_dim=64, heads=2, depth=3, mask="channel"), 16),
    "qkformer bsa": (QKFormerConfig(embed_dim=64, heads=2, depth=3, attention="bsa"), 16),
    "semm": (SEMMConfig(embed_dim=32, depth=1, expert_dim=16), 16),
    "semm imagenet": (
        SEMMImageNetConfig(embed_dim=32, depth=1, expert_dim=16, classes=10), 32
    ),
    "semm spikingformer": (
        SpikingformerConfig(embed_dim=32, heads=2, depth=1, attention="emsa", expert_dim=16), 16
    ),
    "semm spike-driven": (
        SpikeDrivenConfig(embed_dim=32, heads=2, depth=1, attention="emsa", expert_dim=16), 16
    ),
    "meta-spikeformer": (MetaSpikeFormerConfig(**_WIDTHS), 64),  # type: ignore[arg-type]
    "meta-spikeformer kd": (
        MetaSpikeFormerConfig(**_WIDTHS, distilled=True, T=2), 64  # type: ignore[arg-type]
    ),
    "e-spikeformer": (ESpikeFormerConfig(**_WIDTHS), 64),  # type: ignore[arg-type]
    "e-spikeformer bsa": (
        ESpikeFormerConfig(**_WIDTHS, attention="bsa"), 64  # type: ignore[arg-type]
    ),
}  # fmt: skip


def trial_images(config: Config, size: int, count: int = 3, seed: int = 1) -> Tensor:
    """Random images (count, 3, size, size), or event counts (count, T, 2, size, size)."""
    generator = torch.Generator().manual_seed(seed)
    contrast = torch.tensor([0.3, 1.0, 3.0])[:count]
    if config.in_channels == 3:
        images: Tensor = torch.randn(count, 3, size, size, generator=generator)
        images *= contrast.reshape(-1, 1, 1, 1)
        return images
    rates = 0.5 * contrast.reshape(-1, 1, 1, 1, 1).expand(-1, config.T, 2, size, size)
    frames: Tensor = torch.poisson(rates, generator=generator)
    return frames


def alive(config: Config, size: int) -> nn.Module:
    """A model with random parameters and the batch-norm statistics of random images.

    Gains and shifts are such that neurons both fire and rest.
    """
    torch.manual_seed(0)
    model = make(config)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.8, 1.6)
            nn.init.normal_(module.bias, 0.8, 1.0)
            module.momentum = 0.5
        if isinstance(module, BareEMSA):  # no batch norm brings these to threshold
            nn.init.normal_(module.get_parameter("k_conv.weight"), 0.1, 0.3)
            nn.init.normal_(module.get_parameter("v_conv.weight"), 0.1, 0.3)
    with torch.no_grad():
        for _ in range(4):
            model(trial_images(config, size))
    return model.eval()


def random_model(config: Config) -> nn.Module:
    """Random parameters and batch-norm statistics, seeded: for sizes that take long to run."""
    torch.manual_seed(0)
    model = make(config)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.8, 1.6)
            nn.init.normal_(module.bias, 0.0, 0.5)
            nn.init.normal_(module.running_mean, 0.0, 0.2)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 2.0)  # type: ignore[arg-type]
    return model.eval()
