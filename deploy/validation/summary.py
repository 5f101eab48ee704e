"""What all shards say together."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lapilli.deploy.comparison.compare import added
from lapilli.deploy.validation.layers import Row, summed
from lapilli.deploy.validation.plan import Plan
from lapilli.deploy.validation.store import Store
from lapilli.ir.targets.lava import STATE

_SIDES = ("float", "pytorch", "integer")
_SUMS = (
    *("events", "most", "compared", "mismatches"),
    *("float_events", "float_compared", "float_mismatches"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What is known of a validation without its results.

    Attributes:
        classes: how many the network has.
        with_model: whether there is PyTorch's side.
        renamed: classes that the model calls otherwise: its name, the network's.
        warnings: what the network's recipe says against it.
        options: as the folder holds them.
    """

    classes: int
    with_model: bool
    renamed: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


def summarise(store: Store, plan: Plan, about: About) -> dict[str, Any]:
    """Return the facts of a complete validation; the same whatever order its shards had."""
    found = _Accuracies(about.classes)
    layers: dict[str, Row] = {}
    images = compared_images = compared = mismatches = 0
    differ: list[int] = []
    unreadable: list[str] = []
    first = None
    for shard in range(plan.shards):  # one at a time: a set of millions is no list in memory
        for row in store.read("samples", shard):
            images += 1
            compared_images += row["compared"] > 0
            compared += row["compared"]
            mismatches += row["mismatches"]
            if row["unreadable"] is not None:
                unreadable.append(row["unreadable"])
            if row["mismatches"]:
                differ.append(row["sample"])
            if first is None and row["divergence"] is not None:
                first = json.loads(row["divergence"])
            found.add(row)
        for row in store.read("layers", shard):
            layers[row["node"]] = _together(layers.get(row["node"]), row)
    vacuous = [name for name, row in layers.items() if _is_vacuous(row)]
    return {
        "images": images,
        "unreadable": unreadable,
        "verdict": _verdict(compared, mismatches, vacuous, about),
        "images_compared": compared_images,
        "compared": compared,
        "mismatches": mismatches,
        "kinds": {kind: list(counts) for kind, counts in _every_kind(layers).items()},
        "images_that_differ": differ,
        "first": first,
        "vacuous": vacuous,
        "renamed": [list(pair) for pair in about.renamed],
        "warnings": list(about.warnings),
        "accuracy": found.facts(),
        "layers": {name: _layer(row) for name, row in layers.items()},
        "options": dict(about.options),
    }


def _verdict(compared: int, mismatches: int, vacuous: list[str], about: About) -> str:
    if mismatches or about.renamed:
        return "differs"
    if vacuous:
        return "vacuous"
    if not about.with_model:
        return "not compared with PyTorch"
    return "exact" if compared else "nothing compared"


def _together(one: Row | None, other: Row) -> Row:
    if one is None:
        return dict(other)
    sums = {k: _both(one[k], other[k], lambda a, b: a + b) for k in _SUMS}
    lowest, highest = (
        _both(one[k], other[k], pick) for k, pick in (("lowest", min), ("highest", max))
    )
    kinds = added(_kinds(one), _kinds(other))
    return {
        "node": one["node"],
        **sums,
        "lowest": lowest,
        "highest": highest,
        "kinds": [{"kind": k, "compared": c, "mismatches": m} for k, (c, m) in kinds.items()],
        "step_events": summed(one["step_events"], other["step_events"]),
    }


def _every_kind(layers: Mapping[str, Row]) -> dict[str, tuple[int, int]]:
    return functools.reduce(added, map(_kinds, layers.values()), {})


def _kinds(row: Row) -> dict[str, tuple[int, int]]:
    """Values compared and different, by kind."""
    return {told["kind"]: (told["compared"], told["mismatches"]) for told in row["kinds"] or ()}


def _both(one: int | None, other: int | None, join: Any) -> int | None:
    """Join two numbers; a shard whose images could not be read has none."""
    if one is None or other is None:
        return other if one is None else one
    joined: int = join(one, other)
    return joined


def _is_vacuous(row: Row) -> bool:
    """Return whether a layer was silent, saturated or at rest over the whole set."""
    if row["most"] is not None:
        return row["events"] in (0, row["most"])
    return row["lowest"] is not None and row["lowest"] == row["highest"]


def _layer(row: Row) -> dict[str, Any]:
    facts: dict[str, Any] = {"compared": row["compared"], "mismatches": row["mismatches"]}
    if row["most"]:
        facts["rate"] = row["events"] / row["most"]
        steps = row["step_events"] or ()
        facts["rate_by_step"] = [events * len(steps) / row["most"] for events in steps]
    if row["float_compared"]:
        facts["rate_in_float"] = row["float_events"] / row["most"]
        facts["float_mismatch"] = row["float_mismatches"] / row["float_compared"]
    if row["lowest"] is not None:
        largest = max(abs(row["lowest"]), abs(row["highest"]))
        facts["lowest_state"], facts["highest_state"] = row["lowest"], row["highest"]
        facts["largest_state"] = largest
        facts["headroom"] = 1 - largest / STATE.largest  # of Loihi's register
    return facts


class _Accuracies:
    """Right answers of each side, and the confusion: row is the label, column the answer."""

    def __init__(self, classes: int) -> None:
        self._classes = classes
        self._facts: dict[str, dict[str, Any]] = {}

    def add(self, row: Row) -> None:
        """Count the answers of an image, where its label is known."""
        for side in _SIDES:
            if row["label"] is None or row[side] is None:
                continue
            if side not in self._facts:
                confusion = [[0] * self._classes for _ in range(self._classes)]
                self._facts[side] = {"of": 0, "top1": 0, "top5": 0, "confusion": confusion}
            facts, label, answers = self._facts[side], row["label"], row[side]
            facts["of"] += 1
            facts["top1"] += answers[0] == label
            facts["top5"] += label in answers
            facts["confusion"][label][answers[0]] += 1

    def facts(self) -> dict[str, dict[str, Any]]:
        """Return them by side: float, PyTorch's integers, the graph's."""
        return {side: self._facts[side] for side in _SIDES if side in self._facts}
