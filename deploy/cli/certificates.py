"""What is proved of a graph's numbers, beside what a target holds: for people, and as JSON."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lapilli.deploy.cli.frame import printable
from lapilli.ir.certificate import first_beyond, needs, widest
from lapilli.ir.graph import Graph
from lapilli.ir.targets.target import Limit, Register, Target, Unknown


def held_lines(graph: Graph, target: Target) -> list[str]:
    """Of each register of a target, what needs most of it."""
    return [
        f"{need.register.value}: {need.bits} of {need.limit} ({need.node})"
        for need in widest(needs(graph, target)).values()
    ]


def there(target: Target, register: Register) -> int | None:
    """Bits of a register; None if nobody says, or none is asked for."""
    limit = target.limits.get(register)
    return limit.bits if isinstance(limit, Limit) else None


def certificate_facts(graph: Graph, target: Target) -> dict[str, Any]:
    """What each node needs of a target's registers, as JSON."""
    found = needs(graph, target)
    rows = [
        {
            "node": need.node,
            "register": need.register.value,
            "values": [need.values.lo, need.values.hi],
            "bits": need.bits,
            "there": there(target, need.register),
            "holds": need.holds,
        }
        for need in found
    ]
    return {
        "target": target.name,
        "holds": first_beyond(found) is None,
        "unknown": [r.value for r, limit in target.limits.items() if isinstance(limit, Unknown)],
        "rows": rows,
    }


def print_certificate(facts: dict[str, Any]) -> None:
    """A row for each node and register, then whether the target holds them all."""
    table = Table("node", "register", "values", "bits needed", "bits there")
    for row in facts["rows"]:
        there = "unknown" if row["there"] is None else f"{row['there']}"
        bits = f"{row['bits']}" if row["holds"] is not False else f"[red]{row['bits']}[/]"
        name = Text(printable(row["node"]))
        table.add_row(name, row["register"], "{} to {}".format(*row["values"]), bits, there)
    console = Console()
    console.print(table)
    unknown = f"; unknown: {', '.join(facts['unknown'])}" if facts["unknown"] else ""
    said = "holds every number" if facts["holds"] else "does not hold every number"
    console.print(f"{facts['target']} {said}{unknown}")
