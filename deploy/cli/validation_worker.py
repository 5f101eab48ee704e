"""What a worker of Dask runs: one shard of a job that it opens once."""

from __future__ import annotations

import platform
import threading
from typing import Any

from lapilli.deploy.cli.validation_job import Job, Opened
from lapilli.deploy.validation.shard import Result
from lapilli.ir.errors import LapilliError

_one_at_a_time = threading.Lock()  # a worker of several threads has one model all the same
_open: list[tuple[Job, Opened]] = []  # at most one: the last


def run_shard(job: Job, options: dict[str, Any], shard: int, *, stop: bool) -> Result | str:
    """Run a shard; what is foreseen comes back as a sentence, which travels as any text.

    Args:
        job: the validation.
        options: what results depend on, where it was started.
        shard: its number.
        stop: whether a divergence ends everything.
    """
    with _one_at_a_time:
        try:
            opened = _opened(job)
            odd = [key for key in options if opened.options.get(key) != options[key]]
            if odd:
                return (
                    f"{platform.node()}: finds another {', '.join(odd)} under the same path; "
                    "each machine needs the same network, model and data"
                )
            return opened.run(shard, stop=stop)
        except LapilliError as error:
            return f"{platform.node()}: {error}"


def _opened(job: Job) -> Opened:
    if not _open or _open[0][0] != job:
        _open[:] = [(job, job.open())]
    return _open[0][1]
