"""Where a training run starts: images in two halves, a model, the epochs that it has done."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lapilli.deploy.cli.flow import classes_of
from lapilli.deploy.cli.image_set import Images
from lapilli.deploy.cli.modules import OwnModel, arguments_from, own_model
from lapilli.deploy.cli.own_source import own_source
from lapilli.ir.errors import InputError
from lapilli.model.families.table import FAMILIES, Config, configuration, family_of, make
from lapilli.model.fit import Split
from lapilli.model.loading.checkpoint import (
    Checkpoint,
    build,
    checkpoint_bytes,
    load_checkpoint,
)
from lapilli.model.loading.preprocess import Preprocessing
from lapilli.model.loading.strict import Module


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the command line says of the model and of its images.

    Attributes:
        config: of a family: its configuration as JSON.
        arguments, pythonpath: of a class of the user's own.
        mean, std, no_normalisation: how images are normalised.
        names: of the classes.
        folders: what the data call them.
    """

    config: str | None = None
    arguments: tuple[str, ...] = ()
    pythonpath: tuple[Path, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    no_normalisation: bool = False
    names: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A model to be trained.

    Attributes:
        config: of which it was made; None for a class of the user's own.
        epochs: that earlier runs have done.
    """

    module: Module
    config: Config | None
    preprocessing: Preprocessing
    epochs: int

    def saved(self, epochs: int) -> bytes:
        """Return the checkpoint as a file, after so many epochs."""
        return checkpoint_bytes(self.module, self.config, self.preprocessing, epochs)


def halves(images: Images, hold_out: int, *, numbers: bool = False) -> tuple[Split, Split | None]:
    """Return what is trained on, and the last images, or `numbers`, if any are held out.

    Raises:
        InputError: no labels, images with time, or none left to train on.
    """
    if images.labels is None:
        raise InputError(f"{images.source}: has no labels, and training needs them")
    if images.pixels.ndim != 4 and not numbers:
        raise InputError(f"{images.source}: holds frames; only images are trained on here")
    if hold_out >= len(images.pixels):
        raise InputError(
            f"{images.source}: {len(images.pixels)} images; --hold-out {hold_out} leaves none"
        )
    everything = Split(images.pixels, images.labels)
    return everything.without_last(hold_out) if hold_out else (everything, None)


def start(model: str, training: Split, resume: Path | None, asked: Asked) -> Started:
    """Make the model, with random parameters or those of `resume`.

    Raises:
        InputError: no such family, or a configuration that it has not.
        CheckpointError, ModuleFileError: `resume`, or the user's own code, is not what it takes.
    """
    checkpoint = None if resume is None else load_checkpoint(resume)
    channels = training.images.shape[1]
    preprocessing = _preprocessing(training, checkpoint, asked)
    epochs = 0 if checkpoint is None else checkpoint.epochs
    if own_source(model) is not None:
        own = OwnModel(
            source=model,
            arguments=arguments_from(asked.arguments),
            pythonpath=asked.pythonpath,
            checkpoint=resume,
        )
        module = own_model(own).module
        return Started(module=module, config=None, preprocessing=preprocessing, epochs=epochs)
    config = _config(model, channels, len(preprocessing.classes), checkpoint, asked)
    module = make(config) if checkpoint is None else build(checkpoint, config)
    return Started(module=module, config=config, preprocessing=preprocessing, epochs=epochs)


def _config(
    model: str, channels: int, classes: int, checkpoint: Checkpoint | None, asked: Asked
) -> Config:
    """The configuration that is given, or that of the checkpoint; else the family's own."""
    if model not in FAMILIES:
        known = ", ".join(sorted(FAMILIES))
        raise InputError(f"{model!r} is no family ({known}), and no FILE.py:CLASS")
    if checkpoint is not None and checkpoint.config is not None and asked.config is None:
        config = checkpoint.config
        if family_of(config) != model:
            raise InputError(f"{checkpoint.path} is of family {family_of(config)}, not {model}")
        return config
    fields = {"in_channels": channels, "classes": classes}
    try:
        return configuration(model, {**fields, **json.loads(asked.config or "{}")})
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"--config does not describe a {model} ({error})") from error


def _preprocessing(training: Split, checkpoint: Checkpoint | None, asked: Asked) -> Preprocessing:
    """What is asked for, else what the checkpoint says, else the images' own statistics."""
    channels = training.images.shape[1]
    known = None if checkpoint is None else checkpoint.preprocessing
    mean, std = asked.mean, asked.std
    if asked.no_normalisation:
        mean, std = (0.0,) * channels, (1.0,) * channels
    elif not mean and not std and known is not None:
        mean, std = known.mean, known.std
    elif not mean and not std:
        mean, std = _statistics(training)
    if len(mean) != channels or len(std) != channels:
        shown = ",".join(["0.5"] * channels)
        raise InputError(
            f"--mean and --std take {channels} numbers each, one per channel: --mean {shown}"
        )
    numbered = tuple(map(str, range(int(training.labels.max()) + 1)))
    told = asked.names if checkpoint is None else classes_of(checkpoint, asked.names)
    names = told or asked.folders or numbered
    if len(names) < len(numbered):
        raise InputError(f"{len(names)} names of classes for labels up to {len(numbered) - 1}")
    return Preprocessing(mean=mean, std=std, classes=names)


def _statistics(training: Split) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of pixel / 255 per channel, to four digits.

    Raises:
        InputError: a channel is the same everywhere.
    """
    mean, std = [], []
    levels = np.arange(256) / 255
    for channel in np.moveaxis(training.images, 1, 0):
        share = np.bincount(channel.ravel(), minlength=256) / channel.size
        mean.append(round(float(share @ levels), 4))
        std.append(round(float(np.sqrt(share @ (levels - share @ levels) ** 2)), 4))
    if not all(std):
        raise InputError("a channel is the same in all images: give --mean and --std")
    return tuple(mean), tuple(std)
