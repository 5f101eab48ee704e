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
NETWORKS = ("lapilli", "nir", "net", "onnx")
DATA = ("parquet", "cifar", "pickle", "idx", "idx-gz", "npz", "npy", "csv", "n-mnist",
        "events-npz", "events-npy")  # fmt: skip


def _fuzz(formats: tuple[str, ...], count: int) -> None:
    command = [sys.executable, "-m", "fuzz", "--count", str(count), "--only", *formats]
    here = os.pathsep.join([TESTS, os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "PYTHONPATH": here}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(formats) + 1
    for kind, line in zip(formats, lines, strict=False):
        assert line.startswith(f"{kind}: {count // len(formats)} files: ")
        assert "refused" in line
        assert "accepted" in line  # damage that changes nothing, or another valid file


def test_a_thousand_networks() -> None:
    _fuzz(NETWORKS, 1000)


def test_a_thousand_data_sets() -> None:
    pytest.importorskip("pyarrow")
    _fuzz(DATA, 1100)


@pytest.mark.slow
def test_a_hundred_thousand() -> None:
    _fuzz(NETWORKS, 100_000)


@pytest.mark.slow
def test_five_thousand_data_sets_of_each_format() -> None:
    pytest.importorskip("pyarrow")
    _fuzz(DATA, 5_000 * len(DATA))
