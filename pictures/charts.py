"""Bars of several series, histograms of integers, and ranges on a logarithmic scale."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lapilli.pictures.axis import Scale, linear, logarithmic, short
from lapilli.pictures.canvas import Canvas, shortened, width_of
from lapilli.pictures.paint import SERIES

_BAR, _GAP, _TOP, _FOOT, _RIGHT, _PLOT = 11.0, 8.0, 30.0, 26.0, 76.0, 430.0
_LABEL = 38
_LOW = 8.0  # above bars that need no legend
_HEIGHT = 96.0

Written = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Series:
    """One of several numbers at each label: its name, and the numbers, None where there is none."""

    name: str
    values: Sequence[float | None]


def bars(
    labels: Sequence[str],
    series: Sequence[Series],
    *,
    title: str,
    told: str,
    written: Written = short,
    ticked: Written | None = None,
    limits: Mapping[str, float] | None = None,
    most: float | None = None,
) -> str:
    """Draw horizontal bars from 0, a group for each label.

    Args:
        labels: of groups, in the order of `values`.
        series: at most four, each with a number for each label.
        title: its name.
        told: what is to be seen, in words.
        written: how a number is written.
        ticked: how a tick is written; by default so, too.
        limits: lines across by name, such as what a register holds.
        most: where the axis ends; by default behind the largest number.
    """
    names = [shortened(label, _LABEL) for label in labels]
    left = max((width_of(name) for name in names), default=0.0) + 12
    group = _BAR * len(series) + _GAP
    top = _TOP if limits or len(series) > 1 else _LOW
    foot = top + group * len(labels)
    canvas = Canvas(left + _PLOT + _RIGHT, foot + _FOOT)
    known = [v for one in series for v in one.values if v is not None] + list(
        (limits or {}).values()
    )
    high = max([*known, 0.0]) if most is None else most
    scale = linear(min([*known, 0.0]), high or 1.0, left, left + _PLOT)
    before = ""
    for tick in scale.ticks():
        text = (ticked or written)(tick)
        if text != before:  # of whole numbers nothing lies between
            canvas.line(scale.at(tick), top - 4, scale.at(tick), foot)
            canvas.text(scale.at(tick), foot + 15, text, anchor="middle")
        before = text
    for name, limit in (limits or {}).items():
        canvas.line(scale.at(limit), top - 4, scale.at(limit), foot, "wrong", dashes="4 3")
        end = scale.at(limit) > left + _PLOT / 2
        canvas.text(
            scale.at(limit) + (-4 if end else 4),
            top - 8,
            f"{name} {written(limit)}",
            anchor="end" if end else "start",
            paint="wrong",
        )
    for k, label in enumerate(labels):
        y = top + group * k
        middle = y + _BAR * len(series) / 2 + 4
        canvas.text(left - 8, middle, names[k], anchor="end", paint="ink", told=label)
        for j, one in enumerate(series):
            _bar(canvas, scale, y + _BAR * j, one.values[k], SERIES[j], written, label, one.name)
    if len(series) > 1:
        _legend(canvas, left, [one.name for one in series])
    return canvas.svg(title, told)


def _bar(
    canvas: Canvas,
    scale: Scale,
    y: float,
    value: float | None,
    paint: str,
    written: Written,
    label: str,
    name: str,
) -> None:
    if value is None:
        return
    zero, end = scale.at(0.0), scale.at(value)
    told = f"{label}, {name}: {written(value)}"
    width = max(abs(end - zero), 0.75 if value else 0.0)
    canvas.rect(min(zero, end), y, width, _BAR - 1, paint, value=value, told=told, radius=1)
    canvas.text(max(zero, end) + 5, y + _BAR - 2, written(value), size=10, clear=True)


def histogram(
    lowest: int,
    width: int,
    counts: Sequence[int],
    *,
    title: str,
    told: str,
    marks: Mapping[str, float] | None = None,
) -> str:
    """Draw counts of integers: bin k begins at lowest + k * width.

    Args:
        lowest: where the first bin begins.
        width: integers of a bin.
        counts: of each bin.
        title: its name.
        told: what is to be seen, in words.
        marks: lines down by name, such as a threshold.
    """
    left, top, plot = 42.0, 16.0, 232.0
    foot = top + _HEIGHT
    canvas = Canvas(left + plot + 14, foot + _FOOT)
    most = max(counts, default=0)
    up = linear(0, most or 1, foot, top)
    beyond = lowest + width * len(counts)
    here = [*(marks or {}).values()]
    across = linear(min([lowest, *here]), max([beyond, *here]), left, left + plot)
    for tick in up.ticks(3):
        canvas.line(left, up.at(tick), left + plot, up.at(tick))
        canvas.text(left - 6, up.at(tick) + 4, short(tick), anchor="end", size=10)
    for k, count in enumerate(counts):
        begin, end = lowest + width * k, lowest + width * (k + 1)
        x, x2 = across.at(begin), across.at(end)
        name = str(begin) if width == 1 else f"{begin} to {end - 1}"
        height = foot - up.at(count)
        if count:
            height = max(height, 0.75)
        canvas.rect(
            *(x, foot - height, max(0.5, x2 - x - (1 if x2 - x > 3 else 0)), height),
            "one",
            value=count,
            told=f"{name}: {count:,}",
        )
    for name, place in (marks or {}).items():
        x = across.at(place)
        canvas.line(x, top - 4, x, foot, "wrong", dashes="4 3")
        end_side = x > left + plot / 2
        canvas.text(
            x + (-4 if end_side else 4),
            top - 5,
            f"{name} {short(place)}",
            anchor="end" if end_side else "start",
            paint="wrong",
            size=10,
        )
    for tick in across.ticks(5):
        canvas.text(across.at(tick), foot + 14, short(tick), anchor="middle", size=10)
    return canvas.svg(title, told)


@dataclass(frozen=True, slots=True)
class Span:
    """A range and a number inside of it: its label, ends, and the number that is marked."""

    label: str
    low: float
    high: float
    point: float | None = None


def spans(rows: Sequence[Span], *, title: str, told: str, written: Written = short) -> str:
    """Draw ranges of positive numbers on a logarithmic scale, a row each.

    Args:
        rows: what is drawn, the first on top.
        title: its name.
        told: what is to be seen, in words.
        written: how a number is written.
    """
    names = [shortened(row.label, _LABEL + 6) for row in rows]
    left = max((width_of(name) for name in names), default=0.0) + 12
    each, top = 24.0, 10.0
    foot = top + each * len(rows)
    canvas = Canvas(left + _PLOT + 120, foot + _FOOT)
    ends = [e for row in rows for e in (row.low, row.high, row.point or row.low)]
    scale = logarithmic(min(ends), max(ends), left, left + _PLOT)
    for tick in scale.ticks():
        canvas.line(scale.at(tick), top - 4, scale.at(tick), foot)
        canvas.text(scale.at(tick), foot + 15, written(tick), anchor="middle")
    for k, row in enumerate(rows):
        y = top + each * k
        canvas.text(left - 8, y + 15, names[k], anchor="end", paint="ink", told=row.label)
        low, high = scale.at(row.low), scale.at(row.high)
        told_row = f"{row.label}: {written(row.low)} to {written(row.high)}"
        canvas.rect(low, y + 6, max(high - low, 3.0), 10, "one", opacity=0.45, told=told_row,
                    value=f"{row.low} {row.high}", radius=2)  # fmt: skip
        if row.point is not None:
            canvas.circle(scale.at(row.point), y + 11, 5, "two", value=row.point)
        ending = max(high, scale.at(row.point or row.high))
        canvas.text(ending + 10, y + 15, written(row.point or row.high), size=10)
    return canvas.svg(title, told)


def _legend(canvas: Canvas, left: float, names: Sequence[str]) -> None:
    x = left
    for name, paint in zip(names, SERIES, strict=False):
        canvas.rect(x, 6, 10, 10, paint, radius=2)
        canvas.text(x + 15, 15, name, paint="ink")
        x += 30 + width_of(name)
