"""A graph as boxes and arrows from top to bottom: layered, with few crossings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lapilli.pictures.canvas import Canvas, number, shortened, width_of
from lapilli.pictures.layering import Place, layered

_HEAD, _LINE, _PAD, _DOWN, _ASIDE, _MARGIN = 17.0, 14.0, 8.0, 30.0, 18.0, 8.0
_NARROW = 124.0
_WIDE = 30  # characters of a line
_STRIPE = 5.0
_HEADED = 13.0  # of a bold line, as wide letters take it


@dataclass(frozen=True, slots=True)
class Box:
    """One box of a graph.

    Attributes:
        name: by which edges know it; told: shows when it is pointed at.
        lines: of text, the first bold.
        paint: of its stripe; empty for what is outside of the graph.
        link: place of the same page to which it leads.
    """

    name: str
    lines: tuple[str, ...]
    paint: str = "one"
    told: str = ""
    link: str = ""

    @property
    def width(self) -> float:
        """Pixels."""
        shown = [shortened(line, _WIDE) for line in self.lines]
        widest = max(width_of(shown[0], _HEADED), *map(width_of, shown))
        return max(_NARROW, widest + 2 * _PAD + _STRIPE)

    @property
    def height(self) -> float:
        """Pixels."""
        return _HEAD + _LINE * (len(self.lines) - 1) + _PAD


def flow(boxes: Sequence[Box], edges: Sequence[tuple[str, str]], *, title: str, told: str) -> str:
    """Draw boxes and what leads from one to another.

    Args:
        boxes: each before those that it leads to.
        edges: pairs of names of boxes.
        title: its name.
        told: what is to be seen, in words.
    """
    common = max((box.width for box in boxes if box.paint), default=0.0)
    sizes = {b.name: (common if b.paint else b.width, b.height) for b in boxes}
    places, ways = layered(sizes, edges, aside=_ASIDE, down=_DOWN)
    width = max([0.0, *(p.x + p.width for p in places.values()), *(x for w in ways for x, _ in w)])
    height = max((p.y + p.height for p in places.values()), default=0.0)
    canvas = Canvas(width + 2 * _MARGIN, height + 2 * _MARGIN)
    for way in ways:
        _way(canvas, way)
    for box in boxes:
        place = places[box.name]
        if not box.link:
            _box(canvas, box, place)
            continue
        before = canvas.taken()
        _box(canvas, box, place)
        inside = canvas.taken()
        canvas.put(before)
        canvas.link(box.link, inside)
    return canvas.svg(title, told, links=any(box.link for box in boxes))


def _way(canvas: Canvas, way: Sequence[tuple[float, float]]) -> None:
    """A smooth line through points, the last an arrow's tip."""
    x, y = way[0]
    drawn = f"M{number(x + _MARGIN)} {number(y + _MARGIN)}"
    for x2, y2 in way[1:]:
        middle = (y + y2) / 2
        points = ((x, middle), (x2, middle), (x2, y2))
        drawn += "C" + " ".join(f"{number(a + _MARGIN)} {number(b + _MARGIN)}" for a, b in points)
        x, y = x2, y2
    canvas.path(drawn, "edge", width=1.4)
    tip = f"M{number(x + _MARGIN)} {number(y + _MARGIN)}l-3.5 -6h7z"
    canvas.path(tip, "edge", filled=True)


def _box(canvas: Canvas, box: Box, place: Place) -> None:
    x, y = place.x + _MARGIN, place.y + _MARGIN
    canvas.rect(
        *(x, y, place.width, place.height, "panel"),
        border="line",
        radius=5,
        told=box.told,
        value=box.name,
    )
    if box.paint:
        canvas.rect(x, y + 4, _STRIPE, place.height - 8, box.paint, radius=2)
    for k, line in enumerate(box.lines):
        canvas.text(
            x + _PAD + _STRIPE,
            y + _HEAD - 1 + _LINE * k,
            shortened(line, _WIDE),
            paint="quiet" if k else "ink",
            bold=not k and bool(box.paint),
            size=10.5 if k else 11.5,
        )
