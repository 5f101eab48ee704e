"""Where a run of fine-tuning starts: options, the model in float, what an earlier run has done."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from lapilli.deploy.cli.flow import Model, with_origin
from lapilli.deploy.cli.image_set import Images
from lapilli.deploy.cli.learned_steps import WEIGHT_STEPS, weight_steps_of
from lapilli.ir.encoding import Encoding
from lapilli.ir.errors import CheckpointError
from lapilli.ir.recipe import Json
from lapilli.model.capture.signature import holds_images
from lapilli.model.families.table import Config, configuration
from lapilli.model.fit import Options, Split
from lapilli.model.loading.checkpoint import checkpoint_bytes, load_checkpoint
from lapilli.model.loading.preprocess import Preprocessing
from lapilli.model.loading.strict import Module, load_strictly
from lapilli.model.neurons.copies import copied
from lapilli.quantize.finetuning import FineTuned, TunedEpoch, finetune
from lapilli.quantize.options import (
    QuantizeOptions,
    as_json,
    check_options,
    layout_of,
    steps_as_text,
)
from lapilli.quantize.recipe import parameter_digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run of fine-tuning, as its checkpoints remember it.

    Attributes:
        model: in float, from which every part of the run starts.
        options: of `quantize`, normalisation and names of classes among them.
        calibration: the images that calibrate.
    """

    model: Model
    options: QuantizeOptions
    calibration: Images

    @classmethod
    def of(cls, model: Model, options: QuantizeOptions, calibration: Images) -> Run:
        """Complete the options by what is known of the model's images.

        Raises:
            NormalisationError: nothing says how they were normalised.
            QuantizeError: options that make no sense.
        """
        check_options(options)
        text = options.get("encoding")
        moves = bool(text) and Encoding.of(str(text), calibration.pixels.shape[1:]).moves
        if moves or (not text and holds_images(layout_of(options))):
            calibration.require_pixels()
            known = model.normalisation()
            options["mean"], options["std"] = known.mean, known.std
            options["classes"] = known.classes or None  # else the images name them, in the end
        return cls(model=model, options=options, calibration=calibration)

    def tuned(
        self,
        training: Split,
        held_out: Split | None,
        options: Options,
        resume: Path | None,
        write: Callable[[bytes, TunedEpoch], None],
    ) -> FineTuned:
        """Train, from the model in float or from `resume`, and give each epoch's checkpoint.

        Raises:
            CheckpointError: see `resumed`.
            InputError, CaptureError, QuantizeError, RangeError: see `quantize.finetuning`.
        """
        resumed, done, steps = self.resumed(resume) if resume else (None, 0, {})
        if steps:
            self.options["weight_steps"] = steps
        made = finetune(
            self.model.module,
            training.images,
            training.labels,
            training=options,
            held_out=held_out,
            calibration=len(self.calibration.pixels),
            resumed=resumed,
            done=done,
            after=lambda module, epoch: write(self.saved(module, epoch), epoch),
            **self.options,
        )
        quantized = with_origin(made.quantized, self.model, self.calibration)
        return replace(made, quantized=quantized)

    def resumed(self, resume: Path) -> tuple[Module, int, Mapping[str, tuple[float, ...]]]:
        """Load what an earlier part has come to, its epochs, and the steps of weights it learned.

        Raises:
            CheckpointError: it is no file of `finetune`, or that of another run.
        """
        checkpoint = load_checkpoint(resume)
        if checkpoint.finetuning is None:
            raise CheckpointError(resume, "was not written by `lapilli finetune`")
        told, mine = dict(checkpoint.finetuning), dict(self._told())
        epochs = told.pop("epochs", None)
        told.pop(WEIGHT_STEPS, None)
        for name, value in mine.items():
            if told.get(name) != value:
                raise CheckpointError(
                    resume,
                    f"is of a run with other {name}: {_shown(told.get(name), value)}; go on as "
                    "it began, or begin anew without --resume",
                )
        if not isinstance(epochs, int):
            raise CheckpointError(resume, "does not say how many epochs were done")
        module = load_strictly(copied(self.model.module), checkpoint)
        return module, epochs, weight_steps_of(checkpoint)

    def saved(self, module: Module, epoch: TunedEpoch) -> bytes:
        """Return the checkpoint as a file, after an epoch."""
        told: dict[str, Json] = {**self._told(), "epochs": epoch.number}
        if epoch.weight_steps:
            told[WEIGHT_STEPS] = dict(steps_as_text(epoch.weight_steps))
        known = Preprocessing(
            mean=tuple(self.options.get("mean") or ()),
            std=tuple(self.options.get("std") or ()),
            classes=tuple(self.options.get("classes") or ()),
        )
        return checkpoint_bytes(module, self._config(), known, 0, told)

    def _told(self) -> Mapping[str, Json]:
        """What two parts of one run have in common."""
        return {
            "options": as_json({**self.options, "weight_steps": None}),
            "calibration": {
                "count": len(self.calibration.pixels),
                "sha256": self.calibration.facts()["sha256"],
            },
            "parameters in float": parameter_digest(self.model.module),
        }

    def _config(self) -> Config | None:
        told = self.model.made_from.get("config")
        if not isinstance(told, str):
            return None  # a class of the user's own
        fields = json.loads(told)
        return configuration(fields.pop("family"), fields)


def _shown(theirs: Json, mine: Json) -> str:
    """Where two values differ, by name where they have names."""
    if not isinstance(theirs, dict) or not isinstance(mine, dict):
        return f"{theirs}, not {mine}"
    names = sorted(n for n in theirs.keys() | mine.keys() if theirs.get(n) != mine.get(n))
    return ", ".join(f"{name} {theirs.get(name)}, not {mine.get(name)}" for name in names)
