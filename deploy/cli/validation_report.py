"""What `validate` prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lapilli.deploy.cli.frame import printable

_MOST = 12  # numbers of shards or names in a line


def print_validation(out: Path, facts: dict[str, Any]) -> None:
    """Print the verdict, counts, accuracy and layers; or which shards are missing."""
    _say(f"{out}: {facts['verdict']}")
    if facts["verdict"] == "incomplete":
        _print_missing(facts)
        return
    if (first := facts.get("first")) is not None:
        _say(first["text"])
    if "ended" in facts:
        _say("ended at the first divergence; without --stop the same command goes on")
        return
    _say(
        f"{facts['compared']:,} values of {facts['images_compared']:,} of {facts['images']:,} "
        f"images compared, {facts['mismatches']:,} mismatches"
    )
    if facts["unreadable"]:
        _say(f"{len(facts['unreadable']):,} images left out: {facts['unreadable'][0]}, ...")
    if facts["vacuous"]:
        _say(f"shows nothing about {_listed(facts['vacuous'])}: silent or saturated")
    for mine, other in facts["renamed"][:1]:
        _say(f"class names differ: expected {mine!r}, got {other!r}")
    for side, found in facts["accuracy"].items():
        _say(
            f"{side}: top-1 {found['top1'] / found['of']:.2%} ({found['top1']:,} of "
            f"{found['of']:,}), top-5 {found['top5'] / found['of']:.2%}"
        )
    _print_layers(facts["layers"])
    for warning in facts["warnings"]:
        _say(f"warning: {warning}")


def _print_layers(layers: dict[str, Any]) -> None:
    table = Table("layer", "rate", "in float", "spikes unlike float's", "headroom")
    for name, row in layers.items():
        shares = ("rate", "rate_in_float", "float_mismatch", "headroom")
        cells = [f"{row[key]:.2%}" if key in row else "" for key in shares]
        if any(cells):
            table.add_row(Text(printable(name)), *cells)
    Console().print(table)


def _print_missing(facts: dict[str, Any]) -> None:
    missing, held = facts["missing"], facts["held"]
    _say(
        f"{len(missing):,} of {facts['shards']:,} shards are missing ({_listed(missing)}): the "
        "same command goes on with them"
    )
    if held:
        _say(f"another process works on {_listed(held)}")
    for shard, why in facts["lost"].items():
        _say(f"shard {shard}: {why}")


def _listed(names: list[Any]) -> str:
    more = f", ... {len(names) - _MOST:,} more" if len(names) > _MOST else ""
    return ", ".join(map(str, names[:_MOST])) + more


def _say(text: str) -> None:
    Console().print(printable(text), markup=False, soft_wrap=True, highlight=False)
