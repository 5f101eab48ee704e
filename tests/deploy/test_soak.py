"""Runs in a row are compared, and what one leaves behind is seen."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import pytest

from lapilli.deploy.surveys.soak import LeftoverCheck, LeftoverError, soak

pytestmark = pytest.mark.lava


def test_runs_in_a_row_leave_nothing() -> None:
    done: list[int] = []
    soaked = soak(4, done.append)
    assert done == [1, 2, 3, 4]
    assert soaked.runs == {"lava": 2, "lava-stock": 2}
    assert soaked.values > 1000
    assert "4 runs (2 lava, 2 lava-stock)" in str(soaked)


@contextmanager
def a_process(folder: Path) -> Iterator[None]:
    inside = folder / "run"
    inside.mkdir()
    code = "import time; print('up', flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=inside, stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout as stdout:
        stdout.readline()  # Python does not start where its folder is gone already
    inside.rmdir()
    yield
    process.kill()
    process.wait()


@contextmanager
def shared_memory(folder: Path) -> Iterator[None]:
    memory = SharedMemory(create=True, size=64)
    memory.close()
    yield
    memory.unlink()


@contextmanager
def a_file(folder: Path) -> Iterator[None]:
    (folder / "lapilli-lava-x").write_text("")
    yield


@contextmanager
def a_descriptor(folder: Path) -> Iterator[None]:
    with Path("/dev/null").open():
        yield


@contextmanager
def a_thread(folder: Path) -> Iterator[None]:
    over = threading.Event()
    thread = threading.Thread(target=over.wait, name="forgotten")
    thread.start()
    yield
    over.set()
    thread.join()


@pytest.mark.parametrize(
    ("leave", "told"),
    [
        (a_process, r"process \d+"),
        (shared_memory, "/dev/shm/psm_"),
        (a_file, "/.*/lapilli-lava-x"),
        (a_descriptor, "1 open files"),
        (a_thread, "forgotten"),
    ],
)
def test_what_is_left_is_named(
    tmp_path: Path, leave: Callable[[Path], AbstractContextManager[None]], told: str
) -> None:
    watch = LeftoverCheck(tmp_path)
    watch.check(settles=0)
    with leave(tmp_path), pytest.raises(LeftoverError, match=f"left behind: {told}"):
        watch.check(settles=0.1)
