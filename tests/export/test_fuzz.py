"""Damaged files by the thousand: `fuzz/` says what is looked for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("nir")
pytest.importorskip("onnx")

TESTS = str(Path(__file__).parents[1])
FORMATS = ("lapilli", "nir", "net", "onnx")


def _fuzz(count: int) -> None:
    command = [sys.executable, "-m", "fuzz", "--count", str(count)]
    here = os.pathsep.join([TESTS, os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "PYTHONPATH": here}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    for kind, line in zip(FORMATS, done.stdout.splitlines(), strict=False):
        assert line.startswith(f"{kind}: {count // len(FORMATS)} files: ")
        assert "refused" in line
        assert "accepted" in line  # damage that changes nothing, or another valid file


def test_a_thousand() -> None:
    _fuzz(1000)


@pytest.mark.slow
def test_a_hundred_thousand() -> None:
    _fuzz(100_000)
