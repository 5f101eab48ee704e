"""Pictures are well-formed, say in words what they show, and their marks are their numbers."""

from __future__ import annotations

import itertools
import re
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from lapilli.pictures.axis import linear, logarithmic
from lapilli.pictures.charts import Series, Span, bars, histogram, spans
from lapilli.pictures.flow import Box, flow
from lapilli.pictures.heat import heat
from lapilli.pictures.paint import PAINTS, SERIES, standalone, style
from lapilli.pictures.spikes import Trace, raster, traces

SVG = "{http://www.w3.org/2000/svg}"
TOLD: Any = {"title": "A title", "told": 'What "it" shows & <how>.'}


def parsed(svg: str) -> ET.Element:
    root = ET.fromstring(svg)
    assert root.tag == f"{SVG}svg"
    assert root.get("role") == "img"
    assert root.get("aria-label") == 'A title. What "it" shows & <how>.'
    width, height = float(root.get("width", "")), float(root.get("height", ""))
    assert root.get("viewBox") == f"0 0 {root.get('width')} {root.get('height')}"
    for rect in root.iter(f"{SVG}rect"):  # nothing is drawn outside
        x, y = float(rect.get("x", "")), float(rect.get("y", ""))
        assert 0 <= x <= x + float(rect.get("width", "")) <= width + 0.01
        assert 0 <= y <= y + float(rect.get("height", "")) <= height + 0.01
    for text in root.iter(f"{SVG}text"):
        if not _is_turned(root, text):
            words = "".join(text.itertext()).removeprefix(text.findtext(f"{SVG}title") or "")
            size, x = float(text.get("font-size", "")), float(text.get("x", ""))
            long = len(words) * size * 0.5
            before = {"start": 0.0, "middle": long / 2, "end": long}[text.get("text-anchor", "")]
            assert -1 <= x - before <= x - before + long <= width + 1, words
    return root


def _is_turned(root: ET.Element, text: ET.Element) -> bool:
    return any(text in list(group) for group in root.iter(f"{SVG}g"))


def marks(root: ET.Element, tag: str = "rect") -> list[ET.Element]:
    return [e for e in root.iter(f"{SVG}{tag}") if e.get("data-value") is not None]


def numbers(root: ET.Element, tag: str = "rect") -> list[float]:
    return [float(e.get("data-value", "")) for e in marks(root, tag)]


def test_bars_are_as_long_as_their_numbers() -> None:
    values = [0.25, None, 1.0]
    root = parsed(bars(["a", "b", "<c>"], [Series("x", values), Series("y", [0, 0.5, 2])], **TOLD))
    assert numbers(root) == [0.25, 0.0, 0.5, 1.0, 2.0]
    lengths = [float(e.get("width", "")) for e in marks(root)]
    for value, length in zip(numbers(root), lengths, strict=True):
        assert length == pytest.approx(lengths[-1] * value / 2, abs=0.02)
    assert "<c>" in list(root.itertext())
    heads = [float(e.get("y", "")) for e in marks(root)]
    feet = [y + float(e.get("height", "")) for y, e in zip(heads, marks(root), strict=True)]
    assert all(
        foot <= head for foot, head in zip(feet, heads[1:], strict=False)
    )  # none over another


def test_bars_begin_at_nought_and_limits_are_on_the_same_scale() -> None:
    root = parsed(bars(["a"], [Series("x", [-4.0])], limits={"register": 8.0}, **TOLD))
    (bar,) = marks(root)
    (line,) = [p for p in root.iter(f"{SVG}path") if p.get("stroke-dasharray")]
    end = float(re.match(r"M([\d.]+)", line.get("d", ""))[1])  # type: ignore[index]
    zero = float(bar.get("x", "")) + float(bar.get("width", ""))
    assert end - zero == pytest.approx(2 * float(bar.get("width", "")), abs=0.05)


def test_a_histogram_counts() -> None:
    root = parsed(histogram(-2, 1, [1, 0, 4], marks={"threshold": 1}, **TOLD))
    assert numbers(root) == [1, 0, 4]
    heights = [float(e.get("height", "")) for e in marks(root)]
    assert heights[1] == 0
    assert heights[2] == pytest.approx(4 * heights[0], abs=0.05)


def test_spans_are_on_a_logarithmic_scale() -> None:
    root = parsed(spans([Span("a", 1, 10, 5), Span("b", 10, 100)], **TOLD))
    one, two = marks(root)
    assert float(one.get("width", "")) == pytest.approx(float(two.get("width", "")), abs=0.02)
    assert numbers(root, "circle") == [5]


def test_a_heat_map_has_a_cell_for_each_number() -> None:
    root = parsed(heat(["a", "b"], ["x", "y"], [[0, 1], [None, 4]], **TOLD))
    assert numbers(root) == [0, 1, 4]
    shades = [float(e.get("fill-opacity", "1")) for e in marks(root)]
    assert shades == [0, 0.25, 1]


