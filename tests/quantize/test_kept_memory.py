"""What is freed inside comes back without the kernel; outside, and elsewhere, nothing changes."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from typing import Any

import pytest

from lapilli.quantize import kept_memory
from lapilli.quantize.kept_memory import give_back, memory_kept

# Pages that the kernel hands out for arrays of 64 MiB that are made and freed one after the other.
_PROGRAM = """
import resource
import numpy as np
from lapilli.quantize.kept_memory import memory_kept

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        np.full(1 << 23, 1.0)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

with memory_kept():
    faults()
    print(faults())
"""


@pytest.mark.skipif(not kept_memory._has_mallopt(), reason="another allocator")
def test_pages_are_asked_for_once() -> None:
    """In a process of its own: what an allocator holds depends on what came before."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], check=True, capture_output=True, text=True
    )
    assert int(done.stdout) < 256  # without, 4,352 and more


_RESIDENT = """
import numpy as np
from lapilli.quantize.kept_memory import give_back, memory_kept

def resident():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))

with memory_kept():
    np.full(1 << 25, 1.0)
    before = resident()
    give_back()
    print(before - resident())
"""


@pytest.mark.skipif(not kept_memory._has_mallopt(), reason="another allocator")
def test_what_is_free_goes_back_when_asked() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _RESIDENT], check=True, capture_output=True, text=True
    )
    assert int(done.stdout) > 250_000  # KiB, of 262,144


def test_an_error_ends_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[tuple[int, int]] = []

    class Allocator:
        def mallopt(self, which: int, value: int) -> int:
            said.append((which, value))
            return 1

        def malloc_trim(self, pad: int) -> int:
            said.append((0, pad))
            return 1

        def prctl(self, option: int, value: Any, *_: Any) -> int:
            said.append((option, value.value))
            return 1  # large pages were not asked for before

    monkeypatch.setattr(kept_memory, "_has_mallopt", lambda: True)
    monkeypatch.setattr(ctypes, "CDLL", lambda _: Allocator())
    with pytest.raises(KeyError), memory_kept():
        raise KeyError
    inside = [(-3, (1 << 31) - 1), (-1, -1), (42, 0), (41, 1)]
    assert said == [*inside, (41, 1), (-1, 64 << 20), (-3, 32 << 20), (0, 0)]


_LARGE_PAGES = """
from lapilli.quantize.kept_memory import memory_kept

def allowed():
    with open("/proc/self/status") as status:
        return [line.split()[1] for line in status if line.startswith("THP_enabled")]

print(*allowed())
with memory_kept():
    print(*allowed())
print(*allowed())
"""


@pytest.mark.skipif(not kept_memory._has_mallopt(), reason="another allocator")
def test_no_large_pages_are_looked_for() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LARGE_PAGES], check=True, capture_output=True, text=True
    )
    before, inside, after = done.stdout.split("\n")[:3]
    if not before:
        pytest.skip("this kernel does not say")
    assert inside == "0"
    assert after == before


def test_another_allocator_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_memory, "_has_mallopt", lambda: False)
    monkeypatch.setattr(ctypes, "CDLL", lambda _: 1 / 0)
    with memory_kept():
        give_back()
