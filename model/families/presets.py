"""Published sizes by name, and which of them a file fits; the sizes are in their families."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from lapilli.model.families.table import (
    FAMILIES,
    Config,
    detect,
    family_of,
    learn_tau,
    make,
    matched,
)

PRESETS: Mapping[str, Config] = {
    name: config for family in FAMILIES.values() for name, config in family.presets.items()
}

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
    assumptions = FAMILIES[family_of(PRESETS[preset])].assumed
    return next((what for name, what in assumptions.items() if preset.startswith(name)), None)


def layouts(presets: Iterable[str]) -> tuple[str, ...]:
    """The layouts of these presets, of families that have several."""
    known = {getattr(PRESETS[name], "layout", None) for name in presets}
    return tuple(sorted(layout for layout in known if layout is not None))


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
        if config.classes != head.shape[0] or config.width != head.shape[1]:
            return False
        model = make(config)
        learn_tau(model, state)
    try:
        matched(model, state)
    except ValueError:
        return False
    return True
