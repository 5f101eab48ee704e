"""Where Lava lives: a Python 3.10 environment, named by the user or built here with uv."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import platformdirs

from lapilli.ir.errors import SimulatorUnavailableError
from lapilli.simulators.lava.shared.job import LAVA_VERSION

VARIABLE = "LAPILLI_LAVA_PYTHON"
PYTHON = "3.10"
_REQUIREMENTS = Path(__file__).with_name("requirements.txt")
_TRIAL = (
    "import lava.proc.lif.models, safetensors, typing_extensions; "
    "from importlib.metadata import version; print(version('lava-nc'))"
)
_REMEDY = f"run `lapilli doctor --fix` to build one, or set {VARIABLE} to its interpreter"


def cache() -> Path:
    """The folder of everything that can be built again."""
    return Path(platformdirs.user_cache_dir("lapilli"))


def default() -> Path:
    """The environment that `build` makes, there or not."""
    return cache() / f"lava-{LAVA_VERSION}"


def find(python: Path | None = None) -> Path:
    """The interpreter to run Lava with: the given one, the variable's, the built one's, our own.

    Our own can be it where lapilli itself runs on Python 3.10 with lava-nc beside it.

    Raises:
        SimulatorUnavailableError: there is none; says what to do.
    """
    if python:
        return _executable(python, "the interpreter named for Lava")
    if named := os.environ.get(VARIABLE):
        return _executable(Path(named), f"the interpreter named by {VARIABLE}")
    built = _interpreter(default())
    if not built.is_file():
        with suppress(metadata.PackageNotFoundError):
            if metadata.version("lava-nc") == LAVA_VERSION:
                return Path(sys.executable)
        raise SimulatorUnavailableError(
            f"Lava needs an environment of its own with Python {PYTHON} and lava-nc "
            f"{LAVA_VERSION}, and there is none: {_REMEDY}"
        )
    return built


def fault(python: Path) -> str:
    """Return why this interpreter cannot run Lava; empty if it imports it (takes seconds)."""
    try:
        done = subprocess.run(
            [python, "-s", "-c", _TRIAL], capture_output=True, text=True, check=False, timeout=60
        )
    except (OSError, subprocess.SubprocessError) as error:
        return f"{python} does not run ({error})"
    if done.returncode:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        return f"{python} does not import Lava (status {done.returncode}: {last})"
    if (version := done.stdout.strip()) != LAVA_VERSION:
        return f"{python} has lava-nc {version or 'of no version'}, not {LAVA_VERSION}"
    return ""


def build(progress: Callable[[str], None] = lambda _: None) -> Path:
    """Make the default environment, whole or not at all; return its interpreter.

    Raises:
        SimulatorUnavailableError: no uv, no Python 3.10, or the packages cannot be had.
    """
    target = default()
    if _try([_interpreter(target), "-s", "-c", _TRIAL]) == LAVA_VERSION:
        return _interpreter(target)
    uv = _uv()
    progress(f"looking for Python {PYTHON}")
    base = _base_python(uv)
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=target.parent, prefix=".lava-"))
    try:
        progress(f"making an environment with {base}")
        _call([uv, "venv", "--quiet", "--python", base, draft / "env"])
        progress(f"installing lava-nc {LAVA_VERSION} and what it needs")
        python = _interpreter(draft / "env")
        _call([uv, "pip", "install", "--quiet", "--python", python, "-r", _REQUIREMENTS])
        progress("trying it")
        _call([python, "-s", "-c", _TRIAL])
        shutil.rmtree(target, ignore_errors=True)  # one that does not work
        # Only bin/python is used: it finds its environment relative to itself, so a rename
        # is safe; the scripts beside it, which name the old place, are not.
        os.rename(draft / "env", target)
    except OSError as error:
        if not _interpreter(target).is_file():  # else another build was faster
            raise SimulatorUnavailableError(f"cannot build {target}: {error}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return _interpreter(target)


def _interpreter(environment: Path) -> Path:
    return environment / "bin" / "python"


def _executable(path: Path, what: str) -> Path:
    found = shutil.which(path.expanduser())
    if found is None:
        raise SimulatorUnavailableError(f"{what}, {path}, does not exist or cannot be executed")
    return Path(found)


def _uv() -> Path:
    try:
        import uv
    except ImportError as error:
        raise SimulatorUnavailableError(
            "building Lava's environment needs uv: `pip install 'lapilli[lava]'`"
        ) from error
    return Path(uv.find_uv_bin())


def _base_python(uv: Path) -> Path:
    """An interpreter of the right version; pyenv's hide behind shims that uv stumbles over."""
    for candidate in _candidates(uv):
        asked = _try([candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"])
        if asked == PYTHON:
            return candidate
    raise SimulatorUnavailableError(
        f"no Python {PYTHON} was found to build Lava's environment with: get one with "
        f"`uv python install {PYTHON}`, or set {VARIABLE} to an interpreter that has lava-nc"
    )


def _candidates(uv: Path) -> Iterator[Path]:
    if found := _try([uv, "python", "find", "--no-project", PYTHON]):
        yield Path(found)
    if found := shutil.which(f"python{PYTHON}"):
        yield Path(found)
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from sorted(pyenv.glob(f"versions/{PYTHON}.*/bin/python{PYTHON}"), reverse=True)


def _try(command: list[Path | str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _call(command: list[Path | str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = re.sub(r"\s+", " ", done.stderr).strip()[-400:]
        raise SimulatorUnavailableError(
            f"building Lava's environment failed at `{Path(command[0]).name} {command[1]}`: {last}"
        )
