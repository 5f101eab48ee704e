"""The command `report`: all that is known of a network, as one page to keep and to send."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lapilli.deploy.cli.doctor import need
from lapilli.deploy.cli.files import AsJson, NetworkFile
from lapilli.deploy.cli.frame import print_json, printable
from lapilli.deploy.cli.models import ModelOptions
from lapilli.deploy.cli.options import (
    SIMULATORS,
    Arguments,
    Attributes,
    BinBy,
    Config,
    Count,
    Crop,
    DataSource,
    Frames,
    Key,
    NoNormalisation,
    Numbers,
    Preset,
    PythonPath,
    Resize,
    Sensor,
    SkipUnreadable,
    Unused,
    how_read,
    numbers,
)
from lapilli.deploy.cli.validating import job_of
from lapilli.export.atomic import check_outputs
from lapilli.ir.errors import InputError

_BAD = ("differs", "vacuous")


def report(
    network: NetworkFile,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The .html file to write; .json beside it.")
    ],
    results: Annotated[
        list[Path] | None,
        typer.Option(help="A folder of validate; repeat for several simulators."),
    ] = None,
    comparison: Annotated[
        list[Path] | None, typer.Option(help="What compare --json printed; repeat for several.")
    ] = None,
    cost: Annotated[Path | None, typer.Option(help="What cost --json printed.")] = None,
    quantization: Annotated[
        Path | None, typer.Option(help="What quantize --report FILE.json wrote.")
    ] = None,
    chip: Annotated[
        list[str] | None,
        typer.Option(
            help="What it is put on: loihi1 (the default), loihi2, speck, xylo-audio3, ..., or a "
            "FILE.json of your own; repeat."
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a report that is there.")
    ] = False,
    data: DataSource = None,
    count: Count = None,
    no_labels: Annotated[
        bool, typer.Option("--no-labels", help="Count and compare spikes; no accuracy.")
    ] = False,
    simulator: Annotated[
        str | None,
        typer.Option("--simulator", "--on", help=f"{SIMULATORS} By default fast, if installed."),
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="The checkpoint it was made from: compare with PyTorch.")
    ] = None,
    module: Annotated[
        str | None, typer.Option(help="FILE.py:CLASS_OR_FACTORY that it was made from.")
    ] = None,
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
    arg: Arguments = None,
    attributes: Attributes = None,
    key: Key = None,
    unused: Unused = None,
    pythonpath: PythonPath = None,
    other_parameters: Annotated[
        bool, typer.Option("--other-parameters", help="Go on with a model of other parameters.")
    ] = False,
    batch: Annotated[int | None, typer.Option(min=1, help="Images at a time.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write one page of all that is known of a network; docs/network-report.md.

    With --data it runs validate first, into --results. Status 1 if a value differs or a layer
    shows nothing.
    """
    need("jinja2")
    from lapilli.deploy.cli import report_making as making

    twin = making.twin_of(output, overwrite=overwrite)
    files = [network, *(comparison or ()), *(f for f in (cost, quantization) if f is not None)]
    check_outputs([output, twin], files)
    if data is None and (checkpoint is not None or module is not None or count is not None):
        raise InputError("a model and --count are for a run: name images with --data")
    how = how_read(resize, crop, frames, bin_by, sensor, skip_unreadable=skip_unreadable)
    job = None
    if data is not None:
        need("pyarrow")
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
        )
        job = job_of(
            network,
            data,
            asked,
            module=module,
            how=how,
            count=count,
            labelled=not no_labels,
            other_parameters=other_parameters,
            simulator=simulator,
            batch=batch,
        )
    given = making.Given(
        network=network,
        results=results or [],
        comparisons=comparison or [],
        cost=cost,
        quantization=quantization,
        chips=chip or [],
        data=data or "",
    )
    made = making.made_of(given, job, quiet=as_json)
    making.write(made, output, twin)
    if as_json:
        print_json({"file": str(output), "json": str(twin), "verdict": made.verdict})
    else:
        typer.echo(printable(f"{output}, and its numbers in {twin}: {made.verdict}. {made.told}"))
    if made.verdict in _BAD:
        raise typer.Exit(1)
