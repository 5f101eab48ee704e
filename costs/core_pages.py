"""How a network is cut onto cores, as text and as facts for JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from lapilli.costs import words
from lapilli.costs.cores import CoreMap, Cut
from lapilli.costs.obstacles import verdict
from lapilli.costs.on_cores import OnCores
from lapilli.costs.placement import MOST, Placement
from lapilli.costs.report import CostReport
from lapilli.ir.targets.target import Resource


def text(found: CoreMap, report: CostReport, placed: Placement | None = None) -> str:
    """Return for a terminal how a network is cut onto cores, and these are put onto chips."""
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
    at_least = "at least " if found.unknown else ""
    bound = ", ".join(f"{r.value} {n:,}" for r, n in found.bound.items())
    below = f"; no cut takes fewer than {found.lowest:,} (by resource: {bound})" if bound else ""
    lines.append(f"this cut, a population to a core, takes {at_least}{found.cores:,} cores{below}")
    lines.append(_chips(found))
    if placed is not None and placed.chips > 1:
        lines += _placed(placed)
    if found.cores > MOST:
        lines.append(f"more than {MOST:,} cores are not put onto chips")
    return "\n".join(lines) + "\n"


def against_text(on: OnCores) -> str:
    """Return for a terminal what a chip cannot hold of a network, layer by layer, and a verdict."""
    head = [] if on.found is not None else ["", f"on {on.chip}: no cut, without binary neurons"]
    lines = [*head, *map(str, on.obstacles), verdict(on.chip, on.obstacles, on.unknown)]
    return "\n".join(lines) + "\n"


def against_facts(on: OnCores) -> dict[str, Any]:
    """Return for JSON what a chip cannot hold of a network, and of what nobody knows."""
    return {
        "chip": on.chip,
        "fits": not on.obstacles,
        "obstacles": [{"node": one.node, "reason": one.reason} for one in on.obstacles],
        "unknown": list(on.unknown),
    }


def _chips(found: CoreMap) -> str:
    fewest, most = found.chips
    if found.chip.count.low is None:
        return "how many cores a chip has is unknown"
    chips = f"{fewest:,}" if most == fewest else f"{fewest:,} to {most or words.UNKNOWN}"
    told = f"chips of {found.chip.count} cores: {chips}"
    if found.system:
        return f"{told}; the smallest system with as many as {fewest:,} is {found.system}"
    if not found.chip.systems:
        return told
    name, largest = list(found.chip.systems.items())[-1]
    return f"{told}; no system that is known has as many, the largest is {name} with {largest}"


def _placed(placed: Placement) -> Iterator[str]:
    most = "" if placed.measured else "at most, every neuron firing at every step, "
    share = words.share(placed.across / placed.messages) if placed.messages else "none"
    yield (
        f"on {placed.chips:,} chips, {most}{words.count(placed.messages)} messages from core to "
        f"core for an image, {words.count(placed.across)} of them from chip to chip ({share}); "
        f"chips filled in order {words.count(placed.in_order)}; no placement of these cores fewer "
        f"than {words.count(placed.lowest)}"
    )
    if placed.unmeasured and placed.measured:
        yield (
            f"of {len(placed.unmeasured):,} populations of planes, ANDs and ORs no run says how "
            "often they fire: they are taken to fire as often as their inputs allow"
        )
    if placed.every > 1:
        yield (
            f"of so many inputs each {placed.every}th was followed and stands for the others, so "
            "that messages are estimates"
        )


def _cut(found: CoreMap, cut: Cut, sent: Mapping[str, int], images: int) -> tuple[str, ...]:
    uses = []
    for resource in Resource:
        most = found.chip.each[resource].high
        need = cut.use[resource]
        uses.append(f"{need:,}" if most is None else f"{need / most:.1%}")
    known = images and cut.name in sent
    messages = words.count(sent[cut.name] * cut.hearers / images) if known else ""
    return cut.name, f"{cut.neurons:,}", f"{cut.cores:,}", *uses, messages


def facts(found: CoreMap, report: CostReport, placed: Placement | None = None) -> dict[str, Any]:
    """Return for JSON how a network is cut onto cores and chips.

    Messages of populations are of the whole run, those of the placement of one image.
    """
    sent = {row.node: row.counts.sent for row in report.rows}
    return {
        "chip": found.name,
        "neurons": found.neurons,
        "cores": found.cores,
        "lowest": found.lowest,
        "bound": {r.value: cores for r, cores in found.bound.items()},
        "chips": list(found.chips),
        "system": found.system,
        "systems": {
            name: {"least": f.low, "most": f.high, "source": f.source, "grade": f.grade.value}
            for name, f in found.chip.systems.items()
        },
        "placement": None if placed is None else _placement(placed),
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


def _placement(placed: Placement) -> dict[str, Any]:
    return {
        "chips": placed.chips,
        "cores_of_a_chip": placed.cores,
        "measured": placed.measured,
        "not_measured": list(placed.unmeasured),
        "every": placed.every,
        "messages": float(placed.messages),
        "between_chips": float(placed.across),
        "between_chips_in_order": float(placed.in_order),
        "lowest": float(placed.lowest),
        "chip_of_core": placed.chip.tolist(),
    }
