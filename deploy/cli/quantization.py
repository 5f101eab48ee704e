"""The quantization report on the command line: measured, written, and shown as tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lapilli.deploy.cli import flow
from lapilli.deploy.cli.frame import printable
from lapilli.deploy.cli.progress import Bars
from lapilli.deploy.comparison.targets import target, usual
from lapilli.deploy.report.measure import report_on
from lapilli.deploy.report.pages import page
from lapilli.deploy.report.tables import Grid, grids, summary
from lapilli.export.atomic import write_atomic

if TYPE_CHECKING:
    from lapilli.deploy.cli.flow import Model
    from lapilli.deploy.cli.image_set import Images
    from lapilli.deploy.report.layers import QuantizationReport
    from lapilli.quantize.pipeline import Quantized

_SHOWN = {  # columns on a terminal; the file has all
    "Neurons": ("layer", "state", "fires", "in float", "unlike float", "membranes", "bits proved"),
    "Synapses": ("layer", "state", "bits", "used", "lost", "integers", "scale", "exponent"),
}


def write_report(
    made: Quantized, opened: Model, training: Images, path: Path, *, quiet: bool
) -> None:
    """Measure on the images of the calibration that were examined; write, and print on stderr.

    Raises:
        OutputError: it cannot be written there.
    """
    pixels = training.pixels[list(made.health.images)]
    prepare = flow.preparation(opened, made.network)
    with Bars(quiet=quiet) as bars:
        bars.stage("report", len(pixels))
        found = report_on(
            made,
            flow.module_of(opened, made.network),
            pixels,
            prepare=prepare,
            on=target(usual()),
            progress=bars.advance,
        )
    write_atomic(path, page(found, path))
    if not quiet:
        print_report(found)


def print_report(report: QuantizationReport) -> None:
    """Sentences, and the columns of each table that fit a terminal, on standard error."""
    console = Console(stderr=True)
    for grid in grids(report):
        if grid.title in _SHOWN:
            console.print(_table(grid, _SHOWN[grid.title]))
    for sentence in summary(report):
        console.print(printable(sentence), markup=False, soft_wrap=True, highlight=False)


def _table(grid: Grid, columns: tuple[str, ...]) -> Table:
    table = Table(*columns, title=grid.title)
    shown = [grid.columns.index(column) for column in columns]
    for row in grid.rows:
        table.add_row(*(Text(printable(str(row[k]))) for k in shown))
    return table
