"""`lapilli train`: a family's model, or one of the user's own, trained on data of any known format.

After each epoch the output is written whole, with the number of epochs that are done; a run that
was cut goes on from it.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lapilli.deploy.cli.doctor import need
from lapilli.deploy.cli.files import AsJson
from lapilli.deploy.cli.frame import print_json
from lapilli.deploy.cli.options import (
    Arguments,
    ClassNames,
    Count,
    Crop,
    NoNormalisation,
    Numbers,
    PythonPath,
    Resize,
    Source,
    class_names_of,
    how_read,
    numbers,
)

if TYPE_CHECKING:
    from lapilli.model.fit import Epoch


def train(
    model: Annotated[
        str,
        typer.Argument(
            help="A family, such as spikformer or spike-driven; or FILE.py:CLASS_OR_FACTORY, "
            "or PACKAGE.MODULE:CLASS_OR_FACTORY (runs its code)."
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The .safetensors file, written each epoch.")
    ],
    data: Source,
    epochs: Annotated[int, typer.Option(min=1, help="Of the whole schedule.")],
    config: Annotated[
        str | None,
        typer.Option(help="Of a family: its configuration as JSON; the rest as published."),
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on from this file, which an earlier run has written.")
    ] = None,
    hold_out: Annotated[
        int, typer.Option(min=0, help="How many of the last images to measure on, not to train on.")
    ] = 0,
    count: Count = None,
    resize: Resize = None,
    crop: Crop = None,
    mean: Numbers = "",
    std: Numbers = "",
    no_normalisation: NoNormalisation = False,
    class_names: ClassNames = "",
    batch: Annotated[int, typer.Option(min=1, help="Images in a step.")] = 128,
    learning_rate: Annotated[float, typer.Option(min=0.0, help="AdamW's highest.")] = 4e-3,
    weight_decay: Annotated[float, typer.Option(min=0.0, help="AdamW's.")] = 0.02,
    shift: Annotated[int, typer.Option(min=0, help="Move images by up to so many pixels.")] = 0,
    flip: Annotated[bool, typer.Option("--flip", help="Mirror half of the images.")] = False,
    bfloat16: Annotated[
        bool,
        typer.Option("--bfloat16", help="Faster where the processor has such instructions."),
    ] = False,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of PyTorch; without it PyTorch decides.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of parameters, order and changes.")] = 0,
    arg: Arguments = None,
    pythonpath: PythonPath = None,
    as_json: AsJson = False,
) -> None:
    """Train a model in float, and write a checkpoint after each epoch."""
    need("torch")
    from lapilli.deploy.cli import images as image_files
    from lapilli.deploy.cli.training_start import Asked, halves, start
    from lapilli.export.atomic import check_outputs, write_atomic
    from lapilli.model import fit

    check_outputs([output])  # it may be what the run goes on from
    names = class_names_of(class_names)
    how = replace(how_read(resize, crop), classes=names)
    images = image_files.training_images(data, how, count)
    training, held_out = halves(images, hold_out)
    options = fit.Options(
        epochs=epochs,
        batch=batch,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        shift=shift,
        flip=flip,
        bfloat16=bfloat16,
        seed=seed,
    )
    fit.begin(seed, threads)
    asked = Asked(
        config=config,
        arguments=tuple(arg or ()),
        pythonpath=tuple(pythonpath or ()),
        mean=numbers(mean),
        std=numbers(std),
        no_normalisation=no_normalisation,
        names=names,
        folders=images.classes,
    )
    made = start(model, training, resume, asked)
    training, held_out = halves(images.numbered_as(made.preprocessing.classes), hold_out)
    told: list[Epoch] = []
    for epoch in fit.fit(
        made.module,
        training,
        made.preprocessing.normalise,
        options,
        held_out=held_out,
        done=made.epochs,
    ):
        write_atomic(output, made.saved(epoch.number))
        told.append(epoch)
        if not as_json:
            typer.echo(epoch_line(epoch, epochs, len(training.images), hold_out))
    if as_json:
        print_json({"output": str(output), "epochs": [asdict(epoch) for epoch in told]})
    elif not told:
        typer.echo(f"{resume}: {made.epochs} epochs are done; more --epochs would go on")


def epoch_line(epoch: Epoch, epochs: int, images: int, held_out: int) -> str:
    """Tell what an epoch gave."""
    told = f"epoch {epoch.number} of {epochs}: loss {epoch.loss:.4f}"
    if epoch.right is not None:
        share = 100 * epoch.right / held_out
        told += f", {epoch.right} of {held_out} held out are right ({share:.2f} %)"
    return f"{told}, {images / epoch.cpu_seconds:.0f} images a CPU-second"
