"""Which parameters of a checkpoint were taken, where it holds several sets."""

from __future__ import annotations

import shlex

from lapilli.ir.recipe import Json
from lapilli.model.loading.checkpoint import Checkpoint


def taken_from(checkpoint: Checkpoint) -> dict[str, Json]:
    """Say which entry of its file the parameters are of, where it has others."""
    if not checkpoint.others:
        return {}
    others: list[Json] = [f"{name} (--key {shlex.quote(name)})" for name in checkpoint.others]
    return {"taken": checkpoint.entry, "not taken": others}
