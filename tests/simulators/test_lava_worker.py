"""Lava's worker when things go wrong: one clear sentence, and nothing left behind."""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import lapilli
from lapilli.ir.errors import SimulatorFailedError, SimulatorUnavailableError
from lapilli.simulators import environments
from lapilli.simulators.conformance import attention_block
from lapilli.simulators.lava.host.adapter import Lava
from lapilli.simulators.lava.host.environment import LAVA
from lapilli.simulators.lava.host.stock import StockLava
from lapilli.simulators.lava.host.supervisor import Limits
from lapilli.simulators.lava.shared import segments, source
from lapilli.simulators.reference import Reference

pytestmark = pytest.mark.lava

GRAPH = attention_block()
INPUTS = {"x": (np.random.default_rng(0).random((8, 30, 4, 6)) < 0.5).astype(np.int64)}
# For runs that never get to their end: so long that a busy host still interrupts them in time.
LONG = {"x": np.tile(INPUTS["x"], (1, 40, 1, 1))}
SECONDS = {"x": LONG["x"][:, :300]}  # a run of some seconds, which ends after all


def processes(word: str) -> list[int]:
    """Processes, our own apart, whose command line has this word. Zombies have none."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if word.encode() in entry.read_bytes() and int(entry.parent.name) != os.getpid():
                found.append(int(entry.parent.name))
        except OSError:
            continue
    return found


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where runs of this test put their folders: no process and no file may be left there."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    yield folder
    assert processes(str(folder)) == []
    assert list(folder.iterdir()) == []


def leaders(scratch: Path) -> set[int]:
    """Workers, each of which leads a session; a process may end while we look."""
    found = set()
    for pid in processes(str(scratch)):
        with suppress(ProcessLookupError):
            found |= {pid} & {os.getsid(pid)}
    return found


def on_first_report(
    scratch: Path, act: Callable[[int], None], times: int
) -> tuple[Lava, list[str]]:
    """A simulator that does something to its worker at its first report, in some attempts.

    Also: the shared memory that those workers had, filled as they run.
    """
    shared: list[str] = []
    met: set[int] = set()

    def progress(name: str, step: int, of: int) -> None:
        for worker in leaders(scratch) - met if len(met) < times else ():
            met.add(worker)
            shared.extend(segments.of_processes(segments.session_members(worker)))
            act(worker)

    return Lava(batch=1, progress=progress), shared


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def stop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)


def kill_a_child(worker: int) -> None:
    kill(max(pid for pid in segments.session_members(worker) if pid != worker))


@pytest.mark.parametrize("act", [kill, kill_a_child])
def test_a_killed_worker_is_tried_once_more(scratch: Path, act: Callable[[int], None]) -> None:
    lava, shared = on_first_report(scratch, act, times=1)
    began = time.monotonic()
    got = lava.compile(GRAPH).run(SECONDS)
    assert time.monotonic() - began < lava.limits.step / 2  # seen, not waited for
    want = Reference().compile(GRAPH).run(SECONDS)
    assert all(np.array_equal(v, want.values[n]) for n, v in got.values.items())
    assert shared
    assert not any(os.path.exists(path) for path in shared)


def test_a_worker_killed_twice_is_reported(scratch: Path) -> None:
    lava, shared = on_first_report(scratch, kill, times=2)
    with pytest.raises(SimulatorFailedError, match=r"lost 2 times.*killed by signal 9"):
        lava.compile(GRAPH).run(LONG)
    assert shared
    assert not any(os.path.exists(path) for path in shared)


def test_a_stopped_run_counts_as_hung(scratch: Path) -> None:
    lava, _ = on_first_report(scratch, stop, times=2)
    hasty = replace(lava, limits=Limits(step=2))
    with pytest.raises(SimulatorFailedError, match="said nothing for 2 s while it should run"):
        hasty.compile(GRAPH).run(LONG)


def test_an_interrupted_run_leaves_nothing(scratch: Path) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    lava, shared = on_first_report(scratch, interrupt, times=1)
    with pytest.raises(KeyboardInterrupt):
        lava.compile(GRAPH).run(LONG)
    assert shared
    assert not any(os.path.exists(path) for path in shared)


def test_the_worker_ends_when_its_host_is_killed(scratch: Path) -> None:
    script = """
        import numpy as np
        from lapilli.simulators.conformance import attention_block
        from lapilli.simulators.lava.host.adapter import Lava
        progress = lambda *_: print("running", flush=True)
        x = {"x": np.zeros((8, 5000, 4, 6), np.int64)}
        Lava(batch=1, progress=progress).compile(attention_block()).run(x)
    """
    given = {"TMPDIR": str(scratch), "PYTHONPATH": str(Path(lapilli.__file__).parent.parent)}
    host = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdout=subprocess.PIPE,
        env={**os.environ, **given},
    )
    assert host.stdout
    assert host.stdout.readline() == b"running\n"
    running = processes(str(scratch))
    shared = segments.of_processes(running)
    assert len(running) > len(GRAPH.neurons)
    assert shared
    host.kill()
    host.wait()
    host.stdout.close()
    deadline = time.monotonic() + 5
    while processes(str(scratch)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes(str(scratch)) == []
    assert not any(os.path.exists(path) for path in shared)


def fake(folder: Path, script: str) -> Path:
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_an_interpreter_that_says_nothing(scratch: Path, tmp_path: Path) -> None:
    silent = fake(tmp_path, "sleep 600")
    lava = Lava(python=silent, limits=Limits(start=0.5))
    with pytest.raises(SimulatorFailedError, match=r"said nothing for 0.5 s while it should start"):
        lava.compile(GRAPH).run(INPUTS)


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("exit 3", "exited with 3"),
        ("echo no such thing >&2; exit 3", "its last words: no such thing"),
        (
            """echo '{"event": "hello", "lava": "0.9.0"}'; sleep 600""",
            r"has lava-nc 0\.9\.0; lapilli is proved against 0\.10\.0",
        ),
        (
            """echo '{"event": "hello", "lava": "0.10.0", "lapilli": "0", "digest": "1"}'""",
            "the worker runs lapilli 0",
        ),
    ],
)
def test_an_interpreter_that_cannot(
    scratch: Path, tmp_path: Path, script: str, sentence: str
) -> None:
    with pytest.raises(SimulatorUnavailableError, match=sentence):
        Lava(python=fake(tmp_path, script)).compile(GRAPH).run(INPUTS)


def test_an_interpreter_that_talks_nonsense(scratch: Path, tmp_path: Path) -> None:
    with pytest.raises(SimulatorFailedError, match="said 'hi"):
        Lava(python=fake(tmp_path, "echo hi; sleep 600")).compile(GRAPH).run(INPUTS)


def test_an_interpreter_without_lava(scratch: Path) -> None:
    with pytest.raises(SimulatorUnavailableError, match=r"No module named 'lava'.*doctor --fix"):
        Lava(python=Path(sys.executable)).compile(GRAPH).run(INPUTS)


def test_no_such_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SimulatorUnavailableError, match="does not exist"):
        Lava(python=tmp_path / "none").compile(GRAPH)
    monkeypatch.setenv(LAVA.variable, str(tmp_path / "none"))
    with pytest.raises(SimulatorUnavailableError, match=LAVA.variable):
        Lava().compile(GRAPH)


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv(LAVA.variable, raising=False)
    monkeypatch.setattr(environments, "cache", lambda: tmp_path / "cache")
    return tmp_path / "cache"


def test_no_environment_names_the_remedy(empty_cache: Path) -> None:
    with pytest.raises(SimulatorUnavailableError, match="lapilli doctor --fix"):
        LAVA.find()


def test_an_environment_that_has_lava_runs_it(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda _: "0.10.0")
    assert LAVA.find() == Path(sys.executable)


def test_a_broken_environment_is_built_again(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = LAVA.default() / "bin"
    broken.mkdir(parents=True)
    fake(broken, "exit 1")

    def pretend(command: list[Path | str]) -> subprocess.CompletedProcess[str]:
        if command[1] == "venv":
            python = Path(command[-1]) / "bin"
            python.mkdir(parents=True)
            fake(python, "echo 0.10.0")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(environments.Environment, "_base_python", lambda *_: Path("python3.10"))
    monkeypatch.setattr(environments, "call", pretend)
    assert LAVA.build() == broken / "python"
    assert "0.10.0" in (broken / "python").read_text()
    assert [p.name for p in empty_cache.iterdir()] == ["lava-0.10.0"]


def test_no_python_3_10_names_the_remedy(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments, "candidates", lambda *_: iter([Path(sys.executable)]))
    with pytest.raises(SimulatorUnavailableError, match=r"uv python install 3\.10"):
        LAVA.build()


def test_no_uv_names_the_remedy(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uv", None)
    with pytest.raises(SimulatorUnavailableError, match=r"pip install 'lapilli\[lava\]'"):
        LAVA.build()


def test_an_interrupted_build_leaves_nothing(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(environments.Environment, "_base_python", lambda *_: Path("python3.10"))
    monkeypatch.setattr(environments, "call", interrupt)
    with pytest.raises(KeyboardInterrupt):
        LAVA.build()
    assert list(empty_cache.iterdir()) == []


def test_no_room_in_shared_memory(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executable = Lava().compile(GRAPH)
    monkeypatch.setattr(segments, "SHARED_MEMORY", scratch / "none")
    with pytest.raises(SimulatorUnavailableError, match="which cannot be used"):
        executable.run(INPUTS)
    monkeypatch.undo()
    with pytest.raises(SimulatorUnavailableError, match="run fewer samples side by side"):
        segments.check_room(1 << 60)


@pytest.mark.parametrize("lava", [Lava(), StockLava()], ids=lambda lava: lava.name)
def test_what_a_run_takes_of_shared_memory_is_known(
    lava: Lava | StockLava, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four pages a channel, at least; what is asked for is not a multiple of that either."""
    asked: list[int] = []
    taken: list[int] = []
    monkeypatch.setattr(segments, "check_room", asked.append)
    of_processes = segments.of_processes

    def counted(pids: Iterable[int]) -> set[str]:
        found = of_processes(pids)
        taken.append(len(found))
        return found

    monkeypatch.setattr(segments, "of_processes", counted)
    lava.compile(GRAPH).run(INPUTS)
    assert max(taken) > 30
    assert max(taken) * 4 * mmap.PAGESIZE <= asked[0] < 2 * max(taken) * 4 * mmap.PAGESIZE


def test_the_copied_source_is_what_we_have(tmp_path: Path) -> None:
    folder, digest = source.copy_into(tmp_path)
    assert source.digest(source.files(folder / "lapilli")) == digest
    assert source.copy_into(tmp_path) == (folder, digest)
    assert [p.name for p in tmp_path.iterdir()] == [folder.name]
    (folder / "lapilli" / "ir" / "ops.py").write_text("")
    assert source.digest(source.files(folder / "lapilli")) != digest
