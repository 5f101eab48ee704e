"""Load and save parameters without running anybody's code.

Containers: `.safetensors` (ours carries the configuration in its metadata) and PyTorch
pickles read with `weights_only=True`, so that a file cannot execute anything.
"""

from __future__ import annotations

import argparse
import json
import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TypeAlias

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from lapilli.ir.errors import CheckpointError
from lapilli.model.preprocess import Preprocessing
from lapilli.model.spike_driven import SpikeDrivenConfig, SpikeDrivenTransformer
from lapilli.model.spikformer import Spikformer, SpikformerConfig

Config: TypeAlias = SpikformerConfig | SpikeDrivenConfig

FAMILIES: Mapping[str, type[SpikformerConfig | SpikeDrivenConfig]] = {
    "spikformer": SpikformerConfig,
    "spike-driven": SpikeDrivenConfig,
}

# In official files, used by no forward pass.
UNUSED = ("norm1.", "norm2.", "talking_heads.weight")


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """Parameters by name and, where the file says it, what they belong to."""

    path: Path
    state: Mapping[str, Tensor]
    config: Config | None = None
    preprocessing: Preprocessing | None = None

    @property
    def family(self) -> str | None:
        """`spikformer` or `spike-driven`, recognised by the keys; None if neither."""
        if any("attn.talking_heads_lif" in k or "attn.q_conv.weight" in k for k in self.state):
            return "spike-driven"
        return "spikformer" if any("attn.q_linear.weight" in k for k in self.state) else None


def save_checkpoint(
    path: Path, model: nn.Module, config: Config, preprocessing: Preprocessing
) -> None:
    """Write parameters, configuration and preprocessing to a `.safetensors` file."""
    family = next(name for name, kind in FAMILIES.items() if isinstance(config, kind))
    metadata = {
        "family": family,
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
        config = FAMILIES[family](**json.loads(metadata["config"]))
        _check_config(config)
        stored = {k: tuple(v) for k, v in json.loads(metadata["preprocessing"]).items()}
        return Checkpoint(path, state, config, Preprocessing(**stored))
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise CheckpointError(path, f"its metadata cannot be read ({error})") from error


def _check_config(config: Config) -> None:
    """Refuse numbers that no model can have; a file may say anything.

    Raises:
        ValueError: the field and its value.
    """
    for field in fields(config):
        value = getattr(config, field.name)
        legal = type(value) is type(field.default)
        if type(field.default) is int:
            legal = legal and 0 < value < 1 << 16
        if field.name == "pooling":
            legal = legal and set(value) <= {"0", "1"}
        if not legal:
            raise ValueError(f"{field.name} = {value!r}")


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
            "does not say heads, T and pooling; give them as a configuration (--config)",
        )
    try:
        _check_config(config)
    except ValueError as error:
        raise CheckpointError(checkpoint.path, f"no model has {error}") from error
    model = (
        Spikformer(config)
        if isinstance(config, SpikformerConfig)
        else (SpikeDrivenTransformer(config))
    )
    load_state(model, checkpoint)
    return model.eval()


def load_state(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Load strictly; keys that official files carry for nothing are skipped.

    Raises:
        CheckpointError: as `build`.
    """
    own = model.state_dict()
    state = {k: v for k, v in checkpoint.state.items() if not any(u in k for u in UNUSED)}
    if missing := sorted(own.keys() - state.keys()):
        raise CheckpointError(checkpoint.path, f"lacks {_some(missing)}: wrong family or depth?")
    if extra := sorted(state.keys() - own.keys()):
        raise CheckpointError(checkpoint.path, f"has {_some(extra)}, which the model has not")
    for key, value in state.items():
        if value.shape != own[key].shape:
            raise CheckpointError(
                checkpoint.path,
                f"{key!r} has shape {tuple(value.shape)}, the model {tuple(own[key].shape)}",
            )
        if value.layout is not torch.strided or value.is_complex() or value.is_quantized:
            raise CheckpointError(checkpoint.path, f"{key!r} is no plain tensor of real numbers")
        if not torch.isfinite(value).all():
            raise CheckpointError(checkpoint.path, f"{key!r} holds NaN or infinity")
    model.load_state_dict(state)


def _some(keys: list[str]) -> str:
    return repr(keys[0]) + (f" and {len(keys) - 1} more keys" if len(keys) > 1 else "")
