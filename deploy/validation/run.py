"""Run the shards that are missing, and sum up when none is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from lapilli.deploy.validation.plan import Plan
from lapilli.deploy.validation.shard import Result
from lapilli.deploy.validation.store import Store
from lapilli.deploy.validation.summary import About, summarise

Work = Callable[[int], Result]  # of the shard of this number


@dataclass(slots=True)
class Round:
    """What came of one process's shards.

    Attributes:
        held: shards that another process works on.
        lost: shards whose worker died, and why.
        first: the first divergence, where it was to end everything.
    """

    held: list[int] = field(default_factory=list)
    lost: dict[int, str] = field(default_factory=dict)
    first: dict[str, Any] | None = None


def run_here(
    store: Store,
    shards: Iterable[int],
    work: Work,
    *,
    stop: bool = False,
    skipped: Callable[[int], None] | None = None,
) -> Round:
    """Run those of `shards` that neither are done nor belong to a running process, in turn.

    Args:
        store: where results go.
        shards: numbers of shards.
        work: runs one.
        stop: go no further than the first divergence.
        skipped: called with the number of a shard that is not run.
    """
    found = Round()
    for shard in shards:
        with store.locked(shard) as mine:
            if mine and not store.is_done(shard):
                result = work(shard)
                if result.whole:
                    store.write(shard, result)
                found.first = diverged(result.first) if stop else None
            else:
                if not mine and not store.is_done(shard):
                    found.held.append(shard)
                if skipped is not None:
                    skipped(shard)
                found.first = stored_divergence(store, shard) if stop else None
        if found.first is not None:
            break
    return found


def diverged(told: str | None) -> dict[str, Any] | None:
    """Read a divergence as shards hold it."""
    if told is None:
        return None
    facts: dict[str, Any] = json.loads(told)
    return facts


def stored_divergence(store: Store, shard: int) -> dict[str, Any] | None:
    """Return the first divergence of a shard that is done."""
    if not store.is_done(shard):
        return None
    told = (row["divergence"] for row in store.read("samples", shard))
    return diverged(next((text for text in told if text is not None), None))


def finish(store: Store, plan: Plan, about: About) -> dict[str, Any] | None:
    """Write summary.json and return it, or None while shards are missing."""
    if not all(store.is_done(shard) for shard in range(plan.shards)):
        return None
    facts = summarise(store, plan, about)
    store.write_summary(facts)
    return facts
