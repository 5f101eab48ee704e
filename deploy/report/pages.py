"""A report as a file: HTML that needs no other file, Markdown, or JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from enum import Enum
from fractions import Fraction
from html import escape
from pathlib import Path

from lapilli.deploy.report.layers import QuantizationReport
from lapilli.deploy.report.tables import Bars, Cell, Grid, grids, summary
from lapilli.ir.errors import OutputError
from lapilli.ir.version import __version__

_HEIGHT, _BAR = 24, 4  # pixels
_STYLE = """
body { font: 14px/1.4 sans-serif; margin: 2em; color: #222; }
table { border-collapse: collapse; margin-bottom: 2em; }
th, td { padding: 2px 8px; border-bottom: 1px solid #ddd; text-align: left; white-space: nowrap; }
td:last-child { white-space: normal; }
th { position: sticky; top: 0; background: #fff; }
tr.bad td { background: #fdd; }
svg { vertical-align: middle; } svg path { fill: #4878a8; } svg line { stroke: #c33; }
small { color: #777; }
"""


def page(report: QuantizationReport, path: Path) -> bytes:
    """Write a report as the name of a file asks for: .html, .md or .json.

    Raises:
        OutputError: another suffix.
    """
    return writer(path)(report).encode()


def writer(path: Path) -> Callable[[QuantizationReport], str]:
    """Find what writes such a file, before there is anything to be written.

    Raises:
        OutputError: another suffix than .html, .md or .json.
    """
    if (suffix := path.suffix.lower()) not in _WRITERS:
        raise OutputError(path, f"a report is {', '.join(_WRITERS)}, not {suffix!r}")
    return _WRITERS[suffix]


def html(report: QuantizationReport) -> str:
    """One page with its style and its drawings in it, and no script."""
    told = "".join(f"<p>{escape(sentence)}</p>\n" for sentence in summary(report))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>Quantization report</title><style>{_STYLE}</style></head>\n<body>"
        f"<h1>Quantization report</h1>\n<p><small>{escape(_about(report))}</small></p>\n{told}"
        f"{''.join(map(_html_table, grids(report)))}</body></html>\n"
    )


def _about(report: QuantizationReport) -> str:
    told = {name: value for name, value in report.options.items() if name != "classes"}
    options = ", ".join(f"{name} {value}" for name, value in told.items())
    return f"lapilli {__version__}; network {report.digest}; {options or 'no options'}"


def _html_table(grid: Grid) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in grid.columns)
    at = grid.columns.index("state") if "state" in grid.columns else None
    rows = []
    for row in grid.rows:
        bad = ' class="bad"' if at is not None and row[at] else ""
        cells = "".join(f"<td>{_html_cell(cell)}</td>" for cell in row)
        rows.append(f"<tr{bad}>{cells}</tr>\n")
    body = "".join(rows)
    return f"<h2>{escape(grid.title)}</h2>\n<table><tr>{head}</tr>\n{body}</table>\n"


def _html_cell(cell: Cell) -> str:
    if not isinstance(cell, Bars):
        return escape(cell)
    shown, mark = cell.histogram, ""
    most, width = max(shown.counts), _BAR * len(shown.counts)
    bars = "".join(
        f"M{_BAR * k} {_HEIGHT}v-{max(1, round(_HEIGHT * count / most))}h{_BAR - 1}V{_HEIGHT}z"
        for k, count in enumerate(shown.counts)
        if count
    )
    if cell.mark is not None and shown.lowest <= cell.mark < shown.beyond:
        x = f"{width * (cell.mark - shown.lowest) / (shown.beyond - shown.lowest):.1f}"
        mark = f'<line x1="{x}" x2="{x}" y1="0" y2="{_HEIGHT}"/>'
    return (
        f"<small>{shown.lowest}</small> "
        f'<svg width="{width}" height="{_HEIGHT}"><path d="{bars}"/>{mark}</svg>'
        f" <small>{shown.beyond - 1}</small>"
    )


def markdown(report: QuantizationReport) -> str:
    """Tables in which histograms are a few block characters."""
    told = "\n\n".join(map(_md, summary(report)))
    return f"# Quantization report\n\n{told}\n\n{_md(_about(report))}\n" + "".join(
        f"\n## {grid.title}\n\n{_row(grid.columns)}{_row(['---'] * len(grid.columns))}"
        + "".join(_row([_md(str(cell)) for cell in row]) for row in grid.rows)
        for grid in grids(report)
    )


def _row(cells: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |\n"


def _md(text: str) -> str:
    return escape(text, quote=False).replace("|", "\\|").replace("\n", " ").replace("_", "\\_")


def as_json(report: QuantizationReport) -> str:
    """Every field of a report; fractions as text."""
    told = asdict(report)
    for name in ("synapses", "neurons"):
        for row, layer in zip(told[name], getattr(report, name), strict=True):
            row["state"] = layer.state
    return json.dumps(told, indent=1, default=_plain) + "\n"


def _plain(value: object) -> object:
    if isinstance(value, Fraction):
        return str(value)
    if isinstance(value, Enum):
        return value.value
    raise TypeError(f"{value!r} is no field of a report")


_WRITERS: Mapping[str, Callable[[QuantizationReport], str]] = {
    ".html": html,
    ".md": markdown,
    ".json": as_json,
}
