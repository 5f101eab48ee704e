"""How a network lies on chips, for its report."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any

from lapilli.costs import chips, core_pages, small_pages
from lapilli.costs.cores import CoreMap
from lapilli.costs.on_cores import put_on_cores
from lapilli.costs.placement import Placement, place
from lapilli.costs.report import bounded
from lapilli.deploy.network_report.sources import Facts
from lapilli.ir.network import Network

USUAL = chips.CHIPS[0]
_PLACED = 1024  # cores that are put onto chips: as many as are drawn


def check_chip(name: str) -> None:
    """Refuse a chip that nobody knows, before anything is run.

    Raises:
        InputError, FormatError: see `costs.chips.chip`.
    """
    if name not in chips.SMALL:
        chips.chip(name)


def cores_on(network: Network, name: str, cost: Facts) -> tuple[str, Facts | str]:
    """Say how a network lies on a chip; or the sentence that says why it does not.

    Args:
        network: that is put on it.
        name: of the chip, or its file.
        cost: what the network costs, as JSON holds it; its run says what messages there are.

    Returns:
        The name that messages give the chip, and the facts.
    """
    graph = network.graph
    if (small := chips.SMALL.get(name)) is not None:
        return name, _plain(small_pages.facts(small_pages.put_on(graph, small)))
    own, chip = chips.chip(name)
    on = put_on_cores(graph, own, chip)
    if on.found is None:
        return own, "; ".join(map(str, on.obstacles))
    placed = _placed(on.found, graph.T, cost)
    facts = _plain(core_pages.facts(on.found, bounded(graph), placed))
    facts |= core_pages.against_facts(on)
    sent = {n["node"]: n["counts"]["sent"] for n in cost["nodes"]} if cost["images"] else {}
    for told in facts["populations"]:  # of the run that is told, and not of the bounds
        node = told["population"]
        told["messages"] = sent[node] * told["hearers"] if node in sent else None
    return own, facts


def _placed(found: CoreMap, T: int, cost: Facts) -> Placement | None:
    """Put cores onto chips, where they are few and the package for it is there."""
    if found.cores > _PLACED:
        return None
    rates = {
        n["node"]: Fraction(n["counts"]["sent"] * T, n["counts"]["updates"])
        for n in cost["nodes"]
        if cost["images"] and n["counts"]["updates"]
    }
    try:
        return place(found, T, rates or None)
    except ModuleNotFoundError:
        return None


def _plain(facts: dict[str, Any]) -> dict[str, Any]:
    """Facts as a file of JSON gives them."""
    plain: dict[str, Any] = json.loads(json.dumps(facts))
    return plain
