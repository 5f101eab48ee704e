"""Several pictures below each other, as one."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lapilli.pictures.canvas import Canvas, number, width_of

_SIZE = re.compile(r' width="([\d.]+)" height="([\d.]+)"')
_GAP, _HEAD, _TITLE = 8.0, 26.0, 13.0


def stacked(pictures: Sequence[str], *, title: str, told: str) -> str:
    """Put pictures of this package below each other, under their title.

    Args:
        pictures: what the functions of this package return, the first on top.
        title: its name, which is written above.
        told: what is to be seen, in words.
    """
    sizes = [tuple(map(float, found.groups())) for p in pictures if (found := _SIZE.search(p))]
    if len(sizes) != len(pictures):
        raise ValueError("one of them is no picture of this package")
    width = max([w for w, _ in sizes] + [width_of(title, _TITLE) + 2 * _GAP])
    canvas = Canvas(width, _HEAD + sum(h + _GAP for _, h in sizes))
    canvas.text(_GAP, _HEAD - _GAP, title, paint="ink", size=_TITLE, bold=True)
    top = _HEAD
    for picture, (_, height) in zip(pictures, sizes, strict=True):
        canvas.put([picture.replace("<svg ", f'<svg y="{number(top)}" ', 1)])
        top += height + _GAP
    return canvas.svg(title, told)
