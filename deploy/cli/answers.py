"""What `run` says of the answers to one image: a class, a map of classes, or numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lapilli.ir.network import Network, Task
from lapilli.ir.tensor import IntArray

_CLASSES = 3  # of a map, that are named for people


def answer_facts(network: Network, label: Any, values: Mapping[str, IntArray]) -> dict[str, Any]:
    """The answers to one image, as JSON.

    Args:
        network: that gave them.
        label: the number of the class, or of each place's (H, W); None where there are no classes.
        values: integers of each answer, by name.
    """
    facts: dict[str, Any] = {}
    if network.task is Task.CLASSES:
        facts["answer"] = network.classes[int(label)]
    elif network.task is Task.MAP:
        facts["answer"] = label.tolist()
        facts["classes"] = shares(network, label)
    if not network.answers:
        return {**facts, "logits": next(iter(values.values())).tolist()}
    facts["answers"] = {
        answer.name: {"integers": values[answer.name].tolist(), "scale": str(answer.scale)}
        for answer in network.answers
    }
    return facts


def shares(network: Network, label: IntArray) -> dict[str, float]:
    """In which part of a map each class is found, the largest first."""
    found, counts = np.unique(label, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return {network.classes[int(found[i])]: float(counts[i] / label.size) for i in order}


def answer_text(facts: Mapping[str, Any]) -> str:
    """The same for people, in a line."""
    if "classes" in facts:
        parts = [f"{name} {share:.0%}" for name, share in facts["classes"].items()]
        more = f", {len(parts) - _CLASSES} more" if len(parts) > _CLASSES else ""
        return f"{', '.join(parts[:_CLASSES])}{more}"
    if "answer" in facts:
        return str(facts["answer"])
    named = facts.get("answers") or {"logits": {"integers": facts["logits"], "scale": "1"}}
    sizes = (
        f"{name} {' x '.join(map(str, np.shape(told['integers']))) or 1}"
        for name, told in named.items()
    )
    return f"{', '.join(sizes)}; --json gives the integers"
