"""The command `cost`: what a network does on data, counted, and what that costs by whose prices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
    Sensor,
    SkipUnreadable,
    how_read,
)
from lapilli.deploy.cli.outputs import check_outputs, destination, keep_existing
from lapilli.ir.errors import InputError

if TYPE_CHECKING:
    from lapilli.costs.report import CostReport
    from lapilli.deploy.cli.image_set import Images
    from lapilli.ir.graph import Graph
    from lapilli.ir.network import Network
    from lapilli.ir.targets.target import Cores
    from lapilli.ir.tensor import IntArray


def cost(
    network: NetworkFile,
    data: DataSource = None,
    count: Count = None,
    prices: Annotated[
        list[Path] | None, typer.Option(help="A file of prices of your own; repeat for several.")
    ] = None,
    simulator: Annotated[
        str | None,
        typer.Option("--simulator", "--on", help=f"{SIMULATORS} By default fast, if installed."),
    ] = None,
    chip: Annotated[
        str,
        typer.Option(
            help="Put it onto a chip, too: loihi1, loihi2, speck, xylo-audio2, xylo-audio3, "
            "xylo-imu, or your own FILE.json."
        ),
    ] = "",
    csv: Annotated[
        Path | None, typer.Option(help="The .csv file to write: a row for each node.")
    ] = None,
    latex: Annotated[Path | None, typer.Option(help="The .tex file to write: one table.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that are there.")
    ] = False,
    batch: Annotated[int | None, typer.Option(min=1, help="Images at a time.")] = None,
    resize: Resize = None,
    crop: Crop = None,
    frames: Frames = None,
    bin_by: BinBy = None,
    sensor: Sensor = None,
    skip_unreadable: SkipUnreadable = False,
    as_json: AsJson = False,
) -> None:
    """Count what a network does, exactly, and price it by several models; docs/cost.md.

    With --data on real images; without, in closed form and as bounds.
    """
    from lapilli.costs import chips, pages, small_pages
    from lapilli.costs.report import bounded
    from lapilli.export.native import load_network

    written = [file for file in (csv, latex) if file is not None]
    to_stream = check_outputs(written, [network, *(prices or ())])
    keep_existing(written, overwrite=overwrite)
    small = chips.SMALL.get(chip)
    described = chips.chip(chip) if chip and small is None else None
    loaded = load_network(network)
    if data is None:
        if prices or count is not None:
            raise InputError("--prices and --count are for a run: name images with --data")
        report = bounded(loaded.graph)
    else:
        from lapilli.deploy.cli.images import images_for

        how = how_read(resize, crop, frames, bin_by, sensor, skip_unreadable=skip_unreadable)
        given = images_for(loaded, data, how, count)
        report = measured(loaded, given, simulator, prices or [], batch, quiet=as_json)
    for file, write in ((csv, pages.as_csv), (latex, pages.latex)):
        if file is not None:
            with destination(file) as path:
                _write(path, write, report)
    facts, text = pages.facts(report), pages.text(report)
    if small is not None:
        fitted = small_pages.put_on(loaded.graph, small)
        facts["cores"] = small_pages.facts(fitted)
        text += small_pages.text(fitted)
    if described is not None:
        facts["cores"], on_cores = _on_cores(loaded.graph, *described, report)
        text += on_cores
    if as_json:
        print_json(facts, err=to_stream)
    else:
        typer.echo(printable(text), nl=False, err=to_stream)


def _on_cores(
    graph: Graph, name: str, chip: Cores, report: CostReport
) -> tuple[dict[str, Any], str]:
    """Facts and text of a network on a chip with cores."""
    from lapilli.costs import core_pages
    from lapilli.costs.on_cores import put_on_cores
    from lapilli.costs.placement import place
    from lapilli.deploy.cli.doctor import missing

    on = put_on_cores(graph, name, chip)
    facts, text = core_pages.against_facts(on), core_pages.against_text(on)
    if on.found is None:
        return facts, text
    try:
        placed, unplaced = place(on.found, graph.T, report.neuron_rates), ""
    except ModuleNotFoundError as error:
        placed, unplaced = None, f"cores are not put onto chips: {missing(error.name)}\n"
    facts |= core_pages.facts(on.found, report, placed)
    return facts, core_pages.text(on.found, report, placed) + unplaced + text


def _write(path: Path, write: Callable[[CostReport], str], report: CostReport) -> None:
    from lapilli.export.atomic import write_atomic

    write_atomic(path, write(report).encode())


def measured(
    network: Network,
    images: Images,
    simulator: str | None,
    prices: list[Path],
    batch: int | None,
    *,
    quiet: bool,
) -> CostReport:
    """Count what a network does on images, a batch at a time.

    Args:
        network: that runs.
        images: that it is given.
        simulator: by name; by default the fastest that is installed.
        prices: files of tables.
        batch: images at a time; by default as many as memory takes.
        quiet: show no progress.

    Raises:
        LapilliError: see `costs.report.measure`.
    """
    from lapilli.costs.prices import read_tables
    from lapilli.costs.report import measure
    from lapilli.costs.values import watched
    from lapilli.deploy.cli.progress import Bars
    from lapilli.deploy.comparison.compare import affordable_batch
    from lapilli.deploy.comparison.targets import target, usual

    own = [table for file in prices for table in read_tables(file)]
    size = batch or affordable_batch(watched(network.graph))
    count = len(images.pixels)

    def batches() -> Iterator[dict[str, IntArray]]:
        for start in range(0, count, size):
            yield network.encode(images.pixels[start : start + size])

    with Bars(quiet=quiet) as bars:
        on = target(simulator or usual(), bars.lava)
        bars.stage("images", count)
        return measure(network.graph, batches(), on, own_tables=own, progress=bars.advance)
