"""Load and save parameters without running anybody's code.

Containers: `.safetensors` (ours carries the configuration in its metadata) and PyTorch's
pickles, read so that a file cannot execute anything; each in one file or in several.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from lapilli.ir.errors import CheckpointError
from lapilli.ir.recipe import Json
from lapilli.model.families.table import (
    FAMILIES,
    Config,
    check,
    configuration,
    detect,
    family_of,
    heads_in,
    learn_tau,
    make,
    matched,
)
from lapilli.model.loading.containers import (
    Prefix,
    find_parameters,
    is_count_of_a_tool,
    prefix_hint,
    prefixes,
    without_prefix,
)
from lapilli.model.loading.foreign import foreign
from lapilli.model.loading.pickles import read_pickle
from lapilli.model.loading.preprocess import Preprocessing
from lapilli.model.loading.shards import is_sharded, read_shards, refuse_lone_shard
from lapilli.model.loading.sniff import mistaken

__all__ = [
    "Checkpoint",
    "Config",
    "build",
    "checkpoint_bytes",
    "load_checkpoint",
    "load_state",
    "save_checkpoint",
]

_HEAD = "head.weight"  # a parameter of every family


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """Parameters by name and, where the file says it, what they belong to.

    Attributes:
        entry: of which entry of the file the parameters are; empty where it has no other.
        others: entries that hold parameters, too, and were not taken.
        epochs: how many `lapilli train` has done; 0 where the file says nothing.
        finetuning: what `lapilli finetune` says of its run; None where it has not written the file.
    """

    path: Path
    state: Mapping[str, Tensor]
    config: Config | None = None
    preprocessing: Preprocessing | None = None
    entry: str = ""
    others: tuple[str, ...] = ()
    epochs: int = 0
    finetuning: Mapping[str, Json] | None = None

    @property
    def family(self) -> str | None:
        """Recognised by the keys; None if they are of no family of ours."""
        return detect(self.state)


def save_checkpoint(
    path: Path, model: nn.Module, config: Config, preprocessing: Preprocessing
) -> None:
    """Write parameters, configuration and preprocessing to a `.safetensors` file."""
    path.write_bytes(checkpoint_bytes(model, config, preprocessing))


def checkpoint_bytes(
    model: nn.Module,
    config: Config | None,
    preprocessing: Preprocessing,
    epochs: int = 0,
    finetuning: Mapping[str, Json] | None = None,
) -> bytes:
    """Return a `.safetensors` file of parameters and what is known of them.

    Args:
        model: of any class.
        config: of which it was made; None for a class that is not one of our families.
        preprocessing: how its images were normalised.
        epochs: how many it was trained for; left out where 0.
        finetuning: what a run of fine-tuning needs to go on.
    """
    metadata = {"preprocessing": json.dumps(asdict(preprocessing), sort_keys=True)}
    if config is not None:
        metadata["family"] = family_of(config)
        metadata["config"] = json.dumps(asdict(config), sort_keys=True)
    if epochs:
        metadata["epochs"] = str(epochs)
    if finetuning is not None:
        metadata["finetuning"] = json.dumps(finetuning, sort_keys=True)
    return save({k: v.contiguous() for k, v in model.state_dict().items()}, metadata)


def load_checkpoint(path: Path, key: str | None = None) -> Checkpoint:
    """Read a checkpoint, in whatever container it was saved (docs/checkpoints.md).

    Args:
        path: a file, or the index or folder of a checkpoint in several files.
        key: which parameters, where the file has several sets: the name of their entry, or
            what is before their names.

    Raises:
        CheckpointError: not a checkpoint, or a pickle that asks for code to be run.
    """
    if is_sharded(path):
        found = find_parameters(path, read_shards(path, _read_shard), key)
        return _recognised(Checkpoint(path, found.state))
    refuse_lone_shard(path)
    checkpoint = _read(path, key)
    return checkpoint if checkpoint.config else _recognised(checkpoint)


def _read(path: Path, key: str | None = None) -> Checkpoint:
    """Read one file; names stay those of the file, but for what PyTorch's wrappers add."""
    _require_checkpoint(path)
    if path.suffix == ".safetensors":
        return _load_safetensors(path, key)
    found = find_parameters(path, read_pickle(path), key)
    if empty := [k for k, v in found.state.items() if v.is_meta]:
        raise CheckpointError(
            path,
            f"{empty[0]!r} has no values: it was saved from PyTorch's 'meta' device, before "
            "the model got its parameters; save it again after they are loaded",
        )
    return Checkpoint(path, found.state, entry=found.entry, others=found.others)


