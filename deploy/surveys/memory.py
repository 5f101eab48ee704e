"""The memory that a process and all that descend from it take together, watched while it runs."""

from __future__ import annotations

import threading
import time
from pathlib import Path


class Weight(threading.Thread):
    """Watches the memory of this process and of all that descend from it.

    Attributes:
        most: the largest proportional set size of all of them together, in bytes: what several
            processes share is counted once.
        over: set it to end the watch.
        seconds: what watching has taken of the processor, which is no part of what is watched.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most = 0
        self.seconds = 0.0
        self.over = threading.Event()

    def run(self) -> None:
        """Look twice a second."""
        while not self.over.wait(0.5):
            self.most = max(self.most, sum(map(proportional, family())))
            self.seconds = time.thread_time()


def family() -> set[str]:
    """Numbers of this process and its descendants."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[entry.parent.name] = entry.read_text().rpartition(")")[2].split()[1]
        except OSError:  # it ended
            continue
    found = {str(Path("/proc/self").resolve().name)}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def proportional(pid: str) -> int:
    """Proportional set size in bytes; 0 if the process has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(x.split()[1]) << 10 for x in lines if x.startswith("Pss:")), 0)
