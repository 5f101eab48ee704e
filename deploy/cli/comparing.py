"""The command `compare`: every neuron at every step, PyTorch against simulators."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lapilli.deploy.cli.doctor import need
from lapilli.deploy.cli.files import AsJson, NetworkFile
from lapilli.deploy.cli.frame import print_json
from lapilli.deploy.cli.models import ModelOptions, open_again
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
from lapilli.deploy.cli.running import check_for_lava, tell_paths, tell_size
from lapilli.deploy.comparison.targets import target
from lapilli.ir.errors import InputError
from lapilli.simulators.lava.shared.run_config import SIMULATED

if TYPE_CHECKING:
    from lapilli.deploy.cli.flow import Model
    from lapilli.deploy.cli.image_set import Images
    from lapilli.deploy.comparison.compare import Comparison, Preprocessed
    from lapilli.ir.network import Network
    from lapilli.simulators.protocol import Executable


def compare(
    network: NetworkFile,
    checkpoint: Annotated[
        Path | None, typer.Option(help="The checkpoint it was made from: compare with PyTorch.")
    ] = None,
    module: Annotated[
        str | None, typer.Option(help="FILE.py:CLASS_OR_FACTORY that it was made from.")
    ] = None,
    simulator: Annotated[
        list[str] | None,
        typer.Option("--simulator", "--on", help=f"{SIMULATORS} Repeat for several."),
    ] = None,
    images: Source = DIGITS,
    resize: Resize = None,
    crop: Crop = None,
    frames: Frames = None,
    bin_by: BinBy = None,
    sensor: Sensor = None,
    skip_unreadable: SkipUnreadable = False,
    count: Count = None,
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
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail where quantizing warned, however exact.")
    ] = False,
    batch: Annotated[
        int | None,
        typer.Option(
            min=1, help="Images at a time; by default what fits 3 GiB and the free memory."
        ),
    ] = None,
    run_config: RunConfig = SIMULATED,
    as_json: AsJson = False,
) -> None:
    """Compare every neuron at every step; status 1 if a single one differs.

    With --checkpoint, or --module for a class of your own, the other side is PyTorch: the file
    remembers how it was quantized. Without, it is the reference simulator.
    """
    from lapilli.deploy.cli.images import images_for
    from lapilli.export.native import load_network

    names = _chosen(simulator, with_model=checkpoint is not None or module is not None)
    check_for_lava(run_config, names)
    if module is None and (arg or unused):
        raise InputError("--arg and --unused are for a class of your own: --module FILE.py:CLASS")
    loaded = load_network(network)
    how = how_read(resize, crop, frames, bin_by, sensor, skip_unreadable=skip_unreadable)
    test = images_for(loaded, images, how, count)
    model = None
    if checkpoint is not None or module is not None:
        need("torch")
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
        model = _opened(checkpoint, module, asked, loaded)
    expected, preprocessing = _expected(loaded, model, other_parameters=other_parameters)
    sides = _Sides(loaded, expected, "pytorch" if model else "reference", test, preprocessing)
    done = _compared(sides, names, run_config, batch, quiet=as_json)
    _tell(sides, done, _in_float(model, test, loaded), as_json=as_json)
    if not all(c.exact for c in done) or (strict and done[0].warnings):
        raise typer.Exit(1)


@dataclass(frozen=True, slots=True)
class _Sides:
    """What every simulator is compared with, under which name, and on what."""

    network: Network
    expected: Executable
    name: str
    test: Images
    preprocessing: Preprocessed | None


def _compared(
    sides: _Sides, simulators: list[str], run_config: str, batch: int | None, *, quiet: bool
) -> list[Comparison]:
    """Run one simulator after the other, each with a bar of its progress."""
    from lapilli.deploy.cli.progress import Bars
    from lapilli.deploy.comparison.compare import compare as compare_runs

    done = []
    with Bars(quiet=quiet) as bars:
        for name in simulators:
            bars.stage(name, len(sides.test.pixels))
            executable = target(name, bars.lava, run_config).compile(sides.network.graph)
            tell_size(executable, quiet=quiet)
            done.append(
                compare_runs(
                    sides.network,
                    sides.expected,
                    executable,
                    sides.test.pixels,
                    names=(sides.name, name),
                    batch=batch,
                    progress=bars.advance,
                    preprocessing=sides.preprocessing,
                )
            )
            tell_paths(executable, quiet=quiet)
    return done


def _tell(
    sides: _Sides, done: list[Comparison], in_float: int | Fraction | None, *, as_json: bool
) -> None:
    """Print what came out, and whether the file alone says how images are prepared."""
    from lapilli.deploy.cli import comparison_tables, tables

    classes = sides.network.class_count
    accuracy = comparison_tables.accuracy_facts(done[0], sides.test.labels, in_float, classes)
    if as_json:
        told = [comparison_tables.comparison_facts(c) for c in done]
        print_json({"network": sides.network.digest, "comparisons": told, **accuracy})
        return
    comparison_tables.print_comparisons(done)
    comparison_tables.print_rates(done[0])
    comparison_tables.print_accuracy(accuracy)
    tables.print_warnings(done[0].warnings)
    if sides.name == "pytorch" and sides.preprocessing is None:
        from lapilli.deploy.cli.flow import takes_numbers

        # Nothing normalises numbers: neither side knows more of them than the file.
        remedy = (
            "" if takes_numbers(sides.network)
            else "; give those of training: --mean and --std, or --no-normalisation"
        )  # fmt: skip
        typer.echo(f"preprocessing not independently checked: only the file says how{remedy}")


def _chosen(simulator: list[str] | None, *, with_model: bool) -> list[str]:
    """The simulators to compare; the reference cannot show anything about itself."""
    names = simulator or (["reference", "event-driven"] if with_model else ["event-driven"])
    if not with_model and "reference" in names:
        raise InputError(
            "without a model, the reference simulator is what is compared with, and it always "
            "equals itself: name another simulator, or give --checkpoint or --module"
        )
    return names


def _opened(
    checkpoint: Path | None, module: str | None, asked: ModelOptions, network: Network
) -> Model:
    """The model that the network was made from."""
    from lapilli.deploy.cli.modules import check_source

    source = str(checkpoint) if module is None else check_source(module)
    return open_again(source, asked, network)


def _expected(
    network: Network, model: Model | None, *, other_parameters: bool
) -> tuple[Executable, Preprocessed | None]:
    """What simulators are compared with, and what it knows of images on its own."""
    if model is None:
        return target("reference").compile(network.graph), None
    from lapilli.deploy.cli.sides import quantized_side

    return quantized_side(network, model, other_parameters=other_parameters)


def _in_float(model: Model | None, test: Images, network: Network) -> int | Fraction | None:
    """How many images, or what mean IoU, the author's own model has right, before any integer."""
    if model is None:
        return None
    from lapilli.deploy.cli.flow import float_right, normalised_as

    return float_right(normalised_as(model, network), test, network)
