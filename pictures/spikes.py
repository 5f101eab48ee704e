"""What neurons did over time: a raster of spikes, and membranes as lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lapilli.pictures.axis import linear, short
from lapilli.pictures.canvas import Canvas, shortened, width_of
from lapilli.pictures.paint import SERIES

_STEP, _ROW, _TOP, _BOTTOM, _RIGHT = 18.0, 12.0, 10.0, 34.0, 14.0
_LABEL, _LEAST, _MOST = 34, 120.0, 760.0
Spikes = npt.NDArray[np.int64]


def raster(
    spikes: Spikes,
    *,
    title: str,
    told: str,
    labels: Sequence[str] = (),
    first_step: int = 0,
    other: Spikes | None = None,
    marked: tuple[int, int] | None = None,
) -> str:
    """Draw spikes (neurons, steps): a bar for each, orange where negative, wider for counts.

    Args:
        spikes: events of each neuron (row) at each step, 0 where there is none.
        title: its name.
        told: what is to be seen, in words.
        labels: of rows.
        first_step: number of the first column.
        other: what another run sent; where the two differ, `spikes` are hollow and `other` red.
        marked: row and column of one that is framed.
    """
    rows, steps = spikes.shape
    names = [shortened(name, _LABEL) for name in labels]
    left = max((width_of(name) for name in names), default=0.0) + 16
    step = min(_STEP, max(2.0, _MOST / max(1, steps)))
    width = left + max(_LEAST, step * steps) + _RIGHT
    canvas = Canvas(width, _TOP + _ROW * rows + _BOTTOM)
    foot = _TOP + _ROW * rows
    for row in range(rows):
        y = _TOP + _ROW * row
        canvas.line(left, y + _ROW / 2, width - _RIGHT, y + _ROW / 2)
        if row < len(names):
            canvas.text(left - 8, y + _ROW - 2.5, names[row], anchor="end", told=labels[row])
    for row, column in np.argwhere(spikes if other is None else (spikes != 0) | (other != 0)):
        mine = int(spikes[row, column])
        theirs = mine if other is None else int(other[row, column])
        x, y = left + step * column, _TOP + _ROW * row
        said = f"step {first_step + column}: {mine}"
        if mine:
            paint = "one" if mine > 0 else "two"
            hollow = mine != theirs
            canvas.rect(
                *(x + 1, y + 1.5, max(1.5, step - 2), _ROW - 3),
                "ground" if hollow else paint,
                border=paint if hollow else "",
                value=mine,
                told=said,
            )
        if mine != theirs and theirs:
            told_too = f"{said}, the other run {theirs}"
            canvas.rect(
                *(x + 3.5, y + 3.5, max(1.0, step - 7), _ROW - 7),
                "wrong",
                value=theirs,
                told=told_too,
                mark="other",
            )
    if marked is not None:
        row, column = marked
        x, y = left + step * column, _TOP + _ROW * row
        frame = f"M{x - 1.5:.1f} {y - 1:.1f}h{step + 3:.1f}v{_ROW + 2:.0f}h{-step - 3:.1f}z"
        canvas.path(frame, "wrong", width=1.5)
    _steps(canvas, left, step, steps, first_step, foot)
    return canvas.svg(title, told)


@dataclass(frozen=True, slots=True)
class Trace:
    """A line of `traces`: its name, and a number at each step, None where there is none."""

    name: str
    values: Sequence[float | None]


def traces(
    lines: Sequence[Trace],
    *,
    title: str,
    told: str,
    first_step: int = 0,
    levels: Mapping[str, float] | None = None,
    marked: int | None = None,
) -> str:
    """Draw numbers over time steps, such as membranes before reset, and levels beside them.

    Args:
        lines: at most four; all as long as the first. The second and later ones are dashed, so
            that equal lines are seen.
        title: its name.
        told: what is to be seen, in words.
        first_step: number of the first step.
        levels: thresholds by name: lines across.
        marked: number of a column that is marked.
    """
    steps = max((len(line.values) for line in lines), default=0)
    across = dict(levels or {})
    shown = [v for line in lines for v in line.values if v is not None] + list(across.values())
    left, top, height = 64.0, 30.0, 170.0
    step = min(48.0, max(4.0, (_MOST - left) / max(1, steps)))
    beside = max((width_of(f"{n} {short(v)}") for n, v in across.items()), default=0.0) + 12
    width = max(left + step * steps + max(beside, 90.0), 320.0)
    canvas = Canvas(width, top + height + _BOTTOM)
    scale = linear(min([*shown, 0]), max([*shown, 0]), top + height, top)
    right = left + step * steps
    for tick in scale.ticks(5):
        canvas.line(left, scale.at(tick), right, scale.at(tick))
        canvas.text(left - 8, scale.at(tick) + 4, short(tick), anchor="end")
    if marked is not None:
        canvas.rect(left + step * marked, top, step, height, "wrong", opacity=0.12)
    for name, level in across.items():
        told_level = f"{name} {short(level)}"
        canvas.line(left, scale.at(level), right, scale.at(level), "wrong", dashes="2 3")
        canvas.text(right + 5, scale.at(level) + 4, told_level, paint="wrong")
    for line, paint, dashes in zip(lines, SERIES, ("", "6 4", "2 3", "8 3 2 3"), strict=False):
        points = [
            (left + step * (k + 0.5), scale.at(value), value)
            for k, value in enumerate(line.values)
            if value is not None
        ]
        drawn = "".join(f"{'L' if k else 'M'}{x:.1f} {y:.1f}" for k, (x, y, _) in enumerate(points))
        if drawn:
            canvas.path(drawn, paint, width=2, dashes=dashes)
        for x, y, value in points:
            canvas.circle(x, y, 2.6, paint, value=value, told=f"{line.name}: {value:g}")
    _legend(canvas, left, [line.name for line in lines])
    _steps(canvas, left, step, steps, first_step, top + height)
    return canvas.svg(title, told)


def _legend(canvas: Canvas, left: float, names: Sequence[str]) -> None:
    x = left
    for name, paint in zip(names, SERIES, strict=False):
        canvas.rect(x, 8, 10, 10, paint, radius=2)
        canvas.text(x + 15, 17, name, paint="ink")
        x += 30 + width_of(name)


def _steps(
    canvas: Canvas, left: float, step: float, steps: int, first_step: int, foot: float
) -> None:
    """Write the numbers of steps, as many as there is room for."""
    every = max(1, -(-28 // int(max(1.0, step))))
    for column in range(0, steps, every):
        x = left + step * (column + 0.5)
        canvas.text(x, foot + 13, str(first_step + column), anchor="middle")
    canvas.text(left, foot + 28, "time step")
