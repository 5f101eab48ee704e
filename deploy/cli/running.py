"""The command `run`: classify pictures on a simulator."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lapilli.deploy.cli.files import AsJson, NetworkFile
from lapilli.deploy.cli.frame import print_json, printable
from lapilli.deploy.cli.options import (
    SIMULATORS,
    BinBy,
    Count,
    Crop,
    DataSource,
    Frames,
    Resize,
    RunConfig,
    Sensor,
    SkipUnreadable,
    how_read,
)
from lapilli.deploy.comparison.targets import target
from lapilli.ir.errors import InputError
from lapilli.simulators.lava.shared.run_config import SIMULATED

if TYPE_CHECKING:
    from lapilli.deploy.cli.image_set import Images
    from lapilli.deploy.data.reading import How
    from lapilli.ir.network import Network
    from lapilli.simulators.protocol import Executable

_AT_ONCE = 256  # images whose every spike is held


def run(
    network: NetworkFile,
    images: Annotated[list[Path] | None, typer.Argument(help="Picture files.")] = None,
    source: DataSource = None,
    count: Count = None,
    simulator: Annotated[str, typer.Option("--simulator", "--on", help=SIMULATORS)] = "reference",
    resize: Resize = None,
    crop: Crop = None,
    frames: Frames = None,
    bin_by: BinBy = None,
    sensor: Sensor = None,
    skip_unreadable: SkipUnreadable = False,
    run_config: RunConfig = SIMULATED,
    as_json: AsJson = False,
) -> None:
    """Classify pictures, or the images of --source, on a simulator; needs no PyTorch."""
    import numpy as np

    from lapilli.deploy.cli.answers import answer_facts, answer_text
    from lapilli.deploy.cli.progress import Bars
    from lapilli.export.native import load_network

    check_for_lava(run_config, [simulator])
    if bool(images) == bool(source):
        raise InputError("name picture files, or data with --source; one of them")
    loaded = load_network(network)
    how = how_read(resize, crop, frames, bin_by, sensor, skip_unreadable=skip_unreadable)
    given = _given(images, source, loaded, how, count)
    with Bars(quiet=as_json) as bars:
        executable = target(simulator, bars.lava, run_config).compile(loaded.graph)
        tell_size(executable, quiet=as_json)
        rows: dict[str, list[Any]] = {a.name: [] for a in loaded.every_answer}
        named: list[Any] = []  # classes, of each image or of each of its places
        for start in range(0, len(given.pixels), _AT_ONCE):
            recording = executable.run(loaded.encode(given.pixels[start : start + _AT_ONCE]))
            for answer in loaded.every_answer:
                value = loaded.read(recording)[answer.name]
                rows[answer.name] += list(np.moveaxis(value, 1, 0) if answer.steps else value)
            labels = loaded.labels(recording)
            named += (
                [None] * (len(recording.values[loaded.graph.outputs[0]][0]))
                if labels is None
                else list(labels)
            )
        tell_paths(executable, quiet=as_json)
    told = [
        answer_facts(loaded, label, {name: values[i] for name, values in rows.items()})
        for i, label in enumerate(named)
    ]
    if as_json:
        print_json(
            [
                {"image": i, **facts, "simulator": simulator}
                for i, facts in zip(given.names, told, strict=True)
            ]
        )
        return
    for image, facts in zip(given.names, told, strict=True):
        typer.echo(printable(f"{image}: {answer_text(facts)}"))


def _given(
    paths: list[Path] | None, source: str | None, network: Network, how: How, count: int | None
) -> Images:
    """Read picture files, or data."""
    from lapilli.deploy.cli import images as image_files
    from lapilli.deploy.cli.image_set import Images

    if source is None:
        names = tuple(map(str, paths or ()))
        pixels = image_files.pictures(paths or (), network, how)
        return Images(pixels, names=names)
    given = image_files.images_for(network, source, how, count)
    names = given.names or tuple(f"image {i} of {source}" for i in range(len(given.pixels)))
    return replace(given, names=names)


def tell_size(executable: Executable, *, quiet: bool) -> None:
    """What a stock network takes, before it is built in Lava."""
    from lapilli.simulators.protocol import ReportsSize

    if isinstance(executable, ReportsSize) and not quiet:
        typer.echo(f"stock Lava: {executable.size}")


def tell_paths(executable: Executable, *, quiet: bool) -> None:
    """What a simulator that has a choice computed each node by, after its run."""
    from lapilli.simulators.protocol import ReportsPaths

    if isinstance(executable, ReportsPaths) and not quiet:
        typer.echo(executable.report)


def check_for_lava(run_config: str, simulators: list[str]) -> None:
    """Refuse a run configuration that no simulator would take."""
    if run_config != SIMULATED and not any(name.startswith("lava") for name in simulators):
        raise InputError("--run-config is Lava's; name it: --simulator lava, or lava-stock")
