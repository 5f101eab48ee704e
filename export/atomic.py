"""Write a file whole or not at all, and nothing that is no file."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from lapilli.ir.errors import OutputError

_NEW_FILE = 0o666  # less the umask, as everywhere
_OTHER_KINDS = (
    (stat.S_ISDIR, "is a folder: name a file in it"),
    (stat.S_ISCHR, "is a device, which is never replaced: name a file"),
    (stat.S_ISBLK, "is a device, which is never replaced: name a file"),
    (stat.S_ISFIFO, "is a named pipe, which is never replaced: name a file"),
    (stat.S_ISSOCK, "is a socket, which is never replaced: name a file"),
)


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` to `path` through a temporary file beside it, so that no reader sees a part.

    A link is followed: its target is replaced. A file that is replaced keeps its permissions
    and, where that is allowed, its owner; a new one gets the umask's.

    Raises:
        OutputError: `path` is a folder, a device, a pipe or a socket, is read-only, or the
            system refuses (no such folder, no permission, disk full); nothing is left behind.
    """
    target, old = _target(path)
    temporary = target.with_name(f".lapilli-{secrets.token_hex(8)}")
    try:
        _write_new(temporary, data, old)
        os.replace(temporary, target)
    except OSError as error:
        raise OutputError(path, _problem(error, target)) from error
    finally:
        with suppress(OSError):  # gone after the replacement
            os.unlink(temporary)


def check_outputs(outputs: Sequence[Path], inputs: Sequence[Path] = ()) -> None:
    """Refuse outputs that cannot be written, before any work is done for them.

    Args:
        outputs: files that will be written.
        inputs: files that are read for it.

    Raises:
        OutputError: an output is an input, two of them are one file, or `write_atomic` would
            refuse one.
    """
    for i, output in enumerate(outputs):
        _target(output)
        if source := next((s for s in inputs if _is_same(output, s)), None):
            raise OutputError(output, f"is what is read ({source}): name another file to write")
        if twin := next((o for o in outputs[:i] if _is_same(output, o)), None):
            raise OutputError(output, f"would be written twice (as {twin}): name two files")


def make_folder(path: Path) -> None:
    """Make a folder to write into, and those above it, where there is none.

    Raises:
        OutputError: something else has that name, or the system refuses.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise OutputError(path, "is a file: name a folder") from error
    except (OSError, ValueError) as error:
        raise OutputError(path, _problem(error, path)) from error


def check_new_folder(path: Path) -> None:
    """Refuse a folder that `write_folder` would not write, before any work is done for it.

    Raises:
        OutputError: it has files in it, is no folder, or its parent is none that can be written.
    """
    try:
        problem = _no_new_folder(path)
    except (OSError, ValueError) as error:
        raise OutputError(path, _problem(error, path)) from error
    if problem:
        raise OutputError(path, problem)


def _no_new_folder(path: Path) -> str | None:
    """Say why files cannot go into a folder of this name; None if they can."""
    parent = Path(os.path.realpath(path)).parent
    if path.is_dir():
        if any(path.iterdir()):
            return "has files in it: name a new folder, or an empty one"
    elif path.exists() or path.is_symlink():
        return "is a file: name a folder"
    if not parent.is_dir():
        return f"there is no folder {parent}: make it first"
    if not os.access(parent, os.W_OK):
        return f"{parent} is read-only: change that, or name another folder"
    return None


def write_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder of files, through a temporary one beside it: whole or not at all.

    Raises:
        OutputError: as `check_new_folder`, or the system refuses; nothing is left behind.
    """
    check_new_folder(path)
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".lapilli-{secrets.token_hex(8)}")
    try:
        temporary.mkdir()
        for name, data in files.items():
            (temporary / name).write_bytes(data)
        if target.is_dir():
            target.rmdir()  # it is empty
        os.replace(temporary, target)
    except OSError as error:
        raise OutputError(path, _problem(error, target)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # gone after the replacement


def _target(path: Path) -> tuple[Path, os.stat_result | None]:
    """Return the file that `path` stands for, links followed, and what is there already."""
    try:
        target = Path(os.path.realpath(path))
        old = _stat(target)
    except (OSError, ValueError) as error:
        raise OutputError(path, _problem(error, Path(path))) from error
    if not target.parent.is_dir():
        raise OutputError(path, f"there is no folder {target.parent}: make it first")
    if old is not None and not stat.S_ISREG(old.st_mode):
        kinds = (said for is_kind, said in _OTHER_KINDS if is_kind(old.st_mode))
        raise OutputError(path, next(kinds, "is no regular file: name a file"))
    for place in (target.parent, target) if old else (target.parent,):
        if not os.access(place, os.W_OK):
            raise OutputError(path, f"{place} is read-only: change that, or name another file")
    return target, old


def _stat(path: Path) -> os.stat_result | None:
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None


def _write_new(path: Path, data: bytes, old: os.stat_result | None) -> None:
    """Write a file that does not exist yet, with the permissions and owner of `old`."""
    mode = _NEW_FILE if old is None else stat.S_IMODE(old.st_mode) & 0o777
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(handle, "wb") as file:
        if old is not None:
            with suppress(PermissionError):  # only root gives files away
                os.fchown(handle, old.st_uid, old.st_gid)
            os.fchmod(handle, mode)  # the umask took some of it
        file.write(data)


def _is_same(one: Path, other: Path) -> bool:
    if os.path.realpath(one) == os.path.realpath(other):
        return True
    try:
        return os.path.samefile(one, other)
    except (OSError, ValueError):
        return False  # one of them does not exist


def _problem(error: Exception, path: Path) -> str:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"cannot be written ({reason}): free or name another place than {path.parent}"
