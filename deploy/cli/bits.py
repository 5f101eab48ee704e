"""Bits shared out to a size or a drop: the search of `quantize --most-kib` and `--most-drop`."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from typing_extensions import Unpack

from lapilli.deploy.cli import flow
from lapilli.deploy.cli.image_set import Images
from lapilli.deploy.cli.progress import Bars
from lapilli.quantize.frontier import Point, choose
from lapilli.quantize.options import QuantizeOptions

_ROWS = 16  # of the frontier that are printed


def shared_bits(
    model: flow.Model,
    training: Images,
    *,
    most_kib: float | None,
    most_drop: float | None,
    quiet: bool,
    **options: Unpack[QuantizeOptions],
) -> dict[str, int]:
    """Find bits for each layer, and print the way there on standard error.

    Args:
        model: as `quantize` takes it.
        training: likewise.
        most_kib: of all weights.
        most_drop: percent of the images whose answer may differ from float's.
        quiet: print nothing.
        options: of `quantize`.

    Raises:
        QuantizeError: no point of the frontier fits.
        NormalisationError, CaptureError, RangeError: see `flow.quantize_model`.
    """
    with Bars(quiet=quiet) as bars:
        bars.stage("sharing out bits", None)
        points = flow.frontier_of(model, training, progress=bars.advance, **options)
    chosen = choose(
        points,
        most_bytes=None if most_kib is None else int(most_kib * 1024),
        most_drop=None if most_drop is None else most_drop / 100,
    )
    if not quiet:
        Console(stderr=True).print(table(points, chosen))
    return dict(chosen.bits)


def table(points: Sequence[Point], chosen: Point) -> Table:
    """Some points from the most bits to the fewest, the chosen one marked."""
    shown = {round(i * (len(points) - 1) / (_ROWS - 1)) for i in range(_ROWS)}
    shown.add(points.index(chosen))
    made = Table(
        "weights, KiB", "spikes that differ", "logits' error", "float's answer", "bits", ""
    )
    for number in sorted(shown):
        point = points[number]
        widths = sorted(set(point.bits.values()), reverse=True)
        counts = ", ".join(f"{list(point.bits.values()).count(w)} x {w}" for w in widths)
        made.add_row(
            f"{point.weight_bytes / 1024:.1f}",
            f"{point.score.differ / max(1, point.score.spikes):.2%}",
            f"{point.score.logits:.3f}",
            f"{point.agree:.1%}",
            counts,
            "chosen" if point is chosen else "",
        )
    return made
