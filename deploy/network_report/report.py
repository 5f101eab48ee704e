"""The report: its sections in order, the verdict above them, and all of it as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lapilli.costs import words
from lapilli.deploy.network_report.runs import runs_of
from lapilli.deploy.network_report.section import Section, percent
from lapilli.deploy.network_report.sections import (
    accuracy,
    activity,
    cores,
    costing,
    equality,
    flow,
    headroom,
    integers,
    provenance,
    quantization,
)
from lapilli.deploy.network_report.sources import Sources
from lapilli.ir import ops
from lapilli.ir.version import __version__

_USUAL = "papers-float32"  # the prices that most papers take
_SECTIONS: tuple[Callable[[Sources], Section], ...] = (
    equality.section,
    accuracy.section,
    flow.section,
    activity.section,
    headroom.section,
    quantization.section,
    integers.section,
    costing.section,
    cores.section,
    provenance.section,
)


@dataclass(frozen=True, slots=True)
class Tile:
    """A number that is read first: what it is, the number, and a word more."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkReport:
    """All that the page says.

    Attributes:
        file: of the network; digest: of it.
        verdict: exact, differs, vacuous, or not compared; told: a sentence about that.
        tiles: the numbers that are read first.
        sections: in their order.
    """

    file: str
    digest: str
    verdict: str
    told: str
    tiles: tuple[Tile, ...]
    sections: tuple[Section, ...]

    def as_json(self) -> str:
        """Write every number of the page."""
        facts: dict[str, Any] = {
            "lapilli": __version__,
            "file": self.file,
            "digest": self.digest,
            "verdict": self.verdict,
            "told": self.told,
            "tiles": {tile.name: " ".join((tile.value, tile.note)).strip() for tile in self.tiles},
            "sections": {section.name: section.as_json() for section in self.sections},
        }
        return json.dumps(facts, indent=1) + "\n"


def report_of(sources: Sources) -> NetworkReport:
    """Make a report of what is known of a network."""
    runs = runs_of(sources)
    compared = [run for run in runs if run.compared]
    verdicts = {run.verdict for run in compared}
    order = ("differs", "vacuous", "exact")
    verdict = next((v for v in order if v in verdicts), "not compared")
    values = sum(run.compared for run in compared)
    differ = sum(run.mismatches for run in compared)
    told = {
        "exact": f"{values:,} values were compared, and not one differs.",
        "differs": f"{differ:,} of {values:,} compared values differ.",
        "vacuous": f"None of {values:,} compared values differs, but some layers show nothing.",
        "not compared": "Nobody has compared a run of this network with another.",
    }[verdict]
    if verdict == "differs" and not differ:
        told = f"None of {values:,} compared values differs, but names of classes do."
    return NetworkReport(
        file=sources.file,
        digest=sources.network.digest,
        verdict=verdict,
        told=told,
        tiles=(*_answers(sources), *_shape(sources), *_cost(sources)),
        sections=tuple(section(sources) for section in _SECTIONS),
    )


def _answers(sources: Sources) -> list[Tile]:
    for results in sources.results:
        sides = results.summary["accuracy"]
        if "integer" in sides and sides["integer"]["of"]:
            shares = {side: found["top1"] / found["of"] for side, found in sides.items()}
            note = f"float {percent(shares['float'])}" if "float" in shares else ""
            return [Tile("Top-1 of integers", percent(shares["integer"]), note)]
    of = sources.answers.get("labelled")
    if not of or "integer_right" not in sources.answers:
        return []
    right = sources.answers.get("float_right")
    note = "" if right is None else f"float {percent(right / of)}"
    return [Tile("Top-1 of integers", percent(sources.answers["integer_right"] / of), note)]


def _shape(sources: Sources) -> list[Tile]:
    graph = sources.network.graph
    layers = [n.name for n in graph.nodes if isinstance(n.op, ops.Firing)]
    neurons = sum(math.prod(graph.types[name].shape) for name in layers)
    synapses = [n.op for n in graph.nodes if isinstance(n.op, ops.Weighted)]
    weights = sum(op.weight.array.size for op in synapses)
    bits = max((op.weight.mantissa.range.bits for op in synapses), default=0)
    return [
        Tile("Neurons", words.count(neurons), f"in {len(layers)} layers, T = {graph.T}"),
        Tile("Weights", words.count(weights), f"of at most {bits} bits"),
    ]


def _cost(sources: Sources) -> list[Tile]:
    cost = sources.cost
    if cost is None or not cost["images"]:
        return []
    operations = round(cost["synaptic_operations"] / cost["images"])
    tiles = [Tile("Synaptic operations", words.count(operations), "of an image, exact")]
    known = [r for r in cost["ranges"] if r["lowest"] > 0]
    if known:
        low, high = min(r["lowest"] for r in known), max(r["highest"] for r in known)
        span = f"{words.energy(low)} to {words.energy(high)} by all models"
        usual = [e["picojoules"] for e in cost["energy"] if e["table"] == _USUAL]
        value = next((words.energy(pj) for pj in usual if pj is not None), words.UNKNOWN)
        tiles.append(Tile("Energy of an image", value, f"by {_USUAL}; {span}"))
    return tiles
