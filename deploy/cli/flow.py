"""From a checkpoint to integers: the part of `deploy` that the commands share.

It needs PyTorch; the command line imports it only for the commands that do.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt
from typing_extensions import Unpack

from lapilli.deploy.cli.image_set import Images
from lapilli.deploy.cli.learned_steps import weight_steps_of
from lapilli.deploy.cli.taken import taken_from
from lapilli.deploy.comparison.overlap import mean_overlap
from lapilli.ir.encoding import Encoding
from lapilli.ir.errors import CheckpointError, InputError, LapilliError
from lapilli.ir.network import Network, Task
from lapilli.ir.recipe import Json, Note
from lapilli.model.capture.named_inputs import with_named_inputs
from lapilli.model.capture.signature import Signature, holds_images
from lapilli.model.families.presets import PRESETS, normalisation
from lapilli.model.families.table import Config, configuration, family_of
from lapilli.model.loading.checkpoint import Checkpoint, build, load_checkpoint
from lapilli.model.loading.preprocess import Preprocessing, Shown, answered
from lapilli.model.loading.strict import Module, events
from lapilli.quantize import Quantized, quantize
from lapilli.quantize.frontier import Point, Progress, frontier
from lapilli.quantize.options import LEARNED, QuantizeOptions, layout_of, learns_scales
from lapilli.quantize.shown import preparation as prepared_for
from lapilli.quantize.shown import unprepared

if TYPE_CHECKING:
    from torch import Tensor, nn

_TRIED = 128  # images on which bits are shared out


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """What a checkpoint does not say, or says wrongly.

    Attributes:
        config: the configuration as a JSON object, `family` optional; replaces the stored one.
        preset: name of a published model, which says configuration and normalisation.
        key: which parameters, where the file has several sets of them.
        mean, std: of pixel / 255, one per channel.
        classes: names of the answers, where the file says none.
    """

    config: str | None = None
    preset: str | None = None
    key: str | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    classes: tuple[str, ...] = ()


class NormalisationError(LapilliError, ValueError):
    """Nothing says how the images of a model were normalised."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """Somebody's model, ready to be quantized or compared.

    Attributes:
        module: in evaluation mode, with its parameters.
        made_from: what a recipe remembers of where it came from; never a path.
        preprocessing: how its images were normalised, where the checkpoint, its family's data
            set or the caller says so; and names of its answers.
        what: for messages.
        taken: which set of parameters it has, where its file holds several; see `taken_from`.
        weight_steps: that fine-tuning has learned, by linear map; none where it has not.
    """

    module: Module
    made_from: Mapping[str, Json]
    preprocessing: Preprocessing | None
    what: str
    taken: Mapping[str, Json] = field(default_factory=dict)
    weight_steps: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def normalisation(self) -> Preprocessing:
        """How its images were normalised.

        Raises:
            NormalisationError: nothing says so.
        """
        if self.preprocessing is None:
            raise NormalisationError(
                f"{self.what}: does not say how images were normalised; give --mean and --std, "
                "or --no-normalisation if it takes pixel / 255 as it is, or --counts if its images "
                "are numbers of events"
            )
        return self.preprocessing


def open_checkpoint(path: Path, overrides: Overrides | None = None) -> Checkpoint:
    """Load a checkpoint and complete it from `overrides`.

    Raises:
        CheckpointError: it cannot be read, or a configuration does not fit its family.
    """
    given = overrides or Overrides()
    if path.suffix == ".py":
        raise CheckpointError(path, f"name its class, too: {path}:CLASS --checkpoint FILE")
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
    classes = classes_of(checkpoint, given.classes)
    if len(mean) != len(std):
        raise CheckpointError(path, "needs as many numbers in --mean as in --std")
    preprocessing = Preprocessing(mean=mean, std=std, classes=classes) if mean else None
    return replace(checkpoint, config=config, preprocessing=preprocessing)


def classes_of(checkpoint: Checkpoint, given: tuple[str, ...]) -> tuple[str, ...]:
    """Names of its answers, as its file or else the caller says.

    Raises:
        CheckpointError: both do, and differ.
    """
    stored = checkpoint.preprocessing.classes if checkpoint.preprocessing else ()
    if stored and given not in ((), stored):
        told = f"{', '.join(stored[:3])}{', ...' if len(stored) > 3 else ''}"
        raise CheckpointError(
            checkpoint.path, f"calls its classes {told} itself; leave --class-names"
        )
    return given or stored


def _preset(path: Path, given: Overrides) -> Config:
    if given.config is not None:
        raise CheckpointError(path, "give --preset or --config, not both")
    name = given.preset or ""
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=3)
        hint = f"did you mean {', '.join(near)}?" if near else "see docs/families.md"
        raise CheckpointError(path, f"no preset is called {name!r}; {hint}")
    return PRESETS[name]


def checkpoint_model(checkpoint: Checkpoint) -> Model:
    """Build the model of a checkpoint of a known family.

    Raises:
        CheckpointError: the parameters do not fit the model.
    """
    module = build(checkpoint)
    described = {}
    if (config := checkpoint.config) is not None:  # else `build` has refused
        described = {"family": family_of(config), **asdict(config)}
    return Model(
        module=module,
        made_from={"kind": "checkpoint", "config": json.dumps(described, sort_keys=True)},
        preprocessing=checkpoint.preprocessing,
        what=str(checkpoint.path),
        taken=taken_from(checkpoint),
        weight_steps=weight_steps_of(checkpoint),
    )


def quantize_model(
    model: Model,
    calibration: Images,
    *,
    examined: int = 16,
    warn: Callable[[Note], None] | None = None,
    **options: Unpack[QuantizeOptions],
) -> Quantized:
    """Quantize a model with images as files hold them, and write down which model it was.

    `examined` and `warn` are those of `quantize`.

    Raises:
        NormalisationError: nothing says how its images were normalised.
        InputError: learned scales, and the model has none.
        CaptureError, QuantizeError, RangeError: see `quantize`.
    """
    if learns_scales(options):
        if not model.weight_steps:
            raise InputError(
                f"{model.what}: holds no learned scales of weights: `lapilli finetune "
                f"--weight-scale {LEARNED}` writes them into its checkpoints"
            )
        options["weight_steps"] = model.weight_steps
    images = _shown(model, calibration, options)
    made = quantize(model.module, images, examined=examined, warn=warn, **options)
    return with_origin(made, model, calibration)


def with_origin(made: Quantized, model: Model, calibration: Images) -> Quantized:
    """Write into the recipe which model it was, and which images calibrated.

    Where nobody else names as many classes as there are answers, the images do.
    """
    network, recipe = made.network, made.network.recipe
    if recipe is None:
        return made
    recipe = replace(recipe, model=model.made_from, images=calibration.facts())
    named = "classes" not in recipe.options and len(calibration.classes) == network.class_count
    classes = calibration.classes if named else network.classes
    return replace(made, network=replace(network, recipe=recipe, classes=classes))


def frontier_of(
    model: Model, calibration: Images, *, progress: Progress, **options: Unpack[QuantizeOptions]
) -> list[Point]:
    """Share out bits among a model's layers; see `lapilli.quantize.frontier`.

    Raises:
        NormalisationError: nothing says how its images were normalised.
        CaptureError, QuantizeError, RangeError: see `quantize`.
    """
    images = _shown(model, calibration, options)
    if isinstance(images, dict):
        raise InputError("bits are shared out for models of one input")
    return frontier(model.module, images, images=_TRIED, progress=progress, **options)


def _shown(
    model: Model, calibration: Images, options: QuantizeOptions
) -> Shown | dict[str, Tensor]:
    """The images as the model takes them; what is known of them is put into the options."""
    text = options.get("encoding")
    if text and Encoding.of(text, calibration.pixels.shape[1:]).moves:
        normalised = model.normalisation()
        options["mean"], options["std"] = normalised.mean, normalised.std
    if (as_they_are := unprepared(calibration.pixels, options)) is not None:
        return as_they_are
    if options.get("counts") or not holds_images(layout_of(options)):
        return events(calibration.pixels)
    calibration.require_pixels()
    known = model.normalisation()
    options["mean"], options["std"] = known.mean, known.std
    options["classes"] = options.get("classes") or known.classes or None
    return known.normalise(calibration.pixels)


def normalised_as(model: Model, network: Network) -> Model:
    """The model, with the normalisation of a network where nothing else says it."""
    if model.preprocessing is not None:
        return model
    mean, std = (tuple(map(float, v)) for v in (network.input.mean, network.input.std))
    kept = Preprocessing(mean=mean, std=std, classes=network.classes)
    return replace(model, preprocessing=kept)


def float_right(model: Model, images: Images, network: Network) -> int | Fraction | None:
    """How many images the float model answers right, or its mean IoU; None without labels."""
    if images.labels is None or network.recipe is None or network.task is Task.VALUES:
        return None
    told = network.recipe.options
    layout = str(told.get("layout", "BCHW"))
    signature = Signature(
        layout=layout,
        results=network.recipe.returned,
        per_sample=told.get("per_sample") is True,
        ids=bool(network.ids),
    )
    prepare = preparation(model, network)
    found = answered(module_of(model, network), images.pixels, signature, prepare)
    if network.task is Task.MAP:
        return mean_overlap(found, images.labels, network.class_count)
    return int((found == images.labels).sum())


def module_of(model: Model, network: Network) -> nn.Module:
    """The module, called with the one tensor that a network's several inputs are."""
    if not network.parts:
        return model.module
    return with_named_inputs(model.module, network.parts)


def preparation(model: Model, network: Network) -> Callable[[npt.NDArray[Any]], Tensor]:
    """What makes of images what the model sees.

    Raises:
        NormalisationError: they are normalised, and nothing says how.
    """
    return prepared_for(network, model.normalisation)


def takes_numbers(network: Network) -> bool:
    """Whether nothing normalises what the model sees: numbers of events, or of no image at all."""
    counts = network.recipe is not None and network.recipe.options.get("counts") is True
    return counts or not network.input.takes_pixels
