"""Faults inside of Lava's own processes: seen at once, tried once more, and told."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from lapilli.deploy.surveys.soak import LeftoverCheck
from lapilli.ir.errors import SimulatorFailedError, SimulatorUnavailableError
from lapilli.ir.recording import Recording
from lapilli.ir.tensor import IntArray
from lapilli.simulators.conformance import attention_block
from lapilli.simulators.lava.host.adapter import Lava
from lapilli.simulators.lava.host.supervisor import Limits
from lapilli.simulators.reference import Reference

pytestmark = pytest.mark.lava

GRAPH = attention_block()
INPUTS = {"x": (np.random.default_rng(0).random((8, 4, 4, 6)) < 0.5).astype(np.int64)}

# Chosen by a run configuration, so that nothing of ours or of Lava's has to be changed.
FAULTY = """
import errno, multiprocessing.synchronize, os, resource, signal, time
from pathlib import Path

import numpy as np
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.lif.models import PyLifResetModelBitAcc
from lava.proc.lif.process import LIFReset

TOLD = Path(__file__).with_suffix(".txt")


def raises():
    raise ValueError("planted")


def exits():
    os._exit(3)


def is_killed():
    '''As the kernel does when memory runs out.'''
    os.kill(os.getpid(), signal.SIGKILL)


def takes_memory():
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
    np.empty(2 << 30)


def finds_shared_memory_full():
    '''A page that is not there: what a full /dev/shm gives is a bus error, too.'''
    for descriptor in os.listdir("/proc/self/fd"):
        path = f"/proc/self/fd/{descriptor}"
        if os.path.realpath(path).startswith("/dev/shm/psm_"):
            os.truncate(path, 0)


def hangs():
    time.sleep(1000)


def kills_its_worker():
    os.kill(os.getppid(), signal.SIGKILL)


class Faulty(PyLifResetModelBitAcc):
    def run_spk(self):
        if self.time_step == 6 and len(TOLD.read_text().split()) < TIMES:
            with TOLD.open("a") as told:
                print(time.time(), file=told)
            FAULT()
        super().run_spk()


class Unborn(PyLifResetModelBitAcc):
    def __init__(self, registers):
        if not TOLD.read_text():
            time.sleep(1)
            TOLD.write_text("1")
            FAULT()
        super().__init__(registers)


class Stubborn(PyLifResetModelBitAcc):
    def _stop(self):
        hangs()


def config(select_tag):
    return Loihi2SimCfg(select_tag=select_tag, exception_proc_model_map={LIFReset: Faulty})


