"""The same shards on Dask: workers run them, this process alone holds locks and writes files."""

from __future__ import annotations

import logging
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from lapilli.deploy.validation.run import Round, diverged, stored_divergence
from lapilli.deploy.validation.shard import Result
from lapilli.deploy.validation.store import Store
from lapilli.ir.errors import InputError, SimulatorFailedError

Submit = Callable[[Any, int], Any]  # client, shard -> future of a Result, or of a sentence
_ADDRESS = re.compile(r"((tcp|tls|ucx)://)?[\w.-]+:\d{1,5}")
_REACHED = 10.0  # seconds in which a scheduler answers
_JOINED = 60.0  # seconds in which at least one worker is there
_LOOK = 5.0  # seconds between looks at who is there
_BEFORE_SPAWN = "distributed.nanny.pre-spawn-environ"
_PROFILE = "distributed.worker.profile.enabled"  # looks at stacks 100 times a second; nobody reads
# A core each; and in place of Dask's early trimming one arena, so that pages stay with a worker.
_WORKER = {
    "MALLOC_ARENA_MAX": 1, "OMP_NUM_THREADS": 1, "MKL_NUM_THREADS": 1, "OPENBLAS_NUM_THREADS": 1,
}  # fmt: skip
_ASIDE = 2  # shards a thread: one runs, one waits


@contextmanager
def dask_client(workers: int | None, scheduler: str | None) -> Iterator[Any]:
    """Start `workers` processes here, or go to a scheduler that runs.

    Raises:
        InputError: it cannot be reached; says how to start one.
    """
    from dask import config
    from distributed import Client, LocalCluster

    with ExitStack() as stack:
        if scheduler is None:
            stack.enter_context(config.set({_BEFORE_SPAWN: _WORKER, _PROFILE: False}))
            cluster = stack.enter_context(
                LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    memory_limit=0,
                    dashboard_address="127.0.0.1:0",
                    silence_logs=logging.CRITICAL,
                )
            )
            yield stack.enter_context(Client(cluster))
            return
        if _ADDRESS.fullmatch(scheduler) is None:
            raise InputError(f"--scheduler {scheduler}: say HOST:PORT, or tcp://HOST:PORT")
        with _quiet():
            try:
                client = Client(scheduler, timeout=_REACHED)
            except (OSError, ValueError, TimeoutError) as error:
                raise InputError(
                    f"--scheduler {scheduler}: cannot be reached; start one with `dask scheduler`"
                ) from error
        yield stack.enter_context(client)


def run_on_cluster(
    store: Store,
    shards: Iterable[int],
    client: Any,
    submit: Submit,
    *,
    stop: bool = False,
    skipped: Callable[[int], None] | None = None,
    advance: Callable[[int], None] | None = None,
) -> Round:
    """Run on workers those of `shards` that neither are done nor belong to a running process.

    A worker that dies costs the shard that it ran: Dask gives it to another, a few times.

    Args:
        store: where results go.
        shards: numbers of shards.
        client: of Dask.
        submit: gives one to a worker.
        stop: go no further than the first divergence.
        skipped: called with the number of a shard that is not run.
        advance: called with the number of images that another shard had.

    Raises:
        InputError: the scheduler, or every worker, is gone.
        SimulatorFailedError: a worker cannot run a shard; says why.
    """
    found, waiting, crew = Round(), deque(shards), _Crew(client)
    with ExitStack() as stack:
        flying: dict[Any, tuple[int, ExitStack]] = {}
        stack.callback(_cancel, client, flying)
        while (waiting or flying) and found.first is None:
            if waiting and len(flying) < _ASIDE * crew.threads():
                shard = waiting.popleft()
                held = ExitStack()
                mine = held.enter_context(store.locked(shard))
                if mine and not store.is_done(shard):
                    flying[submit(client, shard)] = shard, stack.enter_context(held)
                    continue
                held.close()
                if not store.is_done(shard):
                    found.held.append(shard)
                found.first = stored_divergence(store, shard) if stop else None
                if skipped is not None:
                    skipped(shard)
                continue
            ended = [future for future in flying if future.done()]
            if not ended:
                crew.look()
                time.sleep(0.1)
            for future in ended:
                shard, held = flying.pop(future)
                with held:
                    result = _result(future, shard, found)
                    if result is None:
                        continue
                    store.write(shard, result)
                    if stop and found.first is None:
                        found.first = diverged(result.first)
                    if advance is not None:
                        advance(len(result.samples))
    return found


def _result(future: Any, shard: int, found: Round) -> Result | None:
    """Return what a worker found; None, and a word in `found`, if its workers died."""
    from distributed import KilledWorker

    if future.status in ("cancelled", "lost"):
        raise InputError("the scheduler is gone; what is done is kept, the same command goes on")
    if future.status != "error":
        result: Result | str = future.result()
        if isinstance(result, str):
            raise SimulatorFailedError(result)
        return result
    error = future.exception()
    if isinstance(error, KilledWorker):
        found.lost[shard] = "each worker that ran it died (of memory? then give a smaller --batch)"
        return None
    if isinstance(error, ImportError):
        raise SimulatorFailedError(
            f"a worker cannot run lapilli ({error}): install this version there, with its extras"
        ) from error
    raise error


class _Crew:
    """How many workers there are, asked now and then."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._threads, self._asked, self._seen = 0, 0.0, time.monotonic()

    def threads(self) -> int:
        """Return the threads of all workers; at least one, so that a shard waits for them."""
        self.look()
        return max(1, self._threads)

    def look(self) -> None:
        """Ask, if it is time.

        Raises:
            InputError: nobody answers, or nobody has been there for a minute.
        """
        now = time.monotonic()
        if self._asked and now - self._asked < _LOOK:
            return
        try:
            with _quiet():
                self._threads = sum(self._client.nthreads().values())
        except (OSError, TimeoutError, ValueError) as error:
            raise InputError(
                "the scheduler is gone; what is done is kept, the same command goes on"
            ) from error
        self._asked = now
        if self._threads:
            self._seen = now
        elif now - self._seen > _JOINED:
            raise InputError(
                f"the scheduler has had no worker for {_JOINED:.0f} s; start some with "
                "`dask worker ADDRESS --nthreads 1`; the same command goes on"
            )


def _cancel(client: Any, flying: dict[Any, Any]) -> None:
    if flying:
        with suppress(Exception), _quiet():  # the scheduler may be gone
            client.cancel(list(flying), force=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Dask's own words about what becomes a sentence here."""
    logger = logging.getLogger("distributed")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
