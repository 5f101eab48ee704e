"""The command `quantize`: a checkpoint, or somebody's own model, to an integer graph."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lapilli.deploy.cli.doctor import need
from lapilli.deploy.cli.files import AsJson
from lapilli.deploy.cli.frame import print_json, printable
from lapilli.deploy.cli.models import ModelOptions, calibration_of, check_digits, open_model
from lapilli.deploy.cli.options import (
    Arguments,
    Attributes,
    BinBy,
    ClassNames,
    Config,
    Count,
    Crop,
    Frames,
    Key,
    Neurons,
    NoNormalisation,
    Numbers,
    Parameters,
    Preset,
    PythonPath,
    Resize,
    Sensor,
    SkipUnreadable,
    Unused,
    bits_of_layers,
    class_names_of,
    how_read,
    layouts_of,
    numbers,
    over_time_of,
    results_of,
)
from lapilli.deploy.cli.outputs import STANDARD_OUTPUT, check_outputs, destination
from lapilli.ir.targets.table import NAMES

if TYPE_CHECKING:
    from lapilli.deploy.cli.flow import Model
    from lapilli.deploy.cli.image_set import Images
    from lapilli.ir.recipe import Note
    from lapilli.quantize.pipeline import Quantized

_ModelSource = Annotated[
    str,
    typer.Argument(
        help="A checkpoint (.safetensors, .pt, .pth), FILE.py:CLASS_OR_FACTORY, "
        "PACKAGE.MODULE:CLASS_OR_FACTORY, or a .nir file of floats (docs/nir-import.md)."
    ),
]
_Calibration = Annotated[
    str | None,
    typer.Option(
        help="'digits', a folder or file of images, or FILE.py:NAME (runs its code); "
        "docs/data.md. Without it the digits, but for a class of your own it must be given."
    ),
]
_EXAMINED = 64  # images of the calibration on which float and integers are compared


def quantize(
    model: _ModelSource,
    output: Annotated[Path, typer.Option("--output", "-o", help="The .lapilli file to write.")],
    calibration: _Calibration = None,
    calibration_count: Count = None,
    resize: Resize = None,
    crop: Crop = None,
    frames: Frames = None,
    bin_by: BinBy = None,
    sensor: Sensor = None,
    skip_unreadable: SkipUnreadable = False,
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
        list[str] | None,
        typer.Option(
            help="Axes of its input, B samples, T time: BCHW (the default), TBNC, BTF, ...; of "
            "several inputs NAME=... each."
        ),
    ] = None,
    encoding: Annotated[
        str | None,
        typer.Option(
            help="Of images, by the host: rate:T=4,seed=0; phase:T=8; ttfs:T=4; "
            "population:T=4,m=5; rows; columns; pixels."
        ),
    ] = None,
    ids: Annotated[
        int | None,
        typer.Option(min=2, help="The input are token ids below this; the layout is theirs: BN."),
    ] = None,
    counts: Annotated[bool, typer.Option(help="The images are numbers of events.")] = False,
    result: Annotated[
        list[str] | None,
        typer.Option(help="Which result is the answer: an index or a key; repeat; * for all."),
    ] = None,
    over_time: Annotated[
        list[str] | None,
        typer.Option(
            help="Of steps that are returned: mean, sum, last, steps, last:K; or RESULT=... of one."
        ),
    ] = None,
    per_sample: Annotated[
        bool, typer.Option(help="Where state leaks between samples, take batches of one.")
    ] = False,
    weight_bits: Annotated[
        int, typer.Option("--weight-bits", "--bits", min=2, max=24, help="Bits of a weight.")
    ] = 8,
    layer_bits: Annotated[
        list[str] | None,
        typer.Option(help="Bits of one layer, or of all inside of a module: PATH=BITS; repeat."),
    ] = None,
    most_kib: Annotated[
        float | None,
        typer.Option(min=0, help="Share out 2 to 8 bits so that all weights take so many KiB."),
    ] = None,
    most_drop: Annotated[
        float | None,
        typer.Option(min=0, help="So that at most so many percent of answers are not float's."),
    ] = None,
    weight_scale: Annotated[
        str,
        typer.Option(
            help="mse: the nearest weights; max: nothing is cut off; spikes: the nearest network; "
            "learned: as `finetune` has written them."
        ),
    ] = "mse",
    scales: Annotated[
        str, typer.Option(help="tensor, channel, or group:N: what has a scale of its own.")
    ] = "tensor",
    rounding: Annotated[
        str,
        typer.Option(
            help="nearest: each weight; reconstruction: all of a layer, for the nearest currents."
        ),
    ] = "nearest",
    thresholds: Annotated[
        str, typer.Option(help="trained; rates: moved, so that layers fire as often as in float.")
    ] = "trained",
    input_bits: Annotated[int, typer.Option(min=2, max=24, help="Bits of a pixel.")] = 8,
    target: Annotated[
        str, typer.Option(help=f"What must hold every number: {', '.join(NAMES)}.")
    ] = NAMES[0],
    report_file: Annotated[
        Path | None,
        typer.Option(
            "--report", help="Write what happened to each layer as well: .html, .md or .json."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Turn a checkpoint, or a model of your own, into an integer graph."""
    need("torch")
    from lapilli.deploy.cli import flow, tables
    from lapilli.deploy.cli import images as image_files
    from lapilli.deploy.cli.bits import shared_bits
    from lapilli.model.capture.signature import check_layout, holds_images
    from lapilli.model.neurons.described import parse_neurons
    from lapilli.quantize.options import QuantizeOptions, check_options

    images, names = calibration_of(model, calibration), class_names_of(class_names)
    options = QuantizeOptions(
        weight_bits=weight_bits,
        layer_bits=bits_of_layers(layer_bits or []),
        weight_scale=weight_scale,
        scales=scales,
        rounding=rounding,
        thresholds=thresholds,
        input_bits=input_bits,
        target=target,
        classes=names or None,
        layout=(layouts := layouts_of(layout or [])),
        encoding=encoding,
        ids=ids,
        counts=counts,
        result=results_of(result or []),
        over_time=over_time_of(over_time or []),
        neurons=parse_neurons(neuron) if neuron else None,
        per_sample=per_sample,
    )
    check_options(options)  # before images are read, which can take long
    outputs = [output, *([report_file] if report_file else [])]
    to_stream = check_outputs(outputs, [Path(model), *([checkpoint] if checkpoint else [])])
    if report_file:
        from lapilli.deploy.report.pages import writer

        writer(report_file)  # refuses a suffix now
    how = how_read(resize, crop, frames, bin_by, sensor, skip_unreadable=skip_unreadable)
    several = isinstance(layouts, dict)
    for each in layouts.values() if isinstance(layouts, dict) else [layouts]:
        check_layout(each)
        how = replace(how, numbers=several or not (holds_images(each) or encoding))
    how = replace(how, names=tuple(layouts) if several else (), classes=names)
    training = image_files.training_images(images, how, calibration_count)
    asked = ModelOptions(
        checkpoint=checkpoint,
        key=key,
        config=config,
        preset=preset,
        mean=numbers(mean),
        std=numbers(std),
        no_normalisation=no_normalisation or counts,
        arg=arg,
        attributes=attributes,
        pythonpath=pythonpath,
        unused=unused,
        classes=names,
    )
    channels = 0 if how.numbers else training.pixels.shape[-3]
    opened = open_model(model, asked, channels)
    if calibration is None:
        check_digits(opened)
    if opened.preprocessing is not None:
        training = training.numbered_as(opened.preprocessing.classes)
    if most_kib is not None or most_drop is not None:
        options["layer_bits"] = shared_bits(
            opened, training, most_kib=most_kib, most_drop=most_drop, quiet=as_json, **options
        )
    told: list[Note] = []  # what is said at once is not said again at the end

    def warn(note: Note) -> None:
        told.append(note)
        tables.print_warnings([] if as_json else [note], err=True)

    quantized = flow.quantize_model(opened, training, examined=_EXAMINED, warn=warn, **options)
    _write(quantized, opened, training, output, to_stream=to_stream, as_json=as_json)
    left = [note for note in quantized.notes if note not in told]
    tables.print_warnings([] if as_json else left, err=True)
    if report_file:
        from lapilli.deploy.cli.quantization import write_report

        write_report(quantized, opened, training, report_file, quiet=as_json)


