"""The command `run`: classify pictures on a simulator."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lapilli.deploy.cli.files import AsJson, NetworkFile
from lapilli.deploy.cli.frame import print_json, printable
from lapilli.deploy.cli.options import SIMULATORS, Crop, Resize, RunConfig, how_read
from lapilli.deploy.comparison.targets import target
from lapilli.ir.errors import InputError
from lapilli.simulators.lava.shared.run_config import SIMULATED

if TYPE_CHECKING:
    from lapilli.simulators.protocol import Executable


def run(
    network: NetworkFile,
    images: Annotated[list[Path], typer.Argument(help="Picture files.")],
    simulator: Annotated[str, typer.Option("--simulator", "--on", help=SIMULATORS)] = "reference",
    resize: Resize = None,
    crop: Crop = None,
    run_config: RunConfig = SIMULATED,
    as_json: AsJson = False,
) -> None:
    """Classify pictures on a simulator; needs no PyTorch."""
    from lapilli.deploy.cli import images as image_files
    from lapilli.deploy.cli.progress import Bars
    from lapilli.export.native import load_network

    check_for_lava(run_config, [simulator])
    loaded = load_network(network)
    pixels = image_files.pictures(images, loaded, how_read(resize, crop).transform)
    with Bars(quiet=as_json) as bars:
        executable = target(simulator, bars.lava, run_config).compile(loaded.graph)
        tell_size(executable, quiet=as_json)
        recording = executable.run(loaded.encode(pixels))
    logits = recording.values[loaded.graph.outputs[0]][-1]
    answers = loaded.classify(logits)
    if as_json:
        print_json(
            [
                {"image": str(i), "answer": a, "logits": row, "simulator": simulator}
                for i, a, row in zip(images, answers, logits.tolist(), strict=True)
            ]
        )
        return
    for image, answer in zip(images, answers, strict=True):
        typer.echo(printable(f"{image}: {answer}"))


def tell_size(executable: Executable, *, quiet: bool) -> None:
    """What a stock network takes, before it is built in Lava."""
    from lapilli.simulators.protocol import ReportsSize

    if isinstance(executable, ReportsSize) and not quiet:
        typer.echo(f"stock Lava: {executable.size}")


def check_for_lava(run_config: str, simulators: list[str]) -> None:
    """Refuse a run configuration that no simulator would take."""
    if run_config != SIMULATED and not any(name.startswith("lava") for name in simulators):
        raise InputError("--run-config is Lava's; name it: --simulator lava, or lava-stock")
