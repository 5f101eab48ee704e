"""`validate` on Dask: the same bytes as in one process, and what a dead worker costs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("torch")
pytest.importorskip("distributed")

from distributed import LocalCluster

from lapilli.deploy.cli import frame, validation_job
from lapilli.deploy.cli.app import app
from lapilli.deploy.validation import cluster as on_dask
from lapilli.export.native import save_network

if TYPE_CHECKING:
    from lapilli.model.digits import Split
    from lapilli.quantize import Quantized

CHECKPOINT = Path(__file__).parents[2] / "model" / "checkpoints" / "digits_spikformer.safetensors"
RESULTS = ("samples/*.parquet", "layers/*.parquet", "*.json")
# It kills the process that runs it, as often as the file beside it says.
SIMULATOR = """
import os, pathlib, signal
from lapilli.simulators.reference import Reference

class Runs:
    def __init__(self, executable):
        self.executable = executable

    def run(self, inputs):
        for left in sorted(pathlib.Path(__file__).parent.glob("kill.*")):
            left.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.executable.run(inputs)

class Kills:
    name = "kills"

    def compile(self, graph):
        return Runs(Reference().compile(graph))
"""


@pytest.fixture(scope="module")
def files(
    tmp_path_factory: pytest.TempPathFactory, spikformer: Quantized, test_split: Split
) -> Path:
    folder = tmp_path_factory.mktemp("cluster")
    save_network(spikformer.network, folder / "net.lapilli")
    np.savez(folder / "set.npz", images=test_split.images[:24], labels=test_split.labels[:24])
    (folder / "simulator.py").write_text(SIMULATOR)
    return folder


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """Two workers of one thread each, as `dask worker --nthreads 1` starts them."""
    cluster = LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        dashboard_address="127.0.0.1:0",
        memory_limit=0,
        silence_logs=50,
    )
    with cluster:
        yield cluster.scheduler_address


def _run(files: Path, out: Path, *more: str, status: int = 0) -> None:
    words = ["validate", str(files / "net.lapilli"), "--data", str(files / "set.npz")]
    words += ["--shard-size", "4", "-o", str(out), *more]
    assert frame.run(app, words) == status


def _files(folder: Path) -> dict[str, bytes]:
    found = [path for pattern in RESULTS for path in folder.glob(pattern)]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def _processes(folder: Path) -> set[int]:
    return {json.loads(p.read_text())["process"] for p in (folder / "times").iterdir()}


def test_the_same_bytes_as_in_one_process(files: Path, scheduler: str, tmp_path: Path) -> None:
    model = ("--checkpoint", str(CHECKPOINT), "--simulator", "reference")
    _run(files, tmp_path / "here", *model)
    _run(files, tmp_path / "there", *model, "--scheduler", scheduler)
    expected = _files(tmp_path / "here")
    assert len(expected) == 2 * 6 + 2
    assert json.loads(expected["summary.json"])["verdict"] == "exact"
    assert _files(tmp_path / "there") == expected
    assert len(_processes(tmp_path / "there")) == 2
    assert not _processes(tmp_path / "there") & _processes(tmp_path / "here")


def test_workers_take_the_batch_that_was_found_where_it_began(
    files: Path, scheduler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process, or the same one a second later, finds other memory free."""
    monkeypatch.setattr(validation_job, "affordable_batch", lambda graph: 6)
    _run(files, tmp_path / "r", "--simulator", "reference", "--scheduler", scheduler)
    options = json.loads((tmp_path / "r/options.json").read_text())
    assert options["batch"] == 3


def test_a_dead_worker_costs_its_shard(files: Path, scheduler: str, tmp_path: Path) -> None:
    own = ("--simulator", f"{files}/simulator.py:Kills")
    _run(files, tmp_path / "here", *own)
    (files / "kill.1").touch()
    _run(files, tmp_path / "there", *own, "--scheduler", scheduler)
    assert not list(files.glob("kill.*"))
    assert _files(tmp_path / "there") == _files(tmp_path / "here")


def test_a_shard_that_kills_every_worker_is_named(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = ("--simulator", f"{files}/simulator.py:Kills")
    one = ("--workers", "1", "--shard", "6/6")
    for i in range(4):
        (files / f"kill.{i}").touch()
    capsys.readouterr()
    _run(files, tmp_path / "r", *own, *one, status=1)
    assert not list(files.glob("kill.*"))
    said = capsys.readouterr()
    assert "shard 5: each worker that ran it died" in " ".join(said.out.split())
    assert "Traceback" not in said.err
    _run(files, tmp_path / "r", *own)
    assert len(_files(tmp_path / "r")) == 2 * 6 + 2


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--scheduler", "127.0.0.1:1"], "cannot be reached; start one with `dask scheduler`"),
        (["--scheduler", "no address"], "say HOST:PORT"),
        (["--scheduler", "a:1", "--workers", "2"], "not both"),
    ],
)
def test_a_scheduler_that_cannot_be_reached(
    words: list[str],
    sentence: str,
    files: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(on_dask, "_REACHED", 0.5)
    _run(files, tmp_path / "r", *words, status=2)
    assert sentence in capsys.readouterr().err
    _run(files, tmp_path / "r")


def test_a_worker_that_finds_other_data_says_so(
    files: Path, scheduler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lapilli.deploy.cli.validation_job import Job

    real = Job.open

    def other(self: Job, *given: Any, **named: Any) -> Any:
        opened = real(self, *given, **named)
        opened.options["network"] = "another"
        return opened

    monkeypatch.setattr(Job, "open", other)  # here, and not on the workers
    _run(files, tmp_path / "r", "--scheduler", scheduler, status=2)


def test_other_parameters_are_refused_before_a_worker_captures_them(
    files: Path, scheduler: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = CHECKPOINT.with_name("digits_spike_driven.safetensors")
    words = ("--checkpoint", str(other), "--scheduler", scheduler)
    _run(files, tmp_path / "r", *words, status=2)
    assert "other parameters" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()
