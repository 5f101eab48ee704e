"""Every published size by name: what its checkpoint does not say, in one literal table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from lapilli.model.families.a2os2a import A2OS2AConfig
from lapilli.model.families.e_spikeformer import ESpikeFormerConfig
from lapilli.model.families.meta_spikeformer import MetaSpikeFormerConfig
from lapilli.model.families.qkformer import QKFormerConfig
from lapilli.model.families.semm import SEMMConfig, SEMMImageNetConfig
from lapilli.model.families.spike_driven import SpikeDrivenConfig
from lapilli.model.families.spikformer import SpikformerConfig
from lapilli.model.families.spikingformer import SpikingformerConfig
from lapilli.model.families.table import Config, detect, family_of, learn_tau, make, matched

_SPIKFORMER: Mapping[str, Config] = {
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
}  # fmt: skip

_SPIKINGFORMER: Mapping[str, Config] = {
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
}  # fmt: skip

_SPIKE_DRIVEN: Mapping[str, Config] = {
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
}  # fmt: skip

_A2OS2A: Mapping[str, Config] = {
    **{
        f"a2os2a-cifar{classes}-{depth}-{dim}": A2OS2AConfig(
            classes=classes, depth=depth, embed_dim=dim
        )
        for classes in (10, 100)
        for depth, dim in ((2, 256), (4, 256), (2, 384), (4, 384), (2, 512))
    },
    **{
        f"a2os2a-imagenet-{depth}-{dim}": A2OS2AConfig(
            pooling="1111", classes=1000, depth=depth, embed_dim=dim
        )
        for depth, dim in ((8, 384), (6, 512), (8, 512), (10, 512))
    },
}

_QKFORMER: Mapping[str, Config] = {
    "qkformer-cifar10-4-384": QKFormerConfig(),
    "qkformer-cifar100-4-384": QKFormerConfig(classes=100),
    **{
        f"qkformer-imagenet-10-{dim}": QKFormerConfig(
            layout="imagenet", classes=1000, depth=10, embed_dim=dim, heads=heads
        )
        for dim, heads in ((384, 6), (512, 8), (768, 12))
    },
    "qkformer-cifar10-dvs-2-256": QKFormerConfig(
        layout="dvs", in_channels=2, depth=2, embed_dim=256, heads=16, T=16, mlp_ratio=1
    ),
    "qkformer-dvs128-gesture-2-256": QKFormerConfig(
        layout="dvs", in_channels=2, classes=11, depth=2, embed_dim=256, heads=16, T=16
    ),
    **{
        f"bsa-qkformer-imagenet-10-{dim}": QKFormerConfig(
            layout="imagenet", classes=1000, depth=10, embed_dim=dim, heads=heads, attention="bsa"
        )
        for dim, heads in ((384, 6), (512, 8))
    },
}

_META: Mapping[str, Config] = {
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

_STEP: Mapping[str, Config] = {
    "step-semm-imagenet-8-512": SEMMImageNetConfig(),
    "step-spikformer-imagenet-8-512": SpikformerConfig(
        layout="imagenet", pooling="1111", classes=1000, depth=8, embed_dim=512, heads=8,
        proj_bias=False,
    ),
    **{
        f"step-{name}-cifar{classes}": config
        for classes in (10, 100)
        for name, config in (
            ("spikformer", SpikformerConfig(classes=classes)),
            ("spikingformer", SpikingformerConfig(classes=classes, proj_bias=False)),
            ("spike-driven", SpikeDrivenConfig(classes=classes, mask_threshold=1.0)),
            ("qkformer", QKFormerConfig(classes=classes)),
            ("semm", SEMMConfig(classes=classes)),
        )
    },
}  # fmt: skip

PRESETS: Mapping[str, Config] = {
    **_SPIKFORMER, **_SPIKINGFORMER, **_SPIKE_DRIVEN, **_A2OS2A, **_QKFORMER, **_META, **_STEP,
}  # fmt: skip

# What nobody published, and is assumed in the presets whose names begin so.
ASSUMED: Mapping[str, str] = {
    "spikformer-cifar10-4-256": "8 heads", "spikformer-cifar100-4-256": "8 heads",
    "spikformer-cifar10-2-384": "12 heads", "spikformer-cifar100-2-384": "12 heads",
    "spikformer-imagenet-8-384": "12 heads", "spikformer-imagenet-6-512": "8 heads",
    "spikformer-imagenet-10-512": "8 heads", "spikformer-imagenet-8-768": "12 heads",
    "spikingformer-cifar10-4-256": "8 heads", "spikingformer-cifar100-4-256": "8 heads",
    "spikingformer-cifar10-2-384": "12 heads", "spikingformer-cifar100-2-384": "8 heads",
    "a2os2a-": "8 heads, tau 2, thresholds 1", "bsa-": "heads, tau and thresholds of the host",
    "semm-": "4 experts, widths, tau and thresholds; attention and order of neurons of the host",
}  # fmt: skip

# Mean and standard deviation of pixel / 255 that the authors normalised with.
NORMALISATION: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


def normalisation(preset: str) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and standard deviation of a preset's data set; None for event counts."""
    if PRESETS[preset].in_channels != 3:
        return None
    return next(v for name, v in NORMALISATION.items() if name in preset.split("-"))


def assumed(preset: str) -> str | None:
    """What a preset assumes that nobody published."""
    return next((what for name, what in ASSUMED.items() if preset.startswith(name)), None)


def layouts(presets: Iterable[str]) -> tuple[str, ...]:
    """The layouts of these presets, of families that have several."""
    configs = (PRESETS[name] for name in presets)
    known = (SpikformerConfig, SpikingformerConfig, QKFormerConfig)
    return tuple(sorted({c.layout for c in configs if isinstance(c, known)}))


def fitting(state: Mapping[str, Tensor]) -> tuple[str, ...]:
    """The presets whose keys, shapes and thresholds are those of a file, best guess first."""
    head = state.get("head.weight")
    if head is None or head.dim() != 2:
        return ()
    family = detect(state)
    fits = [name for name, config in PRESETS.items() if _fits(config, head, state)]
    return tuple(sorted(fits, key=lambda name: family_of(PRESETS[name]) != family))


def _fits(config: Config, head: Tensor, state: Mapping[str, Tensor]) -> bool:
    with torch.device("meta"):
        if config.classes != head.shape[0] or _width(config) != head.shape[1]:
            return False
        model = make(config)
        learn_tau(model, state)
    try:
        matched(model, state)
    except ValueError:
        return False
    return True


def _width(config: Config) -> int:
    if isinstance(config, MetaSpikeFormerConfig | ESpikeFormerConfig):
        return config.widths[3]
    return config.embed_dim
