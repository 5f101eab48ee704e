"""What a spoiled call must not do: a traceback, a hang, half a file, a fault of lapilli."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from types import FrameType

from monkey.calls import Call

from lapilli.deploy.cli import frame
from lapilli.deploy.cli.app import app

LIMIT = 60  # seconds
STATUSES = {0, 1, 2}  # 3 is a fault of lapilli


def attempt(call: Call, folder: Path) -> str:
    """Make a call in `folder`; what was wrong with how it ended, or nothing."""
    before, unfinished = _listing(folder), ""
    out, err = _Stream(), _Stream()
    try:
        with redirect_stdout(out), redirect_stderr(err), _inside(folder), _within(LIMIT):
            status = frame.run(app, call.arguments)
    except BaseException as error:  # nothing may leave
        return f"{call}: raised {type(error).__name__}: {error}"[:600]
    finally:
        after = _listing(folder)
        unfinished = _unfinished(call, folder, after - before)
        for name in after - before:
            _remove(folder / name)
    said, told = out.text(), err.text()
    if status not in STATUSES:
        return f"{call}: status {status}: {told[-400:]}"
    if "Traceback" in said + told:
        return f"{call}: a traceback: {told[-600:]}"
    if status == 2 and not told.strip():
        return f"{call}: refused without a word"
    if "--json" in call.arguments and _wants_json(call):
        try:
            json.loads(said)
        except ValueError as error:
            return f"{call}: status {status}, no JSON ({error}): {said[:200]!r}"
    if status == 2 and unfinished:
        return f"{call}: refused, and left {unfinished}"
    return ""


def _wants_json(call: Call) -> bool:
    """Whether --json stands where it is an option, and no file goes to standard output."""
    arguments = call.arguments
    if "--" in arguments or "-" in arguments or any(a.endswith("=-") for a in arguments):
        return False
    at = arguments.index("--json")
    return not arguments[at - 1].startswith("-")  # else it is the value of that option


def _unfinished(call: Call, folder: Path, left: set[str]) -> str:
    """Say what a refused call left that nobody can use; a validation goes on with its folder."""
    if call.arguments[0] not in ("validate", "report"):
        return ", ".join(sorted(left))
    begun = {name for name in left if (folder / name / "options.json").is_file()}
    inside = {name for name in left for top in begun if name == top or name.startswith(f"{top}/")}
    return ", ".join(sorted((left - inside) | {n for n in left if n.endswith(".part")}))


class _Stream(io.TextIOWrapper):
    """A stream with bytes below, as standard output has."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), "utf-8", errors="backslashreplace", write_through=True)

    def text(self) -> str:
        """What was written."""
        self.flush()
        raw: io.BytesIO = self.buffer  # type: ignore[assignment]
        return raw.getvalue().decode("utf-8", "replace")


def _listing(folder: Path) -> set[str]:
    return {
        os.path.relpath(os.path.join(root, name), folder)
        for root, folders, files in os.walk(folder)
        for name in (*folders, *files)
        if "__pycache__" not in os.path.join(root, name)
    }


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    here, modules, paths = Path.cwd(), set(sys.modules), list(sys.path)
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(here)
        sys.path[:] = paths
        for name in set(sys.modules) - modules:
            if name.startswith(("text", "simulator", "data", "lapilli_own", "lapilli_simulator")):
                del sys.modules[name]


@contextmanager
def _within(seconds: int) -> Iterator[None]:
    """Raise TimeoutError in the main thread when it takes longer."""

    def late(_: int, __: FrameType | None) -> None:
        raise TimeoutError(f"took more than {seconds} s")

    old = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)
