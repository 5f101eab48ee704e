"""Small untrained models of every family, whose neurons are alive: what exactness is tried on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from lapilli.model.families.semm import BareEMSA
from lapilli.model.families.table import FAMILIES, Config, make

# Family and layout -> configuration, and the height and width of its images.
SMALL: Mapping[str, tuple[Config, int]] = {
    name: small for family in FAMILIES.values() for name, small in family.small.items()
}


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


def any_images(shape: Sequence[int], count: int, *, frames: bool = False, seed: int = 1) -> Tensor:
    """Random images (count, *shape), or whole numbers of events, if they are frames."""
    images = torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))
    return images.abs().round() if frames else images


def alive(config: Config, size: int) -> nn.Module:
    """A model with random parameters and the batch-norm statistics of random images.

    Gains and shifts are such that neurons both fire and rest.
    """
    torch.manual_seed(0)
    return _woken(make(config), trial_images(config, size))


def drawn(config: Config, size: int, seed: int) -> nn.Module:
    """Like `alive`, of any seed, with weights of standard deviation 1.6 / sqrt(fan-in)."""
    torch.manual_seed(seed)
    model = make(config)
    for module in model.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
            nn.init.normal_(module.weight, 0.0, 1.6 / math.sqrt(module.weight[0].numel()))
    return _woken(model, trial_images(config, size, seed=seed + 1))


def _woken(model: nn.Module, images: Tensor) -> nn.Module:
    """Draw what decides how often neurons fire, and let batch norm see the images."""
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
            model(images)
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
