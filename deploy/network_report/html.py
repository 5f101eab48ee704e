"""The report as one HTML page: its style, its pictures and a few lines of script are in it.

A policy in its head lets nothing else be loaded, and no other script or style run.
"""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from lapilli.deploy.network_report.report import NetworkReport
from lapilli.ir.version import __version__
from lapilli.pictures.paint import PAINTS, style

_HERE = Path(__file__).resolve().parent
_KINDS = {"exact": "good", "differs": "bad", "vacuous": "bad"}


def html(report: NetworkReport, twin: str) -> str:
    """Write the page.

    Args:
        report: what it says.
        twin: name of the JSON file beside it.
    """
    made = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    made.filters["anchor"] = anchor
    sheet, script = _style(), (_HERE / "script.js").read_text("utf-8").strip()
    return made.get_template("page.html").render(
        report=report,
        kind=_KINDS.get(report.verdict, ""),
        twin=twin,
        version=__version__,
        style=Markup(sheet),  # of this package
        script=Markup(script),
        style_digest=_digest(sheet),
        script_digest=_digest(script),
    )


def anchor(name: str) -> str:
    """Return an identifier of a page for a name of anything, another one for each name.

    >>> anchor("weights-block.0"), anchor("weights-block-0")
    ('figure-weights-2d-block-2e-0', 'figure-weights-2d-block-2d-0')
    """
    return "figure-" + re.sub(r"[^A-Za-z0-9_]", lambda found: f"-{ord(found[0]):x}-", name)


def _style() -> str:
    """The style sheet, with the colours of the pictures."""
    light, dark = ("".join(f"--{name}:{both[k]};" for name, both in PAINTS.items()) for k in (0, 1))
    colours = f":root{{{light}}}@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}"
    return colours + style() + (_HERE / "style.css").read_text("utf-8").replace("\n", "")


def _digest(text: str) -> str:
    """Name a text as a security policy does."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
