"""The model that a command line names: a checkpoint of a family, or somebody's own class."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from lapilli.deploy.cli.doctor import need
from lapilli.deploy.cli.options import DIGITS
from lapilli.ir.errors import InputError

if TYPE_CHECKING:
    from lapilli.deploy.cli.flow import Model
    from lapilli.ir.network import Network


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions:
    """What the command line says of a model; None or empty where it says nothing.

    Attributes:
        checkpoint: parameters of a class; key: which, where it has several sets.
        config, preset: of a family's checkpoint.
        mean, std, no_normalisation: how its images were normalised.
        arg, attributes: name=value for a class, and for the model once it is made.
        pythonpath: folders that its imports are searched in first.
        unused: patterns of keys in the checkpoint that nothing uses.
        classes: names of its answers, where the checkpoint says none.
    """

    checkpoint: Path | None = None
    key: str | None = None
    config: str | None = None
    preset: str | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    no_normalisation: bool = False
    arg: list[str] | None = None
    attributes: list[str] | None = None
    pythonpath: list[Path] | None = None
    unused: list[str] | None = None
    classes: tuple[str, ...] = ()

    def remembered(self, network: Network) -> ModelOptions:
        """Fill in what the recipe of a network remembers and the command line does not say."""
        told = network.recipe.model if network.recipe else {}
        kept = told.get("config")
        says_config = self.preset is not None or self.config is not None
        patterns = told.get("unused")
        unused = [str(p) for p in patterns] if isinstance(patterns, list) else None
        return replace(
            self,
            config=kept if isinstance(kept, str) and not says_config else self.config,
            arg=_pairs(self.arg, told.get("arguments")),
            attributes=_pairs(self.attributes, told.get("attributes")),
            unused=unused if self.unused is None else self.unused,
        )


def _pairs(given: list[str] | None, told: object) -> list[str] | None:
    """name=value, as given or else as told."""
    if given is not None or not isinstance(told, dict):
        return given
    return [f"{name}={value}" for name, value in told.items()]


def calibration_of(name: str, given: str | None) -> str:
    """What --calibration says, or else the digits, which the shipped checkpoints know.

    Raises:
        InputError: it says nothing, and the model is a class of the user's own, or a NIR file.
    """
    from lapilli.deploy.cli.own_source import own_source

    nir = name.endswith(".nir")
    if given is None and (nir or own_source(name) is not None):
        raise InputError(
            f"{name} is {'a NIR file' if nir else 'a class of your own'}: give images that it "
            "knows, a folder or a file, with --calibration IMAGES; scales and thresholds are made "
            "for them"
        )
    return DIGITS if given is None else given


def check_digits(model: Model) -> None:
    """Check that the digits, which nobody asked for, can calibrate a model, and say that they do.

    Raises:
        InputError: it takes images of other channels.
    """
    told = model.made_from.get("config")
    fields = json.loads(told) if isinstance(told, str) else {}
    if (channels := fields.get("in_channels", 1)) != 1:
        raise InputError(
            f"{model.what}: takes images of {channels} channels; give training images that it "
            f"knows with --calibration: without it {DIGITS} are taken, which have one"
        )
    typer.echo(
        f"calibrated on {DIGITS}, scikit-learn's training images, because nothing else was said; "
        "a model of other images needs --calibration",
        err=True,
    )


def open_model(name: str, asked: ModelOptions, channels: int) -> Model:
    """Build a model with its parameters, in evaluation mode.

    Args:
        name: a checkpoint, a .nir file, or FILE.py:CLASS, or PACKAGE.MODULE:CLASS.
        asked: the rest of the command line.
        channels: of its images.

    Raises:
        CheckpointError, FormatError, ModuleFileError: it cannot be built; says why.
        InputError: options that contradict each other.
    """
    from lapilli.deploy.cli import flow, modules
    from lapilli.deploy.cli.own_source import own_source

    mean, std = asked.mean, asked.std
    if asked.no_normalisation:
        if mean or std:
            raise InputError("give --mean and --std, or --no-normalisation, not both")
        mean, std = (0.0,) * channels, (1.0,) * channels
    if len(mean) != len(std) or len(mean) not in (0, channels):
        shown = ",".join(["0.5"] * channels)
        raise InputError(
            f"--mean and --std take {channels} numbers each, one per channel: --mean {shown}"
        )
    if name.endswith(".nir"):
        need("h5py")
        from lapilli.deploy.cli.nir_model import nir_model

        other = asked.checkpoint not in (None, Path(name))
        if other or asked.config or asked.preset or asked.key or asked.attributes:
            raise InputError(f"{name}: a NIR file says its parameters; give --arg name=value alone")
        arguments = modules.arguments_from(asked.arg or ())
        return nir_model(Path(name), arguments, mean, std, asked.classes)
    if own_source(name) is None:
        overrides = flow.Overrides(
            config=asked.config,
            preset=asked.preset,
            mean=mean,
            std=std,
            key=asked.key,
            classes=asked.classes,
        )
        return flow.checkpoint_model(flow.open_checkpoint(Path(name), overrides))
    return modules.own_model(
        modules.OwnModel(
            source=name,
            arguments=modules.arguments_from(asked.arg or ()),
            attributes=modules.arguments_from(asked.attributes or (), "--set"),
            pythonpath=tuple(asked.pythonpath or ()),
            checkpoint=asked.checkpoint,
            key=asked.key,
            unused=tuple(asked.unused or ()),
            mean=mean,
            std=std,
            classes=asked.classes,
        )
    )


def open_again(name: str, asked: ModelOptions, network: Network) -> Model:
    """Open the model that a network was made from.

    Raises:
        InputError: it was made from a class, and `name` is a checkpoint alone; see `open_model`.
    """
    from lapilli.deploy.cli.own_source import own_source

    told = network.recipe.model if network.recipe else {}
    if told.get("kind") == "class" and own_source(name) is None:
        raise InputError(
            f"{name}: the network was made from a class, {told.get('source')}; name it with "
            "--module, beside --checkpoint"
        )
    return open_model(name, asked.remembered(network), len(network.input.mean))