def _tell_names(quantized: Quantized, training: Images) -> None:
    """Say what is odd about the images' names of classes: how many they are, or their order."""
    from lapilli.deploy.cli.class_order import order_hint

    network = quantized.network
    named, count = len(training.classes), network.class_count
    said = network.recipe is not None and "classes" in network.recipe.options
    if count and named not in (0, count) and not said:
        typer.echo(
            f"{training.source}: names {named} classes, and the network tells {count} apart: the "
            "names are not kept; --class-names gives all of them",
            err=True,
        )
    seen, answers = list(quantized.health.images), quantized.health.float_answers
    if answers and training.labels is not None and training.classes == network.classes:
        hint = order_hint(training.labels[seen], answers, network.classes)
        if hint:
            typer.echo(printable(f"{training.source}: {hint}"), err=True)


def _write(
    quantized: Quantized,
    opened: Model,
    training: Images,
    output: Path,
    *,
    to_stream: bool,
    as_json: bool,
) -> None:
    """Write the file and print what is in it."""
    from lapilli.deploy.cli import network_tables, tables
    from lapilli.export.native import save_network

    training.require_labels(quantized.network)
    _tell_names(quantized, training)
    with destination(output) as path:
        save_network(quantized.network, path)
    facts = {
        **network_tables.network_facts(quantized.network),
        **opened.taken,
        **tables.health_facts(quantized.health, training.labels),
        "notes": [tables.note_facts(n) if as_json else str(n) for n in quantized.notes],
    }
    err = output == STANDARD_OUTPUT
    if as_json:
        print_json({**facts, "file": str(output)}, err=to_stream)
    else:
        shown = {k: v for k, v in facts.items() if k != "weights_zeroed"}  # a row for each synapse
        tables.print_facts(str(output), shown, err=err)
