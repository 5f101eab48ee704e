"""Memory that a process frees stays with it for a while, so that the kernel clears no page twice.

PyTorch frees and takes tensors of hundreds of megabytes with every operator. Each comes from the
kernel anew, page by page, which takes several times as long as adding two of them. Nor does the
kernel look for large pages, which NumPy asks it for: where memory is in pieces, it moves others out
of the way, and to merge the maps of a large model took two thirds longer.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Of <malloc.h>: where trimming begins, and from which size on memory comes from the kernel.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_NEVER, _MOST = -1, (1 << 31) - 1
# Of <sys/prctl.h>.
_SET_NO_LARGE_PAGES, _GET_NO_LARGE_PAGES = 41, 42
# Where glibc's own thresholds, which it moves while a program runs, end.
_LAST_TRIM, _LAST_MMAP = 64 << 20, 32 << 20


@contextmanager
def memory_kept() -> Iterator[None]:
    """Let this process, and those it forks, keep what they free; give it back at the end.

    Of the allocator of Linux with glibc; elsewhere nothing changes. No value depends on it.
    """
    if not _has_mallopt():
        yield
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_MMAP_THRESHOLD, _MOST)
    libc.mallopt(_TRIM_THRESHOLD, _NEVER)
    before = _control(libc, _GET_NO_LARGE_PAGES)
    _control(libc, _SET_NO_LARGE_PAGES, 1)
    try:
        yield
    finally:
        _control(libc, _SET_NO_LARGE_PAGES, max(before, 0))
        libc.mallopt(_TRIM_THRESHOLD, _LAST_TRIM)
        libc.mallopt(_MMAP_THRESHOLD, _LAST_MMAP)
        libc.malloc_trim(0)


def give_back() -> None:
    """Give the kernel what is free: before a part of the work that takes much of other sizes.

    What tracing leaves behind is held by cycles: half a gigabyte of a large model's parameters.
    """
    gc.collect()
    if _has_mallopt():
        ctypes.CDLL(None).malloc_trim(0)


def _control(libc: ctypes.CDLL, option: int, value: int = 0) -> int:
    """Ask the kernel about this process; -1 where it does not know the option."""
    answer: int = libc.prctl(option, *map(ctypes.c_ulong, (value, 0, 0, 0)))
    return answer


def _has_mallopt() -> bool:
    """Whether there is glibc's allocator to talk to; musl has none of its names."""
    return sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt")
