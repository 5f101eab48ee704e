"""Run the shards that are missing, and sum up when none is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from lapilli.deploy.comparison.compare import Pixels
from lapilli.deploy.validation.plan import Plan
from lapilli.deploy.validation.shard import Sides, validate_shard
from lapilli.deploy.validation.store import Store
from lapilli.deploy.validation.summary import summarise
from lapilli.export.atomic import write_atomic


def validate(
    store: Store,
    sides: Sides,
    plan: Plan,
    shards: Iterable[int],
    pixels: Pixels,
    labels: npt.NDArray[np.int64] | None,
    *,
    batch: int,
    stop: bool = False,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any] | None:
    """Run those of `shards` that neither are done nor belong to a running process.

    Args:
        store: where results go.
        sides: what is run.
        plan: how the images are divided.
        shards: which of them are this process's.
        pixels: all images.
        labels: of all, where known.
        batch: images at a time.
        stop: go no further than the first shard in which something differs.
        progress: called with the number of shards looked at.

    Returns:
        The summary, also written as summary.json, or None while shards are missing.
    """
    for count, shard in enumerate(shards, 1):
        with store.locked(shard) as mine:
            if mine and not store.is_done(shard):
                own = plan.samples(shard)
                part = slice(own.start, own.stop)
                known = None if labels is None else labels[part]
                store.write(shard, *validate_shard(sides, plan, shard, pixels[part], known, batch))
        if progress is not None:
            progress(count)
        if stop and store.is_done(shard):
            rows = store.read("samples", shard)
            if any(row["mismatches"] for row in rows):
                break
    if not all(store.is_done(shard) for shard in range(plan.shards)):
        return None
    graph = sides.network.graph
    classes = graph.types[graph.outputs[0]].shape[-1]
    facts = summarise(store, plan, classes, with_model=sides.witness is not None)
    write_atomic(store.folder / "summary.json", (json.dumps(facts, indent=2) + "\n").encode())
    return facts
