"""Commands for what comes from other tools, and goes to other runtimes."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lapilli.deploy.cli.doctor import need
from lapilli.deploy.cli.files import AsJson, MemoryLimit, in_bytes
from lapilli.deploy.cli.frame import print_json, printable
from lapilli.deploy.cli.options import (
    DIGITS,
    BinBy,
    Crop,
    Frames,
    Resize,
    Sensor,
    SkipUnreadable,
    Source,
    how_read,
)
from lapilli.deploy.cli.outputs import STANDARD_OUTPUT, check_outputs, destination

if TYPE_CHECKING:
    from lapilli.ir.network import Network


def import_nir(
    file: Annotated[Path, typer.Argument(help="A .nir file, or a .net file of lava-dl.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .lapilli file to write.")],
    reading: Annotated[
        str | None,
        typer.Option(help="Whose file it is: euler, snntorch, norse, spikingjelly, sinabs."),
    ] = None,
    dt: Annotated[float | None, typer.Option(help="Seconds; a step.")] = None,
    steps: Annotated[int | None, typer.Option("--T", help="Steps of a sample.")] = None,
    reset: Annotated[
        str | None, typer.Option(help="Of its neurons, if the exporter drops it: zero, subtract.")
    ] = None,
    input_range: Annotated[
        str | None, typer.Option(help="LO,HI of the integers that it is given.")
    ] = None,
    input_exponent: Annotated[
        int, typer.Option(help="A real input is an integer times 2^-exponent.")
    ] = 0,
    memory_limit: MemoryLimit = None,
    as_json: AsJson = False,
) -> None:
    """Read a NIR or .net file whose meaning is certain, or is stated here; refuse every other."""
    need("h5py")
    from lapilli.deploy.cli.progress import Bars
    from lapilli.export.nir.read.dynamics import Reading
    from lapilli.export.nir.read.importer import network_from_nir
    from lapilli.export.nir.read.metadata import Stated
    from lapilli.ir import ops

    names = [r.value for r in Reading]
    if reading is not None and reading not in names:
        raise typer.BadParameter(f"{reading!r} is none of {', '.join(names)}")
    if reset is not None and reset not in [r.value for r in ops.Reset]:
        raise typer.BadParameter(f"{reset!r} is none of {', '.join(r.value for r in ops.Reset)}")
    check_outputs([output], [file])
    if file.suffix == ".net":
        from lapilli.export.net.importer import network_from_net

        if (reading, dt, reset, input_range, input_exponent) != (None, None, None, None, 0):
            raise typer.BadParameter("a .net file says all of this itself; only --T can be given")
        with Bars(quiet=as_json) as bars:
            bars.stage("reading", None)
            network = network_from_net(file, steps, in_bytes(memory_limit), bars.advance)
        _finish(network, output, as_json=as_json)
        return
    stated = Stated(
        reading=Reading(reading) if reading else None,
        dt=dt,
        T=steps,
        reset=ops.Reset(reset) if reset else None,
        input_range=_range(input_range),
        input_exponent=input_exponent,
        memory_limit=in_bytes(memory_limit),
    )
    with Bars(quiet=as_json) as bars:
        bars.stage("reading", None)
        network = network_from_nir(file, stated, bars.staged("nodes"), bars.advance)
    _finish(network, output, as_json=as_json)


def _finish(network: Network, output: Path, *, as_json: bool) -> None:
    from lapilli.deploy.cli import network_tables, tables
    from lapilli.export.native import save_network

    with destination(output) as path:
        save_network(network, path)
    facts = network_tables.network_facts(network)
    to_stream = output == STANDARD_OUTPUT
    if as_json:
        print_json({**facts, "file": str(output)}, err=to_stream)
    else:
        tables.print_facts(str(output), facts, err=to_stream)


def golden(
    network: Annotated[Path, typer.Argument(help="A .lapilli file.")],
    images: Annotated[list[Path] | None, typer.Argument(help="Picture files.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder.")] = Path("golden"),
    source: Source = DIGITS,
    resize: Resize = None,
    crop: Crop = None,
    frames: Frames = None,
    bin_by: BinBy = None,
    sensor: Sensor = None,
    skip_unreadable: SkipUnreadable = False,
    count: Annotated[int, typer.Option(min=1, help="How many of those.")] = 4,
    as_json: AsJson = False,
) -> None:
    """Write input, every spike and the logits of some images, and a script that compares."""
    from lapilli.deploy.cli import images as image_files
    from lapilli.deploy.comparison.golden import NAME, SCRIPT, write_golden
    from lapilli.export.atomic import make_folder
    from lapilli.export.native import load_network

    if output.exists():
        make_folder(output)  # refuses a file in its place
        check_outputs([output / NAME, output / SCRIPT], [network, *(images or [Path(source)])])
    loaded = load_network(network)
    how = how_read(resize, crop, frames, bin_by, sensor, skip_unreadable=skip_unreadable)
    if images:
        pixels = image_files.pictures(images, loaded, how)
    else:
        chosen = image_files.images_for(loaded, source, how, count)
        pixels = chosen.pixels
    make_folder(output)
    made = write_golden(loaded, pixels, output)
    silent = [name for name, rate in made.rates.items() if rate == 0]
    saturated = [name for name, rate in made.rates.items() if rate == 1]
    facts = {
        "files": [str(f) for f in made.files],
        "digest": loaded.graph.digest,
        "images": len(pixels),
        "values": made.values,
        "rates": dict(made.rates),
        "silent": silent,
        "saturated": saturated,
    }
    if as_json:
        print_json(facts)
    else:
        vectors, script = (shlex.quote(printable(str(file))) for file in made.files)
        typer.echo(f"wrote {vectors}: {made.values:,} values of {len(pixels)} images")
        typer.echo(f"compare: python {script} {vectors} YOURS.npz")
    for names, when in ((silent, "never"), (saturated, "always")):
        if names:
            told = printable(", ".join(names))
            typer.echo(f"{when} fire on these images, and show nothing: {told}", err=True)
    if silent or saturated:
        raise typer.Exit(1)


def _range(given: str | None) -> tuple[int, int] | None:
    if given is None:
        return None
    try:
        low, high = (int(part) for part in given.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"{given!r} is no LO,HI") from error
    return low, high
