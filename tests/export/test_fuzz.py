"""Damaged files by the thousand: `fuzz.py` says what is looked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("nir")


def _fuzz(count: int) -> None:
    command = [sys.executable, str(Path(__file__).with_name("fuzz.py")), "--count", str(count)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    lapilli, nir = done.stdout.splitlines()[:2]
    assert lapilli.startswith(f"lapilli: {count // 2} files: ")
    assert nir.startswith(f"nir: {count // 2} files: ")
    assert "accepted" in nir  # damage that changes nothing, or another valid file
    assert "refused" in lapilli
    assert "refused" in nir


def test_a_thousand() -> None:
    _fuzz(1000)


@pytest.mark.slow
def test_a_hundred_thousand() -> None:
    _fuzz(100_000)
