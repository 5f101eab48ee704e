"""What all shards say together."""

from __future__ import annotations

import json
from typing import Any

from lapilli.deploy.validation.plan import Plan
from lapilli.deploy.validation.store import Row, Store
from lapilli.ir.loihi import STATE_BITS

_SIDES = ("float", "pytorch", "integer")


def summarise(store: Store, plan: Plan, classes: int, *, with_model: bool) -> dict[str, Any]:
    """Return the facts of a complete validation; the same whatever order its shards had.

    Args:
        store: with all shards.
        plan: how they were divided.
        classes: how many the network has.
        with_model: whether there was PyTorch's side.
    """
    samples: list[Row] = []
    layers: dict[str, Row] = {}
    for shard in range(plan.shards):
        samples += store.read("samples", shard)
        for row in store.read("layers", shard):
            layers[row["node"]] = _together(layers.get(row["node"]), row)
    compared = sum(row["compared"] for row in samples)
    mismatches = sum(row["mismatches"] for row in samples)
    vacuous = [name for name, row in layers.items() if _is_vacuous(row)]
    told = [row["divergence"] for row in samples if row["divergence"] is not None]
    return {
        "images": len(samples),
        "verdict": _verdict(compared, mismatches, vacuous, with_model=with_model),
        "images_compared": sum(row["compared"] > 0 for row in samples),
        "compared": compared,
        "mismatches": mismatches,
        "images_that_differ": [row["sample"] for row in samples if row["mismatches"]],
        "first": json.loads(told[0]) if told else None,
        "vacuous": vacuous,
        "accuracy": {s: _accuracy(samples, s, classes) for s in _SIDES if _knows(samples, s)},
        "layers": {name: _layer(row) for name, row in layers.items()},
    }


def _verdict(compared: int, mismatches: int, vacuous: list[str], *, with_model: bool) -> str:
    if mismatches:
        return "differs"
    if vacuous:
        return "vacuous"
    if not with_model:
        return "not compared with PyTorch"
    return "exact" if compared else "nothing compared"


def _together(one: Row | None, other: Row) -> Row:
    if one is None:
        return dict(other)
    sums = {
        k: None if other[k] is None else one[k] + other[k]
        for k in ("events", "most", "compared", "mismatches")
    }
    ends = {
        k: None if other[k] is None else pick(one[k], other[k])
        for k, pick in (("lowest", min), ("highest", max))
    }
    return {"node": one["node"], **sums, **ends}


def _is_vacuous(row: Row) -> bool:
    """Return whether a layer was silent, saturated or at rest over the whole set."""
    if row["most"] is not None:
        return row["events"] in (0, row["most"])
    return row["lowest"] is not None and row["lowest"] == row["highest"]


def _layer(row: Row) -> dict[str, Any]:
    facts: dict[str, Any] = {"compared": row["compared"], "mismatches": row["mismatches"]}
    if row["most"]:
        facts["rate"] = row["events"] / row["most"]
    if row["lowest"] is not None:
        largest = max(abs(row["lowest"]), abs(row["highest"]))
        facts["largest_state"] = largest
        facts["headroom"] = 1 - largest / ((1 << (STATE_BITS - 1)) - 1)  # of Loihi's register
    return facts


def _knows(samples: list[Row], side: str) -> bool:
    return any(row[side] is not None and row["label"] is not None for row in samples)


def _accuracy(samples: list[Row], side: str, classes: int) -> dict[str, Any]:
    """Return right answers and the confusion: row is the label, column the answer."""
    known = [row for row in samples if row[side] is not None and row["label"] is not None]
    confusion = [[0] * classes for _ in range(classes)]
    for row in known:
        confusion[row["label"]][row[side][0]] += 1
    return {
        "of": len(known),
        "top1": sum(row[side][0] == row["label"] for row in known),
        "top5": sum(row["label"] in row[side] for row in known),
        "confusion": confusion,
    }
