"""Run a validation where it is to run, and say what came out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lapilli.deploy.cli.images import tell_order, tell_remembered
from lapilli.deploy.cli.progress import Bars
from lapilli.deploy.cli.remaining import Remaining
from lapilli.deploy.cli.validation_job import Job, Opened
from lapilli.deploy.validation.plan import slice_of
from lapilli.deploy.validation.run import Round, finish, run_here
from lapilli.deploy.validation.store import Store, stored_batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Which shards, and who runs them.

    Attributes:
        part: "K/N": those of machine K of N.
        workers: processes here that Dask starts; None for none.
        scheduler: address of Dask's, whose workers run them; None for none.
    """

    part: str
    workers: int | None
    scheduler: str | None


def validated(job: Job, out: Path, where: Where, *, stop: bool, quiet: bool) -> dict[str, Any]:
    """Run what is missing, and return the summary, or what speaks against one.

    Args:
        job: what is validated.
        out: folder of results.
        where: it runs.
        stop: go no further than the first divergence.
        quiet: say nothing on the way.

    Raises:
        LapilliError: what is given does not fit, or nobody can run it.
    """
    with Bars(quiet=quiet) as bars:
        # Memory decides how many images are shown at a time, once: another time, or in another
        # process, it would decide otherwise.
        job = replace(job, batch=job.batch or stored_batch(out))
        on_workers = where.workers is not None or where.scheduler is not None
        opened = job.open(bars.lava, elsewhere=on_workers)
        plan, data = opened.plan, opened.images.data
        tell_remembered(data.source, data.remembered, pictures=not data.found.binned)
        tell_order(data, opened.sides.network.classes, job.count)
        own = slice_of(where.part, plan.shards)
        store = Store(out, opened.options)
        total = sum(len(plan.samples(shard)) for shard in own)
        bars.stage("images", total)
        left = Remaining(total, bars, quiet=quiet)
        if on_workers:
            done = _on_cluster(job, opened, store, own, where, left, stop=stop)
        else:
            done = run_here(
                store,
                own,
                lambda shard: opened.run(shard, stop=stop, advance=left.advance),
                stop=stop,
                skipped=lambda shard: left.skip(len(plan.samples(shard))),
            )
    if done.first is not None:
        return {"verdict": "differs", "first": done.first, "ended": "at the first divergence"}
    about = replace(opened.about, options=opened.options)
    return finish(store, plan, about) or _incomplete(store, opened, done)


def _on_cluster(
    job: Job,
    opened: Opened,
    store: Store,
    own: Sequence[int],
    where: Where,
    left: Remaining,
    *,
    stop: bool,
) -> Round:
    from lapilli.deploy.cli.validation_worker import run_shard
    from lapilli.deploy.validation.cluster import dask_client, run_on_cluster

    job = replace(job, batch=opened.batch)
    missing = sum(not store.is_done(shard) for shard in own)
    workers = None if where.workers is None else max(1, min(where.workers, missing))

    def submit(client: Any, shard: int) -> Any:
        return client.submit(run_shard, job, opened.options, shard, stop=stop, pure=False)

    with dask_client(workers, where.scheduler) as client:
        return run_on_cluster(
            store,
            own,
            client,
            submit,
            stop=stop,
            skipped=lambda shard: left.skip(len(opened.plan.samples(shard))),
            advance=left.advance,
        )


def _incomplete(store: Store, opened: Opened, done: Round) -> dict[str, Any]:
    missing = [shard for shard in range(opened.plan.shards) if not store.is_done(shard)]
    return {
        "verdict": "incomplete",
        "shards": opened.plan.shards,
        "missing": missing,
        "held": done.held,
        "lost": {str(shard): why for shard, why in done.lost.items()},
    }
