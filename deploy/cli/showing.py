"""The command `show`: a graph as lines, or what one of its layers did as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lapilli.deploy.cli.files import AsJson, NetworkFile
from lapilli.deploy.cli.frame import print_json, printable
from lapilli.deploy.cli.options import (
    SIMULATORS,
    BinBy,
    Crop,
    DataSource,
    Frames,
    Resize,
    Sensor,
    SkipUnreadable,
    how_read,
)
from lapilli.deploy.cli.outputs import STANDARD_OUTPUT, check_outputs, destination
from lapilli.ir.errors import InputError, OutputError

_SUFFIXES = (".svg", ".png")


def show(
    network: NetworkFile,
    plot: Annotated[
        Path | None,
        typer.Option(help="The .svg or .png file to write: a layer's raster and membranes."),
    ] = None,
    node: Annotated[
        str, typer.Option(help="With --plot: the layer; by default the first that fires.")
    ] = "",
    data: DataSource = None,
    image: Annotated[
        int | None, typer.Option(min=0, help="With --plot: which of the images; the first is 0.")
    ] = None,
    neurons: Annotated[
        str, typer.Option(help="With --plot: which, 0,5,7; by default those that changed most.")
    ] = "",
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
    as_json: AsJson = False,
) -> None:
    """Print the graph, a line per node, with what is proved of each value.

    With --plot draw what one layer did on an image of --data instead.
    """
    from lapilli.export.native import load_network
    from lapilli.ir import text

    if plot is None:
        if data is not None or node or neurons or image is not None or simulator is not None:
            raise InputError("--data, --node, --image and the like are for a picture: give --plot")
        loaded = load_network(network)
        listing = text.dumps(loaded.graph)
        if as_json:
            print_json({"digest": loaded.graph.digest, "graph": listing.splitlines()})
        else:
            typer.echo(printable(listing), nl=False)
        return
    if plot != STANDARD_OUTPUT and plot.suffix.lower() not in _SUFFIXES:
        raise OutputError(plot, f"a picture is {' or '.join(_SUFFIXES)}")
    if data is None:
        raise InputError("--plot draws what a layer did: name images with --data")
    to_stream = check_outputs([plot], [network])
    how = how_read(resize, crop, frames, bin_by, sensor, skip_unreadable=skip_unreadable)

    from lapilli.deploy.cli import layer_plot
    from lapilli.deploy.cli.bitmap import png
    from lapilli.deploy.cli.images import images_for
    from lapilli.deploy.comparison.targets import target, usual
    from lapilli.export.atomic import write_atomic
    from lapilli.pictures.paint import standalone

    loaded = load_network(network)
    layer = layer_plot.check_node(loaded.graph, node)
    chosen = _numbers(neurons) if neurons else None
    number = image or 0
    given = images_for(loaded, data, how, number + 1)
    if number >= len(given.pixels):
        raise InputError(f"--image {number}: there are {len(given.pixels)}, the first is 0")
    ran = target(simulator or usual()).compile(loaded.graph)
    recording = ran.run(loaded.encode(given.pixels[number : number + 1]))
    found = layer_plot.layer_of(loaded.graph, recording, layer, chosen)
    drawn = layer_plot.picture(found, given.names[number] if given.names else f"image {number}")
    bitmap = plot.suffix.lower() == ".png"
    with destination(plot) as path:
        write_atomic(path, png(drawn) if bitmap else standalone(drawn).encode())
    facts = {
        "file": str(plot),
        "node": layer,
        "neurons": found.size,
        "fired": found.fired,
        "shown": list(found.chosen),
        "events": found.events.tolist(),
        "membranes": None if found.membranes is None else found.membranes.tolist(),
        "thresholds": [dict(levels) for levels in found.levels],
    }
    if as_json:
        print_json(facts, err=to_stream)
    else:
        shown = f"{len(found.chosen)} of {found.size:,} neurons of {layer}"
        typer.echo(printable(f"wrote {plot}: {shown}"), err=to_stream)


def _numbers(given: str) -> list[int]:
    parts = [part.strip() for part in given.split(",") if part.strip()]
    if not parts or not all(part.isdecimal() for part in parts):
        raise InputError(f"--neurons {given!r} is no list of numbers, as 0,5,7")
    return [int(part) for part in parts]