def test_a_raster_shows_every_spike_and_where_two_runs_differ() -> None:
    mine, other = np.array([[1, 0, -1], [0, 2, 0]]), np.array([[1, 1, -1], [0, 0, 0]])
    assert numbers(parsed(raster(mine, labels=["a", "b"], **TOLD))) == [1, -1, 2]
    both = parsed(raster(mine, other=other, marked=(0, 1), **TOLD))
    theirs = [e for e in marks(both) if "other" in e.get("class", "").split()]
    assert [e.get("data-value") for e in theirs] == ["1"]
    own = [e for e in marks(both) if e not in theirs]
    assert [e.get("data-value") for e in own] == ["1", "-1", "2"]
    hollow = ["f-ground" in e.get("class", "").split() for e in own]
    assert hollow == [False, False, True]  # what one run alone sent


def test_traces_go_through_their_numbers() -> None:
    lines = [Trace("expected", [0, 5, 10]), Trace("got", [0, 5, None])]
    root = parsed(traces(lines, levels={"a long threshold": 8}, marked=2, first_step=3, **TOLD))
    assert numbers(root, "circle") == [0, 5, 10, 0, 5]
    heights = [float(e.get("cy", "")) for e in marks(root, "circle")]
    assert heights[0] - heights[1] == pytest.approx(heights[1] - heights[2], abs=0.02)
    assert {"3", "4", "5"} <= {t.text for t in root.iter(f"{SVG}text")}


def test_nothing_to_show_is_a_picture_too() -> None:
    for svg in (bars([], [Series("x", [])], **TOLD), histogram(0, 1, [], **TOLD),
                heat([], [], [], **TOLD), raster(np.zeros((2, 0), np.int64), **TOLD),
                traces([], **TOLD), bars(["a"], [Series("x", [0])], **TOLD),
                traces([Trace("a", [7, 7])], **TOLD)):  # fmt: skip
        parsed(svg)


@pytest.mark.parametrize("scale", [linear(-3, 17, 0, 100), logarithmic(3, 4e5, 0, 100)])
def test_ticks_are_round_and_inside(scale: object) -> None:
    from lapilli.pictures.axis import Scale

    assert isinstance(scale, Scale)
    ticks = scale.ticks()
    assert 2 <= len(ticks) <= 8
    assert all(scale.low <= t <= scale.high for t in ticks)
    assert all(0 <= scale.at(t) <= 100 for t in ticks)


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    lit = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * lit[0] + 0.7152 * lit[1] + 0.0722 * lit[2]


@pytest.mark.parametrize("mode", [0, 1])
def test_colours_are_seen(mode: int) -> None:
    def contrast(one: str, other: str) -> float:
        lit = sorted(_luminance(PAINTS[name][mode]) for name in (one, other))
        return (lit[1] + 0.05) / (lit[0] + 0.05)

    for ground in ("ground", "panel"):
        assert all(contrast(text, ground) >= 4.5 for text in ("ink", "quiet", "wrong", *SERIES))
    assert contrast("edge", "ground") >= 3
    assert contrast("ink", "heat") >= 4.5


def test_every_colour_has_a_dark_one_and_a_picture_stands_alone() -> None:
    alone = standalone(heat(["a"], ["x"], [[1.0]], **TOLD))
    root = ET.fromstring(alone)
    sheet = root.find(f"{SVG}style")
    assert sheet is not None
    assert sheet.text == style()
    classes = {c for e in root.iter() for c in e.get("class", "").split()}
    painted = {c for c in classes if c[:2] in ("f-", "s-")}
    assert painted
    assert all(f".{c}{{" in style() for c in painted)
    assert "http" not in alone.replace("http://www.w3.org/2000/svg", "")


def test_boxes_stand_below_what_leads_to_them_and_apart() -> None:
    boxes = [Box(name, (name, "Linear"), told=f"all of {name}") for name in "gabcdef"]
    edges = [("a", "b"), ("a", "c"), ("a", "d"), ("b", "e"), ("c", "e"), ("e", "f"), ("d", "f"),
             ("a", "f"), ("g", "f")]  # fmt: skip
    root = parsed(flow(boxes, edges, **TOLD))
    held = {e.get("data-value", ""): e for e in marks(root)}
    assert set(held) == set("abcdefg")

    def span(name: str, axis: str, length: str) -> tuple[float, float]:
        begin = float(held[name].get(axis, ""))
        return begin, begin + float(held[name].get(length, ""))

    for one, other in edges:
        assert span(one, "y", "height")[1] < span(other, "y", "height")[0]
    for one, other in itertools.combinations("abcdefg", 2):
        (x1, x2), (x3, x4) = span(one, "x", "width"), span(other, "x", "width")
        (y1, y2), (y3, y4) = span(one, "y", "height"), span(other, "y", "height")
        assert x2 < x3 or x4 < x1 or y2 < y3 or y4 < y1
    lines = [p for p in root.iter(f"{SVG}path") if p.get("fill") == "none"]
    assert len(lines) == len(edges)
    for line in lines:
        across = [float(x) for x in re.findall(r"[MC ]([-\d.]+) [-\d.]+", line.get("d", ""))]
        assert 0 <= min(across) <= max(across) <= float(root.get("width", ""))


def test_a_box_can_lead_elsewhere() -> None:
    root = ET.fromstring(flow([Box("a", ("a",), link="block-a")], [], **TOLD))
    assert root.get("role") == "group"
    assert [a.get("href") for a in root.iter(f"{SVG}a")] == ["#block-a"]
    assert parsed(flow([], [], **TOLD)) is not None
