"""Load and save parameters without running anybody's code.

Containers: `.safetensors` (ours carries the configuration in its metadata) and PyTorch
pickles read with `weights_only=True`, so that a file cannot execute anything.
"""

from __future__ import annotations

import argparse
import json
import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from lapilli.ir.errors import CheckpointError
from lapilli.model.families.table import (
    FAMILIES,
    Config,
    check,
    configuration,
    detect,
    family_of,
    learn_tau,
    make,
    matched,
)
from lapilli.model.loading.preprocess import Preprocessing

__all__ = [
    "Checkpoint",
    "Config",
    "build",
    "load_checkpoint",
    "load_state",
    "save_checkpoint",
]


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """Parameters by name and, where the file says it, what they belong to."""

    path: Path
    state: Mapping[str, Tensor]
    config: Config | None = None
    preprocessing: Preprocessing | None = None

    @property
    def family(self) -> str | None:
        """Recognised by the keys; None if they are of no family of ours."""
        return detect(self.state)


def save_checkpoint(
    path: Path, model: nn.Module, config: Config, preprocessing: Preprocessing
) -> None:
    """Write parameters, configuration and preprocessing to a `.safetensors` file."""
    metadata = {
        "family": family_of(config),
        "config": json.dumps(asdict(config), sort_keys=True),
        "preprocessing": json.dumps(asdict(preprocessing), sort_keys=True),
    }
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, path, metadata)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        CheckpointError: not a checkpoint, or a pickle that asks for code to be run.
    """
    if not path.is_file():
        raise CheckpointError(path, "no such file")
    if path.suffix == ".safetensors":
        return _load_safetensors(path)
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            path,
            "it asks for code to be run while loading, or is no checkpoint; refused. "
            "Save its state_dict alone, or convert it to .safetensors where you trust it",
        ) from error
    except Exception as error:  # a damaged pickle makes torch raise anything
        raise CheckpointError(path, f"not a PyTorch checkpoint ({error!r})") from error
    for container in ("state_dict", "model", "state_dict_ema"):
        if isinstance(content, dict) and isinstance(content.get(container), dict):
            content = content[container]
            break
    if not isinstance(content, dict) or not content:
        raise CheckpointError(path, "holds no state_dict")
    if odd := [k for k, v in content.items() if not isinstance(v, Tensor)]:
        raise CheckpointError(path, f"entry {odd[0]!r} is not a tensor")
    state = {str(k).removeprefix("module."): v for k, v in content.items()}
    return Checkpoint(path, state)


def _load_safetensors(path: Path) -> Checkpoint:
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(path, f"not a safetensors file ({error})") from error
    if (family := metadata.get("family")) is None:
        return Checkpoint(path, state)
    if family not in FAMILIES:
        raise CheckpointError(path, f"unknown family {family!r}; known: {sorted(FAMILIES)}")
    try:
        config = configuration(family, json.loads(metadata["config"]))
        stored = {k: tuple(v) for k, v in json.loads(metadata["preprocessing"]).items()}
        return Checkpoint(path, state, config, Preprocessing(**stored))
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise CheckpointError(path, f"its metadata cannot be read ({error})") from error


def build(checkpoint: Checkpoint, config: Config | None = None) -> nn.Module:
    """Make the model, load the parameters and return it in evaluation mode.

    Raises:
        CheckpointError: no configuration known; keys missing, left over or of the wrong
            shape; a value that is not finite.
    """
    config = config or checkpoint.config
    if config is None:
        raise CheckpointError(
            checkpoint.path,
            "does not say heads, T and pooling; name its model (--preset), or give them as a "
            "configuration (--config)",
        )
    try:
        check(config)
    except ValueError as error:
        raise CheckpointError(checkpoint.path, f"no model has {error}") from error
    if (heads := _heads(checkpoint.state)) not in (None, config.heads):
        raise CheckpointError(checkpoint.path, f"has {heads} heads, not {config.heads}")
    with torch.device("meta"):  # no memory is taken before keys and shapes are known to fit
        model = make(config)
        learn_tau(model, checkpoint.state)
    _fitting(model, checkpoint)
    load_state(model.to_empty(device="cpu"), checkpoint)
    return model.eval()


def _heads(state: Mapping[str, Tensor]) -> int | None:
    """What an unused weight of Spike-driven Transformer gives away."""
    talking = (v for k, v in state.items() if k.endswith(".talking_heads.weight") and v.dim() == 3)
    return next((len(v) for v in talking), None)


def _fitting(model: nn.Module, checkpoint: Checkpoint) -> dict[str, Tensor]:
    try:
        return matched(model, checkpoint.state)
    except ValueError as error:
        raise CheckpointError(checkpoint.path, str(error)) from error


def load_state(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Load strictly; keys that official files carry for nothing are skipped.

    Raises:
        CheckpointError: as `build`.
    """
    state = _fitting(model, checkpoint)
    for key, value in state.items():
        if value.layout is not torch.strided or value.is_complex() or value.is_quantized:
            raise CheckpointError(checkpoint.path, f"{key!r} is no plain tensor of real numbers")
        if not torch.isfinite(value).all():
            raise CheckpointError(checkpoint.path, f"{key!r} holds NaN or infinity")
    model.load_state_dict(state)