def _read_shard(path: Path) -> object:
    """What one file of several holds, under the file's own names."""
    _require_checkpoint(path)
    return _safetensors(path)[0] if path.suffix == ".safetensors" else read_pickle(path)


def _require_checkpoint(path: Path) -> None:
    try:
        if not path.is_file():
            raise CheckpointError(path, "no such file")
        if (problem := mistaken(path)) is not None:
            raise CheckpointError(path, problem)
    except OSError as error:
        raise CheckpointError(path, f"cannot be read: {error.strerror or error}") from error


def _recognised(checkpoint: Checkpoint) -> Checkpoint:
    """A model of a known family under its own names, where it was saved as part of another."""
    if _HEAD in checkpoint.state:
        return checkpoint
    parts = [
        replace(checkpoint, state=without_prefix(checkpoint.state, Prefix(text, of_file=True)))
        for text in prefixes(checkpoint.state, (_HEAD,))
    ]
    known = [part for part in parts if _is_known(part)]
    return known[0] if len(known) == 1 else checkpoint


def _is_known(checkpoint: Checkpoint) -> bool:
    return checkpoint.family is not None or foreign(checkpoint.state) is not None


def _safetensors(path: Path) -> tuple[dict[str, Tensor], Mapping[str, str]]:
    """Tensors and metadata of a `.safetensors` file."""
    try:
        with safe_open(path, "pt") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            return state, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(path, f"not a safetensors file ({error})") from error


def _load_safetensors(path: Path, key: str | None) -> Checkpoint:
    tensors, metadata = _safetensors(path)
    state = find_parameters(path, tensors, key).state
    family = metadata.get("family")
    if family is not None and family not in FAMILIES:
        raise CheckpointError(path, f"unknown family {family!r}; known: {sorted(FAMILIES)}")
    try:
        epochs = int(metadata.get("epochs", "0"))
        told = metadata.get("finetuning")
        finetuning = None if told is None else dict(json.loads(told))
        known = None
        if family is not None or (epochs or finetuning):  # else of somebody else's training
            stored = {k: tuple(v) for k, v in json.loads(metadata["preprocessing"]).items()}
            known = Preprocessing(**stored)
        config = None
        if family is not None:
            config = configuration(family, json.loads(metadata["config"]))
        return Checkpoint(path, state, config, known, epochs=epochs, finetuning=finetuning)
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
    if (heads := heads_in(checkpoint.state)) not in (None, config.heads):
        raise CheckpointError(checkpoint.path, f"has {heads} heads, not {config.heads}")
    with torch.device("meta"):  # no memory is taken before keys and shapes are known to fit
        model = make(config)
        learn_tau(model, checkpoint.state)
    _fitting(model, checkpoint)
    load_state(model.to_empty(device="cpu"), checkpoint)
    return model.eval()


def _fitting(model: nn.Module, checkpoint: Checkpoint) -> dict[str, Tensor]:
    state = {k: v for k, v in checkpoint.state.items() if not is_count_of_a_tool(k)}
    try:
        return matched(model, state)
    except ValueError as error:
        hint = prefix_hint(state, model.state_dict())
        raise CheckpointError(checkpoint.path, f"{error}{hint}") from error


def load_state(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Load strictly; keys that official files carry for nothing are skipped.

    Raises:
        CheckpointError: as `build`.
    """
    state = _fitting(model, checkpoint)
    require_real_numbers(checkpoint.path, state)
    model.load_state_dict(state)


def require_real_numbers(path: Path, state: Mapping[str, Tensor]) -> None:
    """Refuse parameters that no model computes with.

    Raises:
        CheckpointError: one is sparse, complex or quantized, or holds NaN or infinity.
    """
    for key, value in state.items():
        if value.layout is not torch.strided or value.is_complex() or value.is_quantized:
            raise CheckpointError(path, f"{key!r} is no plain tensor of real numbers")
        if not torch.isfinite(value).all():
            raise CheckpointError(path, f"{key!r} holds NaN or infinity")