def full(select_tag):
    '''A semaphore takes a page of /dev/shm.'''
    def no_room(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    multiprocessing.synchronize._multiprocessing.SemLock = no_room
    return Loihi2SimCfg(select_tag=select_tag)


def unborn(select_tag):
    return Loihi2SimCfg(select_tag=select_tag, exception_proc_model_map={LIFReset: Unborn})


def stubborn(select_tag):
    return Loihi2SimCfg(select_tag=select_tag, exception_proc_model_map={LIFReset: Stubborn})
"""


@pytest.fixture
def nothing_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No process, file, shared memory, thread or descriptor may be left by a run."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    watch = LeftoverCheck(folder)
    yield
    watch.check()


def faulty(folder: Path, fault: str, times: int = 1) -> tuple[Lava, Path]:
    """A simulator whose neurons do that in step 6, so many times; when they did it."""
    file = folder / "faulty.py"
    file.write_text(FAULTY.replace("TIMES", str(times)).replace("FAULT()", f"{fault}()"))
    told = file.with_suffix(".txt")
    told.write_text("")
    return Lava(batch=1, run_config=f"{file}:config", limits=Limits(step=5)), told


def assert_exact(got: Recording, inputs: Mapping[str, IntArray]) -> None:
    want = Reference().compile(GRAPH).run(inputs).values
    assert got.values.keys() == set(GRAPH.recorded)
    assert all(0.02 < want[n].mean() < 0.98 for n in GRAPH.neurons)
    assert all(np.array_equal(value, want[n]) for n, value in got.values.items())


FAULTS = {
    "raises": "one of Lava's processes raised ValueError: planted",
    "exits": "one of Lava's processes exited with 3",
    "is_killed": r"one of Lava's processes died by signal 9 \(no memory\?\)",
    "takes_memory": "one of Lava's processes raised MemoryError: Unable to allocate 16.0 GiB",
    "finds_shared_memory_full": r"processes died by signal 7 \(/dev/shm full\?\)",
    "kills_its_worker": "was killed by signal 9 while it should run",
    "hangs": "said nothing for 5 s while it should run",
}


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize(("fault", "sentence"), FAULTS.items(), ids=list(FAULTS))
def test_a_fault_is_told_and_the_run_repeated(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, fault: str, sentence: str
) -> None:
    lava, told = faulty(tmp_path, fault)
    assert_exact(lava.compile(GRAPH).run(INPUTS), INPUTS)
    (warning,) = caplog.records
    assert re.search(f"^Lava's worker .*{sentence}.*; it is started again$", warning.getMessage())
    happened = min(float(line) for line in told.read_text().split())
    waits = lava.limits.step if fault == "hangs" else 0
    assert waits <= warning.created - happened < waits + 5  # 0.1 to 0.4 seconds on a quiet machine


@pytest.mark.usefixtures("nothing_left")
def test_a_fault_that_returns_ends_the_run(tmp_path: Path) -> None:
    lava, _ = faulty(tmp_path, "raises", times=1000)
    with pytest.raises(SimulatorFailedError, match=r"lost 2 times; .* raised ValueError: planted"):
        lava.compile(GRAPH).run(INPUTS)


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("is_killed", "one of Lava's processes died by signal 9"),
        pytest.param(
            "hangs",
            "said nothing for 10 s while it should build the network",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_fault_while_lava_builds(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, fault: str, sentence: str
) -> None:
    _, told = faulty(tmp_path, fault)
    lava = Lava(run_config=f"{told.with_suffix('.py')}:unborn", limits=Limits(step=10))
    assert_exact(lava.compile(GRAPH).run(INPUTS), INPUTS)
    (warning,) = caplog.records
    assert sentence in warning.getMessage()


@pytest.mark.usefixtures("nothing_left")
def test_shared_memory_that_fills_up_while_lava_builds(tmp_path: Path) -> None:
    _, told = faulty(tmp_path, "hangs", times=0)
    lava = Lava(run_config=f"{told.with_suffix('.py')}:full")
    with pytest.raises(SimulatorUnavailableError, match=r"/dev/shm .*No space left.*fewer samples"):
        lava.compile(GRAPH).run(INPUTS)


@pytest.mark.usefixtures("nothing_left")
def test_an_end_that_hangs_costs_no_result(tmp_path: Path) -> None:
    _, told = faulty(tmp_path, "hangs", times=0)
    lava = Lava(run_config=f"{told.with_suffix('.py')}:stubborn", limits=Limits(stop=0.5))
    began = time.monotonic()
    assert_exact(lava.compile(GRAPH).run(INPUTS), INPUTS)
    assert 0.5 < time.monotonic() - began < 30


@pytest.mark.usefixtures("nothing_left")
def test_two_runs_at_a_time_do_not_meet(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The worker of one is killed; others are in the middle of theirs, and go on."""
    calm: list[tuple[float, float]] = []
    lava, told = faulty(tmp_path, "kills_its_worker")
    with ThreadPoolExecutor() as threads:
        other = threads.submit(lava.compile(GRAPH).run, INPUTS)
        while not other.done():
            began = time.time()
            assert_exact(Lava(batch=1).compile(GRAPH).run(INPUTS), INPUTS)
            calm.append((began, time.time()))
        assert_exact(other.result(), INPUTS)
    assert len(caplog.records) == 1
    killed = min(float(line) for line in told.read_text().split())
    assert any(began < killed < ended for began, ended in calm)
