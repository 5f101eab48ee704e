"""The command `quantize`: a checkpoint, or somebody's own model, to an integer graph."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lapilli.deploy.cli.doctor import need
from lapilli.deploy.cli.files import DIGITS, AsJson
from lapilli.deploy.cli.frame import print_json
from lapilli.deploy.cli.options import (
    Arguments,
    Config,
    NoNormalisation,
    Numbers,
    Parameters,
    Preset,
    Source,
    Unused,
    index_or_key,
    numbers,
)
from lapilli.deploy.cli.outputs import STANDARD_OUTPUT, check_outputs, destination

if TYPE_CHECKING:
    from lapilli.deploy.cli.flow import Model

_EXAMINED = 64  # images of the calibration on which float and integers are compared


def quantize(
    model: Annotated[
        str,
        typer.Argument(
            help="A checkpoint (.safetensors, .pt, .pth), or FILE.py:CLASS_OR_FACTORY, "
            "or PACKAGE.MODULE:CLASS_OR_FACTORY."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .lapilli file to write.")],
    calibration: Source = DIGITS,
    config: Config = None,
    preset: Preset = None,
    mean: Numbers = "",
    std: Numbers = "",
    no_normalisation: NoNormalisation = False,
    arg: Arguments = None,
    checkpoint: Parameters = None,
    unused: Unused = None,
    layout: Annotated[str, typer.Option(help="Of its images: BCHW, BTCHW or TBCHW.")] = "BCHW",
    counts: Annotated[bool, typer.Option(help="The images are numbers of events.")] = False,
    result: Annotated[
        str | None, typer.Option(help="Which result holds the logits: an index or a key.")
    ] = None,
    per_sample: Annotated[
        bool, typer.Option(help="Where state leaks between samples, take batches of one.")
    ] = False,
    bits: Annotated[int, typer.Option(min=2, max=8, help="Bits of a weight.")] = 8,
    input_bits: Annotated[int, typer.Option(min=2, max=16, help="Bits of a pixel.")] = 8,
    as_json: AsJson = False,
) -> None:
    """Turn a checkpoint, or a model of your own, into an integer graph."""
    need("torch")
    from lapilli.deploy.cli import flow, report
    from lapilli.deploy.cli import images as image_files
    from lapilli.export.native import save_network

    inputs = [Path(model), *([checkpoint] if checkpoint else [])]
    to_stream = check_outputs([output], inputs)
    training = image_files.training_images(calibration)
    opened = open_model(
        model,
        channels=training.pixels.shape[-3],
        config=config,
        preset=preset,
        mean=numbers(mean),
        std=numbers(std),
        no_normalisation=no_normalisation,
        arg=arg,
        checkpoint=checkpoint,
        unused=unused,
    )
    quantized = flow.quantize_model(
        opened,
        training,
        examined=_EXAMINED,
        weight_bits=bits,
        input_bits=input_bits,
        layout=layout,
        counts=counts,
        output=index_or_key(result),
        per_sample=per_sample,
    )
    training.require_classes(len(quantized.network.classes))
    with destination(output) as path:
        save_network(quantized.network, path)
    facts = {
        **report.network_facts(quantized.network),
        **report.health_facts(quantized.health, training.labels),
        "notes": [report.note_facts(n) if as_json else str(n) for n in quantized.notes],
    }
    err = output == STANDARD_OUTPUT
    if as_json:
        print_json({**facts, "file": str(output)}, err=to_stream)
    else:
        shown = {k: v for k, v in facts.items() if k != "weights_zeroed"}  # a row for each synapse
        report.print_facts(str(output), shown, err=err)
        report.print_warnings(quantized.notes, err=True)


def open_model(
    model: str,
    *,
    channels: int,
    config: str | None,
    preset: str | None,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    no_normalisation: bool,
    arg: list[str] | None,
    checkpoint: Path | None,
    unused: list[str] | None,
) -> Model:
    """Build the model that the command line names, a checkpoint of a family or somebody's class.

    Raises:
        CheckpointError, ModuleFileError: it cannot be built; says why.
    """
    from lapilli.deploy.cli import flow, modules

    if no_normalisation:
        if mean or std:
            raise typer.BadParameter("give --mean and --std, or --no-normalisation, not both")
        mean, std = (0.0,) * channels, (1.0,) * channels
    if modules.is_source(model):
        own = modules.OwnModel(
            source=model,
            arguments=modules.arguments_from(arg or ()),
            checkpoint=checkpoint,
            unused=tuple(unused or ()),
            mean=mean,
            std=std,
        )
        return modules.own_model(own)
    overrides = flow.Overrides(config=config, preset=preset, mean=mean, std=std)
    return flow.checkpoint_model(flow.open_checkpoint(Path(model), overrides))
