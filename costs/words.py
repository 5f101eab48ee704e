"""Numbers of a cost report as people read them, each with its range, and a sentence on method."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from lapilli.costs.estimate import BreakEven, Estimate
from lapilli.costs.models.model import Model
from lapilli.costs.report import CostReport
from lapilli.ir.version import __version__

UNKNOWN = "unknown"
_UNITS = ((1e12, "J"), (1e9, "mJ"), (1e6, "uJ"), (1e3, "nJ"), (1.0, "pJ"))
_COUNTS = ((10**9, "G"), (10**6, "M"), (10**3, "k"))


def energy(picojoules: float) -> str:
    """Write an energy with four digits and its unit.

    >>> energy(7463502602.0)
    '7.464 mJ'
    """
    factor, unit = next((u for u in _UNITS if picojoules >= u[0]), _UNITS[-1])
    return f"{picojoules / factor:.4g} {unit}"


def count(number: Fraction | int) -> str:
    """Write a count with four digits.

    >>> count(6517540941)
    '6.518 G'
    """
    factor, unit = next((u for u in _COUNTS if number >= u[0]), (1, ""))
    return f"{float(Fraction(number) / factor):.4g} {unit}".rstrip()


def share(rate: Fraction | float | None) -> str:
    """Write a rate; of counts, which may be above one, the events of a step."""
    if rate is None:
        return UNKNOWN
    return f"{float(rate):.2%}" if rate <= 1 else f"{float(rate):.2f} events"


def even(found: BreakEven | None) -> str:
    """Write a rate of break-even: "any" above one, "none" at zero."""
    if found is None:
        return UNKNOWN
    if found.rate > 1:
        return "any"
    return share(found.rate) if found.rate else "none"


def compared(found: BreakEven | None, table: str) -> str:
    """Write at which firing rate a quantized dense network costs as much."""
    if found is None:
        return f"break-even with a quantized dense network: {UNKNOWN} by {table}"
    where = f"{share(found.here)} here, in {found.layers} layers"
    if found.rate > 1:
        said = "costs less than a quantized dense network at any firing rate"
    elif found.rate:
        said = f"costs what a quantized dense network costs at a firing rate of {share(found.rate)}"
    else:
        said = "costs more than a quantized dense network even in silence"
    return f"{said} ({where}) by {table}"


def told(estimate: Estimate) -> str:
    """Write the energy of one image, or what is known of it."""
    if not estimate.unpriced:
        return energy(estimate.priced)
    missing = f"no price of {', '.join(estimate.unpriced)}"
    if not estimate.priced:
        return f"{UNKNOWN}: {missing}"
    return f"{UNKNOWN}: at least {energy(estimate.priced)}, {missing}"


def spanned(report: CostReport, model: Model) -> str:
    """Write what the tables of each grade span."""
    return "; ".join(
        f"{r.grade.value} {energy(r.lowest)} to {energy(r.highest)} ({len(r.tables)})"
        for r in report.ranges
        if r.model == model.name
    )


def method(report: CostReport) -> str:
    """Return a few sentences for a paper: what was counted how, and what was priced by what."""
    if not report.images:
        return (
            f"Operations are counted in closed form by lapilli {__version__} from the integer "
            "network; without a run there are bounds by proven ranges, and no energy."
        )
    priced = [
        f"{model.name} {told(report.usual(model))} (table {model.table})" for model in report.models
    ]
    return (
        f"Operations are counted exactly by lapilli {__version__} from every spike of "
        f"{report.images:,} images on the simulator {report.simulator} (T = {report.T}): additions "
        "at synapses that exist, padding left out, attention, residuals, pooling and neurons among "
        f"them. Energies of one image are estimates, no measurements: {'; '.join(priced)}. Each "
        "model omits what docs/cost.md lists, and prices of other tables move it as far as its "
        "range says."
    )


def columns(rows: list[tuple[str, ...]], text: int = 2) -> Iterator[str]:
    """Lay out rows as lines, the first `text` cells to the left and all others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        first = [cell.ljust(width) for cell, width in zip(row[:text], widths[:text], strict=True)]
        rest = [cell.rjust(width) for cell, width in zip(row[text:], widths[text:], strict=True)]
        yield "  ".join([*first, *rest]).rstrip()
