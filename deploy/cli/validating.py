"""The command `validate`: a whole test set, shard by shard, resumable."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lapilli.deploy.cli.doctor import need
from lapilli.deploy.cli.files import AsJson, NetworkFile
from lapilli.deploy.cli.frame import print_json
from lapilli.deploy.cli.models import ModelOptions
from lapilli.deploy.cli.options import (
    DIGITS,
    SIMULATORS,
    Arguments,
    Attributes,
    BinBy,
    Config,
    Count,
    Crop,
    Frames,
    Key,
    NoNormalisation,
    Numbers,
    Preset,
    PythonPath,
    Resize,
    RunConfig,
    Sensor,
    SkipUnreadable,
    Source,
    Unused,
    how_read,
    numbers,
)
from lapilli.deploy.cli.own_source import own_source
from lapilli.deploy.cli.running import check_for_lava
from lapilli.deploy.comparison.targets import usual
from lapilli.ir.errors import InputError
from lapilli.simulators.lava.shared.run_config import SIMULATED

if TYPE_CHECKING:
    from lapilli.deploy.cli.validation_job import Job
    from lapilli.deploy.data.reading import How

_SHARD = 256
_GOOD = ("exact", "not compared with PyTorch")


def validate(
    network: NetworkFile,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder of results; the same command resumes there.")
    ] = Path("validation"),
    data: Source = DIGITS,
    checkpoint: Annotated[
        Path | None, typer.Option(help="The checkpoint it was made from: compare with PyTorch.")
    ] = None,
    module: Annotated[
        str | None, typer.Option(help="FILE.py:CLASS_OR_FACTORY that it was made from.")
    ] = None,
    simulator: Annotated[
        str | None,
        typer.Option("--simulator", "--on", help=f"{SIMULATORS} By default fast, if installed."),
    ] = None,
    resize: Resize = None,
    crop: Crop = None,
    frames: Frames = None,
    bin_by: BinBy = None,
    sensor: Sensor = None,
    skip_unreadable: SkipUnreadable = False,
    no_labels: Annotated[
        bool, typer.Option("--no-labels", help="Count and compare spikes; no accuracy.")
    ] = False,
    count: Count = None,
    share: Annotated[str, typer.Option(help="Of the images, compared spike by spike: 0.1")] = "1",
    shard_size: Annotated[int, typer.Option(min=1, help="Images of a shard.")] = _SHARD,
    shard: Annotated[str, typer.Option(help="K/N: only the shards of machine K of N.")] = "1/1",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes here to run shards in, by Dask.")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="HOST:PORT of Dask's scheduler, whose workers run shards.")
    ] = None,
    stop: Annotated[bool, typer.Option("--stop", help="End at the first divergence.")] = False,
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
    batch: Annotated[
        int | None,
        typer.Option(min=1, help="Images at a time; by default half of what compare takes."),
    ] = None,
    run_config: RunConfig = SIMULATED,
    as_json: AsJson = False,
) -> None:
    """Validate a network on a whole test set; killed at any point, it resumes.

    Status 1 if a value differs, a layer shows nothing, or shards are missing at the end.
    """
    need("pyarrow")
    if workers is not None and scheduler is not None:
        raise InputError("give --workers for processes here, or --scheduler for others, not both")
    if workers is not None or scheduler is not None:
        need("distributed")
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
        how=how_read(resize, crop, frames, bin_by, sensor, skip_unreadable=skip_unreadable),
        count=count,
        labelled=not no_labels,
        other_parameters=other_parameters,
        simulator=simulator,
        run_config=run_config,
        shard_size=shard_size,
        share=share,
        batch=batch,
    )
    from lapilli.deploy.cli.validation_run import Where, validated

    where = Where(part=shard, workers=workers, scheduler=scheduler)
    facts = validated(job, out, where, stop=stop, quiet=as_json)
    if as_json:
        print_json(facts)
    else:
        from lapilli.deploy.cli.validation_report import print_validation

        print_validation(out, facts)
    if facts["verdict"] not in _GOOD:
        raise typer.Exit(1)


def job_of(
    network: Path,
    data: str,
    asked: ModelOptions,
    *,
    module: str | None,
    how: How,
    count: int | None,
    labelled: bool,
    other_parameters: bool,
    simulator: str | None,
    batch: int | None,
    run_config: str = SIMULATED,
    shard_size: int = _SHARD,
    share: str = "1",
) -> Job:
    """Return the validation that a command line asks for, with paths as any process finds them.

    Raises:
        InputError: what it says does not go together.
        SimulatorUnavailableError: a package is missing.
    """
    from lapilli.deploy.cli.validation_job import Job

    if module is None and (asked.arg or asked.unused):
        raise InputError("--arg and --unused are for a class of your own: --module FILE.py:CLASS")
    chosen = simulator or usual()
    check_for_lava(run_config, [chosen])
    folders = asked.pythonpath
    return Job(
        network=network.absolute(),
        data=data if data == DIGITS else _absolute(data),
        how=how,
        count=count,
        labelled=labelled,
        model=_model(asked.checkpoint, module),
        asked=replace(
            asked,
            checkpoint=None if asked.checkpoint is None else asked.checkpoint.absolute(),
            pythonpath=None if folders is None else [path.absolute() for path in folders],
        ),
        other_parameters=other_parameters,
        simulator=_absolute(chosen) if ":" in chosen else chosen,
        run_config=run_config,
        shard_size=shard_size,
        share=_fraction(share),
        batch=batch,
    )


def _model(checkpoint: Path | None, module: str | None) -> str | None:
    """Name the model for every process: a checkpoint, or code."""
    if checkpoint is None and module is None:
        return None
    need("torch")
    if module is None:
        return str(Path(str(checkpoint)).absolute())
    from lapilli.deploy.cli.modules import check_source

    return _absolute(check_source(module))


def _absolute(source: str) -> str:
    """Name a path, or code in a file, as it is called from any folder."""
    code = own_source(source)
    if code is None:
        return str(Path(source).absolute())
    return f"{code.absolute}:{code.name}"


def _fraction(share: str) -> Fraction:
    try:
        return Fraction(share)
    except (ValueError, ZeroDivisionError) as error:
        raise InputError(f"--share {share}: say a number such as 0.1") from error
