"""Tables of notebooks: well formed, escaped, and never longer than a screen takes."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from lapilli.pictures.tables import folded, paragraphs, table


def test_names_are_escaped() -> None:
    shown = table(("a<b",), [("<script>", "&")], caption="x & y")
    root = ET.fromstring(shown)
    assert [e.text for e in root.iter("th")] == ["a<b"]
    assert [e.text for e in root.iter("td")] == ["<script>", "&"]
    assert root.findtext("caption") == "x & y"
    assert ET.fromstring(folded("a & b", shown)).findtext("summary") == "a & b"
    assert paragraphs(["1 < 2"]) == "<p>1 &lt; 2</p>"


def test_many_rows_are_counted() -> None:
    shown = ET.fromstring(f"<div>{table(('n',), [(n,) for n in range(1060)])}</div>")
    assert len(list(shown.iter("td"))) == 60
    assert shown.findtext("p") == "and 1,000 more"


def test_the_first_cell_names_a_row_without_a_head() -> None:
    root = ET.fromstring(table((), [("T", 4)]))
    assert root.find("thead") is None
    assert [(e.text, e.get("scope")) for e in root.iter("th")] == [("T", "row")]
