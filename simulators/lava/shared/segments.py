"""Lava's shared memory: whether there is enough; what killed processes leave, removed.

A killed process cannot unlink its segments, and they would fill /dev/shm for good. They are
told from those of other runs by who has them open. Only Linux shows that.
"""

from __future__ import annotations

import mmap
import os
import platform
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from lapilli.ir.errors import SimulatorUnavailableError

SHARED_MEMORY = Path("/dev/shm")  # where Python's SharedMemory lives on Linux
CHANNEL_SLOTS = 2  # messages that a Lava channel holds; its default of 64 fills /dev/shm
REMEDY = "run fewer samples side by side (`batch`), or enlarge it"
_PREFIX = f"{SHARED_MEMORY}/psm_"  # the names it gives


def session_members(leader: int) -> tuple[int, ...]:
    """Processes of the session that this process leads; empty where /proc is missing."""
    members = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, IndexError):
            # pid (name, which may hold anything) state parent group session ...
            if int(entry.read_text().rpartition(")")[2].split()[3]) == leader:
                members.append(int(entry.parent.name))
    return tuple(members)


def of_processes(pids: Iterable[int]) -> set[str]:
    """Paths of the segments that any of these processes has open."""
    found = set()
    for pid in pids:
        with suppress(OSError):
            for descriptor in os.listdir(f"/proc/{pid}/fd"):
                with suppress(OSError):
                    found.add(os.readlink(f"/proc/{pid}/fd/{descriptor}"))
    return {path for path in found if path.startswith(_PREFIX) and not path.endswith("(deleted)")}


def unlink(paths: Iterable[str]) -> None:
    """Remove segments; those that are gone already are no fault."""
    for path in paths:
        with suppress(FileNotFoundError):
            os.unlink(path)


def room(messages: Iterable[int], processes: int) -> int:
    """Bytes of channels for messages of so many elements, of 32 bits, and of all the processes.

    A channel has whole pages for its messages and, measured, three more for its semaphores. Each
    process has two channels more, for commands and for answers.
    """
    sizes = [*(4 * CHANNEL_SLOTS * elements for elements in messages), *[1] * (2 * processes)]
    return mmap.PAGESIZE * sum(-(-size // mmap.PAGESIZE) + 3 for size in sizes)


def check_room(needed: int) -> None:
    """Make sure that `needed` bytes fit: without, Lava dies of a bus error.

    Raises:
        SimulatorUnavailableError: they do not, or there is no shared memory.
    """
    if platform.system() != "Linux":
        return
    try:
        free = shutil.disk_usage(SHARED_MEMORY).free
    except OSError as error:
        raise SimulatorUnavailableError(
            f"Lava's processes talk through {SHARED_MEMORY}, which cannot be used: {error}"
        ) from error
    if not os.access(SHARED_MEMORY, os.W_OK):
        raise SimulatorUnavailableError(
            f"Lava's processes talk through {SHARED_MEMORY}, which cannot be written to"
        )
    if needed > free:
        raise SimulatorUnavailableError(
            f"Lava needs {needed / 2**20:.1f} MiB of shared memory and {SHARED_MEMORY} has "
            f"{free / 2**20:.1f} MiB free: {REMEDY}"
        )
