"""`validate` killed at any point, and two at once: what is whole stays, what is missing is run."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("sklearn")

from lapilli.deploy.cli import frame
from lapilli.deploy.cli.app import app
from lapilli.deploy.validation.store import Store
from lapilli.export.native import save_network

if TYPE_CHECKING:
    from lapilli.model.digits import Split
    from lapilli.quantize import Quantized

START = "from lapilli.deploy.cli.app import main; main()"
SHARDS = 24
RESULTS = ("samples/*.parquet", "layers/*.parquet", "*.json")


@pytest.fixture(scope="module")
def network(
    tmp_path_factory: pytest.TempPathFactory, spikformer: Quantized, test_split: Split
) -> Path:
    path = tmp_path_factory.mktemp("killed") / "net.lapilli"
    save_network(spikformer.network, path)
    images, labels = test_split.images[: 10 * SHARDS], test_split.labels[: 10 * SHARDS]
    np.savez(path.with_name("set.npz"), images=images, labels=labels)
    return path


def _words(network: Path, out: Path) -> list[str]:
    more = ["--shard-size", "10", "--batch", "2", "-o", str(out)]
    return ["validate", str(network), "--data", str(network.with_name("set.npz")), *more]


def _files(folder: Path) -> dict[str, bytes]:
    found = [path for pattern in RESULTS for path in folder.glob(pattern)]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def _done(out: Path) -> int:
    return len(list((out / "samples").glob("*.parquet")))


def _killed_after(words: list[str], out: Path, shards: int, seconds: float) -> int:
    """Start it, kill it once it has `shards` more, and some time; how many it had."""
    wanted = _done(out) + shards
    process = subprocess.Popen(
        [sys.executable, "-c", START, *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 60
    while _done(out) < wanted and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    _, told = process.communicate()
    assert process.returncode == -signal.SIGKILL, told
    return _done(out)


def test_killed_at_random_points_it_resumes(network: Path, tmp_path: Path) -> None:
    assert frame.run(app, _words(network, tmp_path / "whole")) == 0
    expected = _files(tmp_path / "whole")
    assert len(expected) == 2 * SHARDS + 2
    rng, out = random.Random(), tmp_path / "killed"  # at other points in each run of the tests
    words = _words(network, out)
    seen = [0]
    for _ in range(3):
        seen.append(_killed_after(words, out, rng.randint(1, 3), rng.uniform(0, 0.05)))
        whole = {p: data for p, data in _files(out).items() if p in expected}
        assert whole == {path: expected[path] for path in whole}
    assert seen == sorted(set(seen))  # each run did some
    assert seen[-1] < SHARDS
    assert frame.run(app, words) == 0
    assert _files(out) == expected
    assert not list(out.rglob("*.part"))


def test_killed_while_it_writes(network: Path, tmp_path: Path) -> None:
    """Whatever a kill leaves behind of any file is written over."""
    assert frame.run(app, _words(network, tmp_path / "whole")) == 0
    expected, out = _files(tmp_path / "whole"), tmp_path / "killed"
    for path in expected:
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        (out / f"{path}.part").write_bytes(expected[path][: len(expected[path]) // 2])
    assert frame.run(app, _words(network, out)) == 0
    assert _files(out) == expected
    assert not list(out.rglob("*.part"))


def test_two_on_one_shard(
    network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A lock is of a process: it goes with it, and what it held is run by the next."""
    out = tmp_path / "r"
    words = _words(network, out)
    assert frame.run(app, [*words, "--shard", "2/24"]) == 1  # makes the folder
    holds = (
        "import sys, time, pathlib, json\n"
        "from lapilli.deploy.validation.store import Store\n"
        "out = pathlib.Path(sys.argv[1])\n"
        "store = Store(out, json.loads((out / 'options.json').read_text()))\n"
        "with store.locked(3) as mine:\n"
        "    print(mine, flush=True)\n"
        "    time.sleep(600)\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", holds, str(out)], stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    try:
        assert other.stdout.readline() == "True\n"
        capsys.readouterr()
        assert frame.run(app, words) == 1
        said = " ".join(capsys.readouterr().out.split())
        assert "1 of 24 shards are missing (3)" in said
        assert "another process works on 3" in said
        assert not (out / "summary.json").exists()
    finally:
        other.kill()
        other.communicate()
    assert frame.run(app, words) == 0
    assert (out / "summary.json").exists()


def test_two_that_begin_at_once_with_other_options(tmp_path: Path) -> None:
    """Only one of them writes its options; the other reads them."""
    begins = (
        "import sys, pathlib\n"
        "from lapilli.deploy.validation.store import Store\n"
        "from lapilli.ir.errors import InputError\n"
        "sys.stdin.read()\n"
        "try:\n"
        "    Store(pathlib.Path(sys.argv[1]), {'a': sys.argv[2]})\n"
        "except InputError:\n"
        "    sys.exit(2)\n"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", begins, str(tmp_path / "r"), name], stdin=subprocess.PIPE
        )
        for name in ("x", "y", "z")
    ]
    for process in started:
        assert process.stdin is not None
        process.stdin.close()
    assert sorted(process.wait() for process in started) == [0, 2, 2]
    Store(tmp_path / "r", {"a": ("x", "y", "z")[[p.returncode for p in started].index(0)]})
