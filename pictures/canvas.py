"""Elements of an SVG, written one after the other."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from lapilli.pictures.paint import PAINTS

_FONT = "system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif"
SIZE = 11  # of text, in pixels
_WIDE = 0.56  # mean width of a character, in parts of its size


def number(value: float) -> str:
    """Write a coordinate with two decimals at most.

    >>> number(3.0), number(2.125), number(-0.001)
    ('3', '2.12', '0')
    """
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def width_of(text: str, size: float = SIZE) -> float:
    """Return about how many pixels a text takes."""
    return len(text) * size * _WIDE


def shortened(text: str, most: int) -> str:
    """Return a text of at most so many characters: its middle goes first.

    >>> shortened("blocks.0.attention.q_lif", 16)
    'blocks.…on.q_lif'
    """
    if len(text) <= most:
        return text
    before = (most - 1) // 2
    return f"{text[:before]}…{text[len(text) - (most - 1 - before) :]}"


class Canvas:
    """What is drawn so far. Lengths are pixels, y goes down; paints are names of `PAINTS`.

    Args:
        width, height: of the picture.
    """

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self._parts: list[str] = []

    def rect(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        paint: str,
        *,
        value: object = None,
        told: str = "",
        opacity: float = 1.0,
        border: str = "",
        radius: float = 0.0,
        mark: str = "",
    ) -> None:
        """Draw a filled box; `told` shows when it is pointed at, `mark` is a class of its own."""
        box = f'x="{number(x)}" y="{number(y)}" width="{number(width)}" height="{number(height)}"'
        shade = f' fill-opacity="{number(opacity)}"' if opacity < 1 else ""
        corner = f' rx="{number(radius)}"' if radius else ""
        names, painted = _filled(paint)
        if border:
            names, painted = f"{names} s-{border}", f'{painted} stroke="{PAINTS[border][0]}"'
        names = f"{names} {mark}".rstrip()
        held = "" if value is None else f' data-value="{escape(str(value))}"'
        self._put("rect", f'class="{names}" {box}{painted}{shade}{corner}{held}', told)

    def circle(
        self, x: float, y: float, radius: float, paint: str, *, value: object = None, told: str = ""
    ) -> None:
        """Draw a filled circle."""
        names, painted = _filled(paint)
        held = "" if value is None else f' data-value="{escape(str(value))}"'
        place = f'cx="{number(x)}" cy="{number(y)}" r="{number(radius)}"'
        self._put("circle", f'class="{names}" {place}{painted}{held}', told)

    def path(
        self,
        drawn: str,
        paint: str,
        *,
        width: float = 1.0,
        dashes: str = "",
        filled: bool = False,
        told: str = "",
        value: object = None,
    ) -> None:
        """Draw a line, or a filled shape, of SVG's path commands."""
        held = "" if value is None else f' data-value="{escape(str(value))}"'
        if filled:
            names, painted = _filled(paint)
            self._put("path", f'class="{names}" d="{drawn}"{painted}{held}', told)
            return
        dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
        stroke = f'stroke="{PAINTS[paint][0]}" stroke-width="{number(width)}" fill="none"'
        self._put("path", f'class="s-{paint}" d="{drawn}" {stroke}{dashed}{held}', told)

    def line(
        self,
        x1: float,
        y1: float,
        x2: float,
        y2: float,
        paint: str = "line",
        *,
        width: float = 1.0,
        dashes: str = "",
        told: str = "",
        value: object = None,
    ) -> None:
        """Draw a straight line."""
        drawn = f"M{number(x1)} {number(y1)}L{number(x2)} {number(y2)}"
        self.path(drawn, paint, width=width, dashes=dashes, told=told, value=value)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        paint: str = "quiet",
        anchor: str = "start",
        size: float = SIZE,
        bold: bool = False,
        told: str = "",
        clear: bool = False,
    ) -> None:
        """Write a line of text whose foot stands at y; `clear` keeps lines behind it away."""
        names, painted = _filled(paint)
        if clear:
            names += " s-ground"
            ground = f'stroke="{PAINTS["ground"][0]}" stroke-width="3" stroke-linejoin="round"'
            painted += f' {ground} paint-order="stroke"'
        heavy = ' font-weight="600"' if bold else ""
        at = f'x="{number(x)}" y="{number(y)}" text-anchor="{anchor}" font-size="{number(size)}"'
        title = f"<title>{escape(told)}</title>" if told else ""
        self._parts.append(
            f'<text class="{names}" {at}{painted}{heavy}>{title}{escape(text)}</text>'
        )

    def turned_text(self, x: float, y: float, text: str, *, told: str = "") -> None:
        """Write a line of text that rises to the right from (x, y)."""
        before = self.taken()
        self.text(0, 0, text, told=told)
        written = self.taken()
        place = f"translate({number(x)} {number(y)})rotate(-40)"
        self.put([*before, f'<g transform="{place}">', *written, "</g>"])

    def link(self, target: str, parts: Iterable[str]) -> None:
        """Put elements inside a link to a place of the same page."""
        self._parts.append(f'<a href="#{escape(target)}">{"".join(parts)}</a>')

    def taken(self) -> list[str]:
        """Take out what was drawn so far, to be put elsewhere."""
        parts, self._parts = self._parts, []
        return parts

    def put(self, parts: Iterable[str]) -> None:
        """Put back what was taken."""
        self._parts += parts

    def svg(self, title: str, told: str, *, links: bool = False) -> str:
        """Return the picture.

        Args:
            title: its name.
            told: what it shows, in words, for who cannot see it.
            links: whether it has any, and so is no image as a whole.
        """
        role = "group" if links else "img"
        size = f'width="{number(self.width)}" height="{number(self.height)}"'
        view = f'viewBox="0 0 {number(self.width)} {number(self.height)}"'
        name = escape(f"{title.rstrip('.')}. {told}".strip())
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" role="{role}" aria-label="{name}" {size} '
            f'{view} font-family="{_FONT}">{"".join(self._parts)}</svg>'
        )

    def _put(self, tag: str, attributes: str, told: str) -> None:
        end = f"><title>{escape(told)}</title></{tag}>" if told else "/>"
        self._parts.append(f"<{tag} {attributes}{end}")


def _filled(paint: str) -> tuple[str, str]:
    return f"f-{paint}", f' fill="{PAINTS[paint][0]}"'
