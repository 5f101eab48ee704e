"""From a checkpoint to integers: the part of `deploy` that the commands share.

It needs PyTorch; the command line imports it only for the commands that do.
"""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass, replace
from pathlib import Path

from lapilli.deploy.cli.images import Images
from lapilli.ir.errors import CheckpointError
from lapilli.model.capture.capture import capture
from lapilli.model.families.presets import PRESETS, normalisation
from lapilli.model.families.table import Config, configuration
from lapilli.model.loading.checkpoint import Checkpoint, build, load_checkpoint
from lapilli.model.loading.preprocess import Preprocessing
from lapilli.quantize import Quantized, quantize


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """What a checkpoint does not say, or says wrongly.

    Attributes:
        config: the configuration as a JSON object, `family` optional; replaces the stored one.
        preset: name of a published model, which says configuration and normalisation.
        key: which parameters, where the file has several sets of them.
        mean, std: of pixel / 255, one per channel.
        classes: names of the answers.
    """

    config: str | None = None
    preset: str | None = None
    key: str | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    classes: tuple[str, ...] = ()


def open_checkpoint(path: Path, overrides: Overrides | None = None) -> Checkpoint:
    """Load a checkpoint and complete it from `overrides`.

    Raises:
        CheckpointError: it cannot be read, or a configuration does not fit its family.
    """
    given = overrides or Overrides()
    checkpoint = load_checkpoint(path, given.key)
    config = checkpoint.config
    if given.preset is not None:
        config = _preset(path, given)
    elif given.config is not None:
        try:
            fields = json.loads(given.config)
            family = fields.pop("family", checkpoint.family)
            config = configuration(family, fields)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise CheckpointError(
                path, f"--config does not describe its model ({error})"
            ) from error
    stored = checkpoint.preprocessing
    mean = given.mean or (stored.mean if stored else ())
    std = given.std or (stored.std if stored else ())
    if given.preset is not None and not mean:
        mean, std = normalisation(given.preset) or ((), ())
    classes = given.classes or (stored.classes if stored else ())
    if not mean or len(mean) != len(std):
        raise CheckpointError(
            path, "does not say how images were normalised; give --mean and --std"
        )
    preprocessing = Preprocessing(mean=mean, std=std, classes=classes)
    return replace(checkpoint, config=config, preprocessing=preprocessing)


def _preset(path: Path, given: Overrides) -> Config:
    if given.config is not None:
        raise CheckpointError(path, "give --preset or --config, not both")
    name = given.preset or ""
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=3)
        hint = f"did you mean {', '.join(near)}?" if near else "see docs/families.md"
        raise CheckpointError(path, f"no preset is called {name!r}; {hint}")
    return PRESETS[name]


def quantize_checkpoint(
    checkpoint: Checkpoint, calibration: Images, weight_bits: int = 8, input_bits: int = 8
) -> Quantized:
    """Build the model and quantize it.

    Raises:
        CheckpointError: the parameters do not fit the model, or nothing says how to normalise.
        CaptureError, QuantizeError, RangeError: see `quantize`.
    """
    preprocessing = _preprocessing(checkpoint)
    return quantize(
        build(checkpoint),
        preprocessing.normalise(calibration.pixels),
        weight_bits=weight_bits,
        input_bits=input_bits,
        mean=preprocessing.mean,
        std=preprocessing.std,
        classes=preprocessing.classes or None,
    )


def float_right(checkpoint: Checkpoint, images: Images) -> int | None:
    """How many images the float model answers right; None without labels.

    Raises:
        CheckpointError: see `quantize_checkpoint`.
        CaptureError: the model does not return logits of these images.
    """
    if images.labels is None:
        return None
    model, preprocessing = build(checkpoint), _preprocessing(checkpoint)
    shape = images.pixels.shape[1:]
    signature = capture(model, shape, layout="BCHW" if len(shape) == 3 else "BTCHW").signature
    return preprocessing.right(model, images.pixels, images.labels, signature)


def _preprocessing(checkpoint: Checkpoint) -> Preprocessing:
    if checkpoint.preprocessing is None:
        raise CheckpointError(checkpoint.path, "does not say how images were normalised")
    return checkpoint.preprocessing
