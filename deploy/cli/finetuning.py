"""`lapilli finetune`: a trained model learns to answer in integers of few bits.

After each epoch the output is written whole, as by `train`; a run that was cut goes on from it.
"""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lapilli.deploy.cli.doctor import need
from lapilli.deploy.cli.files import AsJson
from lapilli.deploy.cli.frame import print_json
from lapilli.deploy.cli.models import ModelOptions, open_model
from lapilli.deploy.cli.options import (
    Arguments,
    Attributes,
    ClassNames,
    Config,
    Count,
    Crop,
    Key,
    Neurons,
    NoNormalisation,
    Numbers,
    Parameters,
    Preset,
    PythonPath,
    Resize,
    Source,
    Unused,
    bits_of_layers,
    class_names_of,
    how_read,
    index_or_key,
    numbers,
)
from lapilli.deploy.cli.training import epoch_line
from lapilli.ir.errors import InputError
from lapilli.ir.targets.table import NAMES

if TYPE_CHECKING:
    from lapilli.model.fit import Epoch
    from lapilli.quantize.options import QuantizeOptions


def finetune(
    model: Annotated[
        str,
        typer.Argument(
            help="In float: a checkpoint (.safetensors, .pt, .pth), or FILE.py:CLASS_OR_FACTORY, "
            "or PACKAGE.MODULE:CLASS_OR_FACTORY."
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The .safetensors file, written each epoch.")
    ],
    data: Source,
    epochs: Annotated[int, typer.Option(min=1, help="Of the whole schedule.")],
    network: Annotated[
        Path | None, typer.Option(help="The .lapilli file of its integers, written at the end.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on from this file, which an earlier run has written.")
    ] = None,
    hold_out: Annotated[
        int, typer.Option(min=0, help="How many of the last images to measure on, not to train on.")
    ] = 0,
    count: Count = None,
    calibration_count: Annotated[
        int | None, typer.Option(min=1, help="How many of the first images calibrate.")
    ] = None,
    resize: Resize = None,
    crop: Crop = None,
    config: Config = None,
    preset: Preset = None,
    mean: Numbers = "",
    std: Numbers = "",
    no_normalisation: NoNormalisation = False,
    class_names: ClassNames = "",
    arg: Arguments = None,
    attributes: Attributes = None,
    checkpoint: Parameters = None,
    key: Key = None,
    unused: Unused = None,
    pythonpath: PythonPath = None,
    neuron: Neurons = None,
    layout: Annotated[
        str, typer.Option(help="Axes of its input, B samples, T time: BCHW, TBNC, BTF, ...")
    ] = "BCHW",
    encoding: Annotated[
        str | None,
        typer.Option(help="Of images, by the host: rate:T=4,seed=0; rows; ... as in quantize."),
    ] = None,
    result: Annotated[
        str | None, typer.Option(help="Which result holds the logits: an index or a key.")
    ] = None,
    weight_bits: Annotated[
        int, typer.Option("--weight-bits", "--bits", min=2, max=8, help="Bits of a weight.")
    ] = 8,
    layer_bits: Annotated[
        list[str] | None,
        typer.Option(help="Bits of one layer, or of all inside of a module: PATH=BITS; repeat."),
    ] = None,
    weight_scale: Annotated[
        str,
        typer.Option(
            help="mse: the nearest weights; max: nothing is cut off; learned: by training, too."
        ),
    ] = "mse",
    scales: Annotated[
        str, typer.Option(help="tensor, channel, or group:N: what has a scale of its own.")
    ] = "tensor",
    input_bits: Annotated[int, typer.Option(min=2, max=16, help="Bits of a pixel.")] = 8,
    target: Annotated[
        str, typer.Option(help=f"What must hold every number: {', '.join(NAMES)}.")
    ] = NAMES[0],
    batch: Annotated[int, typer.Option(min=1, help="Images in a step.")] = 64,
    learning_rate: Annotated[float, typer.Option(min=0.0, help="AdamW's highest.")] = 2e-3,
    weight_decay: Annotated[float, typer.Option(min=0.0, help="AdamW's.")] = 0.02,
    shift: Annotated[int, typer.Option(min=0, help="Move images by up to so many pixels.")] = 0,
    flip: Annotated[bool, typer.Option("--flip", help="Mirror half of the images.")] = False,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of PyTorch; without it PyTorch decides.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the order and changes of images.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Train a model in the integers that it will become, and write a checkpoint each epoch."""
    need("torch")
    from lapilli.deploy.cli import images as image_files
    from lapilli.deploy.cli.finetuning_start import Run
    from lapilli.deploy.cli.training_start import halves
    from lapilli.export.atomic import check_outputs, write_atomic
    from lapilli.export.native import save_network
    from lapilli.model import fit
    from lapilli.model.capture.signature import check_layout, holds_images
    from lapilli.model.neurons.described import parse_neurons

    read = [Path(model), *([checkpoint] if checkpoint else [])]
    if output.suffix != ".safetensors":
        raise InputError(f"{output}: name it .safetensors, by which it is read again")
    check_outputs([output, *([network] if network else [])], read)
    check_layout(layout)
    names = class_names_of(class_names)
    how = replace(how_read(resize, crop), classes=names)
    how = replace(how, numbers=not (holds_images(layout) or encoding))
    images = image_files.training_images(data, how, count)
    if how.numbers:
        images = replace(images, pixels=images.pixels.astype("float32"))
    training, _ = halves(images, hold_out, numbers=how.numbers)  # before the model is made
    asked = ModelOptions(
        checkpoint=checkpoint,
        key=key,
        config=config,
        preset=preset,
        mean=numbers(mean),
        std=numbers(std),
        no_normalisation=no_normalisation,
        arg=arg,
        attributes=attributes,
        pythonpath=pythonpath,
        unused=unused,
        classes=names,
    )
    opened = open_model(model, asked, 0 if how.numbers else training.images.shape[1])
    if opened.preprocessing is not None:
        images = images.numbered_as(opened.preprocessing.classes)
    training, held_out = halves(images, hold_out, numbers=how.numbers)
    options: QuantizeOptions = {
        "weight_bits": weight_bits,
        "layer_bits": bits_of_layers(layer_bits or []),
        "weight_scale": weight_scale,
        "scales": scales,
        "input_bits": input_bits,
        "target": target,
        "result": index_or_key(result) if result else None,
        "neurons": parse_neurons(neuron) if neuron else None,
    }
    if names:
        options["classes"] = names
    if layout != "BCHW":
        options["layout"] = layout
    if encoding:
        options["encoding"] = encoding
    run = Run.of(
        opened,
        options,
        images.first(min(calibration_count or len(training.images), len(training.images))),
    )
    fit.begin(seed, threads)

    def write(data: bytes, epoch: Epoch) -> None:
        write_atomic(output, data)
        if not as_json:
            typer.echo(epoch_line(epoch, epochs, len(training.images), hold_out))

    training_options = fit.Options(
        epochs=epochs,
        batch=batch,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        shift=shift,
        flip=flip,
        seed=seed,
    )
    tuned = run.tuned(training, held_out, training_options, resume, write)
    if network:
        save_network(tuned.quantized.network, network)
    if as_json:
        kept = [field.name for field in fields(fit.Epoch)]  # steps of weights are in the file
        told = [{name: getattr(epoch, name) for name in kept} for epoch in tuned.epochs]
        print_json({"output": str(output), "network": network and str(network), "epochs": told})
    elif not tuned.epochs:
        typer.echo(f"{resume}: {epochs} epochs are done; more --epochs would go on")
