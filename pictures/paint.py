"""Colours, each by name in light and in dark, and the style that chooses between them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

# Text on the background: at least 4.5 : 1. Marks: at least 3 : 1, and told apart without colour
# vision: blue, orange, green, purple differ in lightness, too.
PAINTS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "ground": ("#ffffff", "#10161d"),
        "ink": ("#1b2530", "#e8edf3"),
        "quiet": ("#566372", "#a5b3c2"),
        "line": ("#d5dce4", "#33404e"),
        "edge": ("#8694a3", "#75869a"),
        "panel": ("#f3f6f9", "#19222c"),
        "heat": ("#5b9bd0", "#2c6aa3"),  # text in ink stands on it
        "one": ("#1f6fb2", "#62b0f0"),
        "two": ("#b4540a", "#f3a45c"),
        "three": ("#2a7d52", "#63c995"),
        "four": ("#7848a8", "#c19df0"),
        "wrong": ("#b91c2b", "#ff7a85"),
    }
)
SERIES = ("one", "two", "three", "four")  # in the order in which several are drawn


def style() -> str:
    """Return CSS that turns pictures dark on screens of those who asked for dark."""
    rules = "".join(
        f".f-{name}{{fill:{dark}}}.s-{name}{{stroke:{dark}}}" for name, (_, dark) in PAINTS.items()
    )
    return f"@media screen and (prefers-color-scheme:dark){{{rules}}}"


def standalone(svg: str) -> str:
    """Return a picture as a file of its own, with a background, in light and dark."""
    head, bracket, rest = svg.partition(">")
    ground = f'<rect class="f-ground" width="100%" height="100%" fill="{PAINTS["ground"][0]}"/>'
    return f"{head}{bracket}<style>{style()}</style>{ground}{rest}\n"
