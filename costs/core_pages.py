"""How a network is cut onto cores, as text and as facts for JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from lapilli.costs import words
from lapilli.costs.cores import CoreMap, Cut
from lapilli.costs.report import CostReport
from lapilli.ir.targets.target import Resource


def text(found: CoreMap, report: CostReport) -> str:
    """Return for a terminal how a network is cut onto cores."""
    chip = found.chip
    head = ("population", "neurons", "cores", *(r.value for r in Resource), "messages")
    sent = {row.node: row.counts.sent for row in report.rows}
    lines = [
        "",
        f"on {found.name}, as {found.neurons:,} binary neurons; use of the fullest core",
        "",
        *words.columns(
            [head, *(_cut(found, cut, sent, report.images) for cut in found.cuts)], text=1
        ),
        "",
    ]
    lines += [
        f"{cut.name} fits no core: one neuron takes "
        + ", ".join(f"{cut.use[r]:,} {r.value} of {chip.each[r]}" for r in cut.beyond)
        for cut in found.misfits
    ]
    at_least = "at least " if found.unknown else ""
    bound = ", ".join(f"{r.value} {n:,}" for r, n in found.bound.items())
    lines.append(
        f"this cut, a population to a core, takes {at_least}{found.cores:,} cores; no cut takes "
        f"fewer than {found.lowest:,} (by resource: {bound})"
    )
    fewest, most = found.chips
    chips = f"{fewest:,}" if most == fewest else f"{fewest:,} to {most or words.UNKNOWN}"
    lines.append(
        f"chips of {chip.count} cores: {chips}"
        + (
            f"; the smallest system with as many as {fewest:,} is {found.system}"
            if found.system
            else ""
        )
    )
    if found.unknown:
        lines.append(f"unknown, and not looked at: {', '.join(r.value for r in found.unknown)}")
    return "\n".join(lines) + "\n"


def _cut(found: CoreMap, cut: Cut, sent: Mapping[str, int], images: int) -> tuple[str, ...]:
    uses = []
    for resource in Resource:
        most = found.chip.each[resource].high
        need = cut.use[resource]
        uses.append(f"{need:,}" if most is None else f"{need / most:.1%}")
    known = images and cut.name in sent
    messages = words.count(sent[cut.name] * cut.hearers / images) if known else ""
    return cut.name, f"{cut.neurons:,}", f"{cut.cores:,}", *uses, messages


def facts(found: CoreMap, report: CostReport) -> dict[str, Any]:
    """Return for JSON how a network is cut onto cores; messages are of the whole run."""
    sent = {row.node: row.counts.sent for row in report.rows}
    return {
        "chip": found.name,
        "neurons": found.neurons,
        "cores": found.cores,
        "lowest": found.lowest,
        "bound": {r.value: cores for r, cores in found.bound.items()},
        "chips": list(found.chips),
        "system": found.system,
        "unknown": [r.value for r in found.unknown],
        "each": {
            r.value: {"least": f.low, "most": f.high, "source": f.source, "grade": f.grade.value}
            for r, f in found.chip.each.items()
        },
        "populations": [
            {
                "population": cut.name,
                "neurons": cut.neurons,
                "cores": cut.cores,
                "block": asdict(cut.block),
                "use": {r.value: n for r, n in cut.use.items()},
                "beyond": [r.value for r in cut.beyond],
                "hearers": float(cut.hearers),
                "messages": float(sent[cut.name] * cut.hearers) if cut.name in sent else None,
            }
            for cut in found.cuts
        ],
    }
