"""Environments that lapilli builds for what cannot lie beside it: an old Python, old packages.

Each is named by the user or built here with uv, in the user's cache, and tried before it is used.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import platformdirs

from lapilli.ir.errors import SimulatorUnavailableError


def cache() -> Path:
    """The folder of everything that can be built again."""
    return Path(platformdirs.user_cache_dir("lapilli"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What one simulator needs, apart from everything else.

    Attributes:
        what: its name in sentences.
        package, version: what it is for; other versions are refused.
        variable: of the shell, names an interpreter to take instead.
        requirements: file of packages, each with its version.
        imports: modules that must be there.
        python: the version it is built with.
    """

    what: str
    package: str
    version: str
    variable: str
    requirements: Path
    imports: str
    python: str = "3.10"

    def default(self) -> Path:
        """The environment that `build` makes, there or not."""
        return cache() / f"{self.what.lower()}-{self.version}"

    def find(self, python: Path | None = None) -> Path:
        """The interpreter to run with: the given one, the variable's, the built one's, our own.

        Our own can be it where lapilli itself is installed beside the package.

        Raises:
            SimulatorUnavailableError: there is none; says what to do.
        """
        if python:
            return _executable(python, f"the interpreter named for {self.what}")
        if named := os.environ.get(self.variable):
            return _executable(Path(named), f"the interpreter named by {self.variable}")
        built = _interpreter(self.default())
        if not built.is_file():
            with suppress(metadata.PackageNotFoundError):
                if metadata.version(self.package) == self.version:
                    return Path(sys.executable)
            raise SimulatorUnavailableError(
                f"{self.what} needs an environment of its own with Python {self.python} and "
                f"{self.package} {self.version}, and there is none: run `lapilli doctor --fix` to "
                f"build one, or set {self.variable} to its interpreter"
            )
        return built

    def fault(self, python: Path) -> str:
        """Return why this interpreter cannot be used; empty if it can (takes seconds)."""
        try:
            done = subprocess.run(
                [python, "-s", "-c", self._trial],
                capture_output=True, text=True, check=False, timeout=60,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError) as error:
            return f"{python} does not run ({error})"
        if done.returncode:
            last = (done.stderr.strip() or "no message").splitlines()[-1]
            return f"{python} does not import {self.what} (status {done.returncode}: {last})"
        if (version := done.stdout.strip()) != self.version:
            return f"{python} has {self.package} {version or 'of no version'}, not {self.version}"
        return ""

    def build(self, progress: Callable[[str], None] = lambda _: None) -> Path:
        """Make the default environment, whole or not at all; return its interpreter.

        Raises:
            SimulatorUnavailableError: no uv, no Python of that version, or the packages cannot
                be had.
        """
        target = self.default()
        if _try([_interpreter(target), "-s", "-c", self._trial]) == self.version:
            return _interpreter(target)
        uv = self._uv()
        progress(f"looking for Python {self.python}")
        base = self._base_python(uv)
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{self.what.lower()}-"))
        try:
            progress(f"making an environment with {base}")
            self._call([uv, "venv", "--quiet", "--python", base, draft / "env"])
            progress(f"installing {self.package} {self.version} and what it needs")
            python = _interpreter(draft / "env")
            into: list[Path | str] = [uv, "pip", "install", "--quiet", "--python", python]
            self._call([*into, "-r", self.requirements])
            progress("trying it")
            self._call([python, "-s", "-c", self._trial])
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

    @property
    def _trial(self) -> str:
        return (
            f"import {self.imports}; from importlib.metadata import version; "
            f"print(version('{self.package}'))"
        )

    def _uv(self) -> Path:
        try:
            import uv
        except ImportError as error:
            raise SimulatorUnavailableError(
                f"building {self.what}'s environment needs uv: `pip install 'lapilli[lava]'`"
            ) from error
        return Path(uv.find_uv_bin())

    def _base_python(self, uv: Path) -> Path:
        """An interpreter of the right version."""
        for candidate in candidates(uv, self.python):
            asked = _try([candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"])
            if asked == self.python:
                return candidate
        raise SimulatorUnavailableError(
            f"no Python {self.python} was found to build {self.what}'s environment with: get one "
            f"with `uv python install {self.python}`, or set {self.variable} to an interpreter "
            f"that has {self.package}"
        )

    def _call(self, command: list[Path | str]) -> None:
        done = call(command)
        if done.returncode:
            last = re.sub(r"\s+", " ", done.stderr).strip()[-400:]
            raise SimulatorUnavailableError(
                f"building {self.what}'s environment failed at "
                f"`{Path(command[0]).name} {command[1]}`: {last}"
            )


def candidates(uv: Path, version: str) -> Iterator[Path]:
    """Interpreters that may be of this version; pyenv's hide behind shims that uv stumbles over."""
    if found := _try([uv, "python", "find", "--no-project", version]):
        yield Path(found)
    if found := shutil.which(f"python{version}"):
        yield Path(found)
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from sorted(pyenv.glob(f"versions/{version}.*/bin/python{version}"), reverse=True)


def call(command: list[Path | str]) -> subprocess.CompletedProcess[str]:
    """Run a step of a build."""
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _interpreter(environment: Path) -> Path:
    return environment / "bin" / "python"


def _executable(path: Path, what: str) -> Path:
    found = shutil.which(path.expanduser())
    if found is None:
        raise SimulatorUnavailableError(f"{what}, {path}, does not exist or cannot be executed")
    return Path(found)


def _try(command: list[Path | str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
