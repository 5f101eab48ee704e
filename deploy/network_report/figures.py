"""Figures of numbers: a picture, JSON and a table, made of the same numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lapilli.deploy.network_report.section import Column, Figure, Table
from lapilli.deploy.report.histogram import Histogram
from lapilli.pictures.axis import short
from lapilli.pictures.charts import Series, bars, histogram
from lapilli.pictures.heat import heat

Numbers = Sequence[float | None]


def bar_figure(
    name: str,
    title: str,
    told: str,
    labels: Sequence[str],
    series: Mapping[str, Numbers],
    *,
    of: str = "layer",
    written: Callable[[float], str] = short,
    ticked: Callable[[float], str] | None = None,
    limits: Mapping[str, float] | None = None,
    most: float | None = None,
) -> Figure:
    """Make bars, their numbers and a table of them.

    Args:
        name: of the figure.
        title: its caption.
        told: what it shows, in words.
        labels: of groups of bars.
        series: numbers of each group, by what they are.
        of: what a label is.
        written: how a number is written.
        ticked: how a tick is written.
        limits: lines across, by name.
        most: where the axis ends.
    """
    drawn = [Series(key, list(values)) for key, values in series.items()]
    svg = bars(
        labels,
        drawn,
        title=title,
        told=told,
        written=written,
        ticked=ticked,
        limits=limits,
        most=most,
    )
    columns = (Column(of, numeric=False), *(Column(key, _cell(written)) for key in series))
    rows = tuple(zip(labels, *series.values(), strict=True))
    data = {of: list(labels), **{key: list(values) for key, values in series.items()}}
    if limits:
        data["limits"] = dict(limits)
    table = Table(name=name, title=f"{title}: numbers", columns=columns, rows=rows, folded=True)
    return Figure(name=name, title=title, told=told, svg=svg, data=data, table=table)


def heat_figure(
    name: str,
    title: str,
    told: str,
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Numbers],
    *,
    written: Callable[[float], str] = short,
    **drawn: Any,
) -> Figure:
    """Make a matrix of coloured cells; `drawn` is as `pictures.heat.heat` takes it."""
    svg = heat(rows, columns, values, title=title, told=told, written=written, **drawn)
    data = {
        "rows": list(rows),
        "columns": list(columns),
        "values": [list(row) for row in values],
    }
    return Figure(name=name, title=title, told=told, svg=svg, data=data)


def histogram_figure(
    name: str, title: str, told: str, shown: Histogram, marks: Mapping[str, float] | None = None
) -> Figure:
    """Make a histogram of integers, and its counts for JSON."""
    width = 1 << shown.shift
    svg = histogram(shown.lowest, width, shown.counts, title=title, told=told, marks=marks)
    data = {"lowest": shown.lowest, "width": width, "counts": list(shown.counts)}
    if marks:
        data["marks"] = dict(marks)
    return Figure(name=name, title=title, told=told, svg=svg, data=data, small=True)


def _cell(written: Callable[[float], str]) -> Callable[[Any], str]:
    return lambda value: "" if value is None else written(value)
