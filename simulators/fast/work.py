"""What all layers of an executable share: threads, and memory."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from lapilli.simulators.fast.memory import Memory


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """As many threads as asked for, one of them the caller's own, and memory that is kept."""

    threads: int
    memory: Memory = field(default_factory=Memory)

    def parts(self, count: int, work: Callable[[int, int], object]) -> None:
        """Call `work(first, last)` for parts that make up 0..count; no value depends on them."""
        parts = min(self.threads, count)
        bounds = [count * i // parts for i in range(parts + 1)] if parts else []
        if parts == 1:
            work(0, count)
        elif parts:
            with ThreadPoolExecutor(parts) as pool:
                list(pool.map(work, bounds[:-1], bounds[1:]))
