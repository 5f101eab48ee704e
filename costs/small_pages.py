"""How a network lies on a small chip, as text and as facts for JSON."""

from __future__ import annotations

from typing import Any

from lapilli.costs import words
from lapilli.costs.obstacles import verdict
from lapilli.costs.small_chips import Share, SmallChip, SmallMap
from lapilli.costs.speck import on_speck
from lapilli.costs.xylo import on_xylo
from lapilli.ir.graph import Graph
from lapilli.ir.targets.speck import LayerChip


def put_on(graph: Graph, chip: SmallChip) -> SmallMap:
    """Put a network on a chip that takes all of it, and name what stands against it."""
    return on_speck(graph, chip) if isinstance(chip, LayerChip) else on_xylo(graph, chip)


def text(found: SmallMap) -> str:
    """Return for a terminal what each layer takes, and what the chip cannot hold or do."""
    name = found.chip.name
    rows = [_row(share, found) for share in found.shares]
    lines = ["", f"on {name}" + (f", a layer to a core of {found.cores}" if found.cores else "")]
    if rows:
        head = ("layer", "core", "takes") if found.cores else ("layer", "takes")
        lines += ["", *words.columns([head, *rows], text=len(head)), ""]
    lines += [str(obstacle) for obstacle in found.obstacles]
    lines.append(verdict(name, found.obstacles))
    return "\n".join([*lines, *found.notes]) + "\n"


def _row(share: Share, found: SmallMap) -> tuple[str, ...]:
    takes = ", ".join(
        f"{n:,} {what}" + (f" ({n / share.room[what]:.1%})" if what in share.room else "")
        for what, n in share.takes.items()
    )
    if not found.cores:
        return share.node, takes
    return share.node, "none" if share.core is None else str(share.core), takes


def facts(found: SmallMap) -> dict[str, Any]:
    """Return for JSON how a network lies on a small chip."""
    figures = found.chip.figures.items()
    return {
        "chip": found.chip.name,
        "fits": found.fits,
        "cores": found.cores,
        "figures": {
            what: {"most": f.high, "source": f.source, "grade": f.grade.value}
            for what, f in figures
        },
        "layers": [
            {"layer": s.node, "core": s.core, "takes": dict(s.takes), "room": dict(s.room)}
            for s in found.shares
        ],
        "obstacles": [{"node": o.node, "reason": o.reason} for o in found.obstacles],
        "notes": list(found.notes),
    }
