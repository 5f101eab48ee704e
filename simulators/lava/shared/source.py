"""The code that runs in the worker: a copy of the modules it needs, named by their content.

The worker sees that copy and the packages of its own environment, nothing of the host's: the
program that would run next to the chip. Both sides compute the digest and compare it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import lapilli

_PARTS = (
    "__init__.py",
    "py.typed",
    "ir",
    "export/__init__.py",
    "export/atomic.py",
    "export/malformed.py",
    "export/native",
    "simulators/__init__.py",
    "simulators/digest.py",
    "simulators/lava/__init__.py",
    "simulators/lava/shared",
    "simulators/lava/stock",
    "simulators/lava/worker",
)


def files(package: Path | None = None) -> Mapping[str, bytes]:
    """Content of every file the worker needs, by path inside the package."""
    package = package or Path(lapilli.__file__).parent
    found: dict[str, bytes] = {}
    for part in _PARTS:
        path = package / part
        for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
            found[file.relative_to(package).as_posix()] = file.read_bytes()
    return found


def digest(content: Mapping[str, bytes]) -> str:
    """Sha-256 over names and contents."""
    state = hashlib.sha256()
    for name, data in sorted(content.items()):
        state.update(f"{name}\0{len(data)}\0".encode() + data)
    return state.hexdigest()


def copy_into(cache: Path) -> tuple[Path, str]:
    """Put a copy of `files()` below `cache`, unless it is there.

    Returns:
        The folder to put on PYTHONPATH, and the digest of what is in it.
    """
    content = files()
    name = digest(content)
    target = cache / f"source-{name[:16]}"
    if not target.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=cache, prefix=".source-"))
        for relative, data in content.items():
            path = draft / "lapilli" / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        try:
            os.rename(draft, target)
        except OSError:  # another run was faster, with the same content
            shutil.rmtree(draft, ignore_errors=True)
            if not target.is_dir():
                raise
    return target, name
