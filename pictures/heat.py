"""A matrix as coloured cells."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lapilli.pictures.axis import short
from lapilli.pictures.canvas import Canvas, shortened, width_of

_LABEL = 34


def heat(
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float | None]],
    *,
    title: str,
    told: str,
    across: str = "",
    most: float | None = None,
    written: Callable[[float], str] = short,
    cell: tuple[float, float] = (34.0, 20.0),
    numbered: bool = True,
) -> str:
    """Draw a matrix, each cell as dark as its number is large.

    Args:
        rows: labels.
        columns: labels, turned where they have no room.
        values: a row of numbers for each row, None where there is none.
        title: its name.
        told: what is to be seen, in words.
        across: what columns are.
        most: the number that is darkest; by default the largest.
        written: how a number is written.
        cell: width and height of one.
        numbered: whether numbers are written into cells.
    """
    wide, high = cell
    names = [shortened(name, _LABEL) for name in rows]
    heads = [shortened(name, 18) for name in columns]
    turned = any(width_of(head) > wide - 4 for head in heads)
    left = max((width_of(name) for name in names), default=0.0) + 12
    top = (max(map(width_of, heads)) * 0.75 + 22 if turned else 18.0) + (16 if across else 0)
    spare = 70.0 if turned else 10.0
    canvas = Canvas(left + wide * len(columns) + spare, top + high * len(rows) + 8)
    if across:
        canvas.text(left, 12, across)
    every = max(1, -(-12 // int(wide)))
    for k, head in enumerate(heads):
        if k % every == 0:
            _head(canvas, left + wide * (k + 0.5), top - 6, head, turned=turned, told=columns[k])
    known = [abs(v) for row in values for v in row if v is not None]
    largest = (max(known, default=0.0) if most is None else most) or 1.0
    for j, row in enumerate(values):
        y = top + high * j
        canvas.text(left - 8, y + high / 2 + 4, names[j], anchor="end", paint="ink", told=rows[j])
        for k, value in enumerate(row):
            x = left + wide * k
            if value is None:
                canvas.line(x + wide / 2 - 3, y + high / 2, x + wide / 2 + 3, y + high / 2)
                continue
            part = min(1.0, abs(value) / largest)
            said = f"{rows[j]}, {columns[k]}: {written(value)}"
            canvas.rect(x, y, wide - 1, high - 1, "panel")
            canvas.rect(*(x, y, wide - 1, high - 1, "heat"), opacity=part, value=value, told=said)
            if numbered:
                canvas.text(
                    x + (wide - 1) / 2,
                    y + high / 2 + 3.5,
                    written(value),
                    anchor="middle",
                    size=10,
                    paint="ink",
                )
    return canvas.svg(title, told)


def _head(canvas: Canvas, x: float, y: float, text: str, *, turned: bool, told: str) -> None:
    if turned:
        canvas.turned_text(x, y, text, told=told)
    else:
        canvas.text(x, y, text, anchor="middle", told=told)
