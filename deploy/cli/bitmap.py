"""Our own pictures as PNG, drawn by Pillow: boxes, circles, straight lines and text.

Pillow is there wherever lapilli is; what turns any SVG into pixels (cairosvg, resvg) would be one
dependency more. Other people's SVG is not read here.
"""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET

from PIL import Image, ImageColor, ImageDraw, ImageFont

_SCALE = 2  # pixels of one of the picture's units
_SPACE = "{http://www.w3.org/2000/svg}"
_PLACE = re.compile(r"([ML])([-\d.]+) ([-\d.]+)")
_ANCHORS = {"start": "ls", "middle": "ms", "end": "rs"}
_Box = tuple[float, float]


def png(svg: str) -> bytes:
    """Draw a picture of `lapilli.pictures` on white, two pixels for each of its units.

    Raises:
        ValueError: an element that these pictures do not have.
    """
    root = ET.fromstring(svg)
    size = (round(_number(root, "width") * _SCALE), round(_number(root, "height") * _SCALE))
    image = Image.new("RGB", size, "white")
    _inside(ImageDraw.Draw(image, "RGBA"), root, 0.0, 0.0)
    held = io.BytesIO()
    image.save(held, "PNG")
    return held.getvalue()


def _inside(draw: ImageDraw.ImageDraw, parent: ET.Element, x: float, y: float) -> None:
    for element in parent:
        match element.tag.removeprefix(_SPACE):
            case "svg":
                _inside(draw, element, x + _number(element, "x"), y + _number(element, "y"))
            case "rect":
                _rect(draw, element, x, y)
            case "circle":
                _circle(draw, element, x, y)
            case "path":
                _path(draw, element, x, y)
            case "text":
                _text(draw, element, x, y)
            case "title" | "style":
                pass  # for those who point at it, and for screens
            case other:
                raise ValueError(f"<{other}> is drawn by no picture here")


def _number(element: ET.Element, name: str) -> float:
    return float(element.get(name, "0").removesuffix("%"))


def _paint(element: ET.Element, name: str) -> tuple[int, ...] | None:
    colour = element.get(name, "none")
    if colour == "none":
        return None
    opacity = float(element.get("fill-opacity", "1")) if name == "fill" else 1.0
    return (*ImageColor.getrgb(colour)[:3], round(255 * opacity))


def _rect(draw: ImageDraw.ImageDraw, element: ET.Element, x: float, y: float) -> None:
    left, top = x + _number(element, "x"), y + _number(element, "y")
    right, foot = left + _number(element, "width"), top + _number(element, "height")
    draw.rectangle(
        [v * _SCALE for v in (left, top, right, foot)],
        fill=_paint(element, "fill"),
        outline=_paint(element, "stroke"),
        width=_SCALE,
    )


def _circle(draw: ImageDraw.ImageDraw, element: ET.Element, x: float, y: float) -> None:
    middle = (x + _number(element, "cx"), y + _number(element, "cy"))
    radius = _number(element, "r")
    ends = [m + side for side in (-radius, radius) for m in middle]
    draw.ellipse([v * _SCALE for v in ends], fill=_paint(element, "fill"))


def _path(draw: ImageDraw.ImageDraw, element: ET.Element, x: float, y: float) -> None:
    paint = _paint(element, "stroke")
    if paint is None:
        raise ValueError("a filled path is drawn by no picture here")
    width = max(1, round(_number(element, "stroke-width") * _SCALE))
    dashes = [float(part) for part in element.get("stroke-dasharray", "").split()]
    last: _Box | None = None
    for command, across, down in _PLACE.findall(element.get("d", "")):
        here = (x + float(across), y + float(down))
        if command == "L" and last is not None:
            for begin, end in _dashed(last, here, dashes):
                draw.line([v * _SCALE for v in (*begin, *end)], fill=paint, width=width)
        last = here


def _dashed(begin: _Box, end: _Box, dashes: list[float]) -> list[tuple[_Box, _Box]]:
    """Cut a line into its dashes."""
    along = (end[0] - begin[0], end[1] - begin[1])
    length = (along[0] ** 2 + along[1] ** 2) ** 0.5
    if not dashes or not length:
        return [(begin, end)]
    pieces, at, number = [], 0.0, 0
    while at < length:
        until = min(length, at + dashes[number % len(dashes)])
        if number % 2 == 0:
            ends = [(begin[0] + along[0] * t, begin[1] + along[1] * t)
                    for t in (at / length, until / length)]  # fmt: skip
            pieces.append((ends[0], ends[1]))
        at, number = until, number + 1
    return pieces


def _text(draw: ImageDraw.ImageDraw, element: ET.Element, x: float, y: float) -> None:
    text = "".join([element.text or "", *(child.tail or "" for child in element)])
    draw.text(
        ((x + _number(element, "x")) * _SCALE, (y + _number(element, "y")) * _SCALE),
        text,
        fill=_paint(element, "fill"),
        font=ImageFont.load_default(_number(element, "font-size") * _SCALE),
        anchor=_ANCHORS[element.get("text-anchor", "start")],
    )
