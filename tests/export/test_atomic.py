"""A file is written whole or not at all, and nothing that is no regular file is replaced."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from lapilli.export.atomic import check_outputs, make_folder, write_atomic
from lapilli.ir.errors import OutputError


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def umask() -> Any:
    before = os.umask(0o027)
    yield 0o027
    os.umask(before)


def test_a_new_file_has_the_mode_of_the_umask(tmp_path: Path, umask: int) -> None:
    write_atomic(tmp_path / "new", b"data")
    assert (tmp_path / "new").read_bytes() == b"data"
    assert _mode(tmp_path / "new") == 0o666 & ~umask
    assert os.listdir(tmp_path) == ["new"]


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o666])
def test_a_replaced_file_keeps_its_mode(tmp_path: Path, umask: int, mode: int) -> None:
    (tmp_path / "old").write_bytes(b"before")
    (tmp_path / "old").chmod(mode)
    write_atomic(tmp_path / "old", b"after")
    assert (tmp_path / "old").read_bytes() == b"after"
    assert _mode(tmp_path / "old") == mode


def test_a_replaced_file_is_never_open_to_more_than_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    real = os.open

    def watched(path: Any, flags: int, mode: int = 0o777, **more: Any) -> int:
        seen.append(mode)
        return real(path, flags, mode, **more)

    (tmp_path / "secret").write_bytes(b"")
    (tmp_path / "secret").chmod(0o600)
    monkeypatch.setattr(os, "open", watched)
    write_atomic(tmp_path / "secret", b"key")
    assert seen == [0o600]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_replaced_file_keeps_its_owner(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_bytes(b"")
    os.chown(tmp_path / "theirs", 1234, 1235)
    write_atomic(tmp_path / "theirs", b"data")
    after = (tmp_path / "theirs").stat()
    assert (after.st_uid, after.st_gid) == (1234, 1235)


def test_a_link_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    target = tmp_path / "far" / "target"
    target.write_bytes(b"before")
    target.chmod(0o640)
    (tmp_path / "middle").symlink_to("far/target")
    (tmp_path / "link").symlink_to("middle")
    write_atomic(tmp_path / "link", b"after")
    assert os.readlink(tmp_path / "link") == "middle"
    assert (target.read_bytes(), _mode(target)) == (b"after", 0o640)
    assert sorted(os.listdir(tmp_path)) == ["far", "link", "middle"]


def test_a_link_to_nothing_makes_its_target(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("target")
    write_atomic(tmp_path / "link", b"data")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"data"


def _folder(path: Path) -> None:
    path.mkdir()


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(os.path.relpath(path))  # an absolute path can be too long for a socket


def _device(path: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 7))  # what `full` is on Linux
    except PermissionError:
        pytest.skip("this system lets us make no device")


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _missing(path: Path) -> None:
    path.symlink_to("no/such/folder")


def _below_a_file(path: Path) -> None:
    (path.parent / "file").write_bytes(b"")
    path.symlink_to("file/name")


@pytest.mark.parametrize("through_link", [False, True])
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (_folder, "is a folder"),
        (_pipe, "is a named pipe"),
        (_socket, "is a socket"),
        (_device, "is a device"),
        (_loop, "cannot be written"),
        (_missing, "there is no folder"),
        (_below_a_file, "cannot be written"),
    ],
)
def test_what_is_no_file_is_refused_and_stays(
    tmp_path: Path, make: Any, said: str, through_link: bool
) -> None:
    place = tmp_path / "place"
    make(place)
    before = os.lstat(place)
    output = tmp_path / "link" if through_link else place
    if through_link:
        output.symlink_to("place")
    names = sorted(os.listdir(tmp_path))
    with pytest.raises(OutputError, match=said) as written:
        write_atomic(output, b"data")
    with pytest.raises(OutputError, match=said) as checked:
        check_outputs([output])
    assert str(output) in str(written.value) == str(checked.value)
    assert os.lstat(place) == before
    assert sorted(os.listdir(tmp_path)) == names


def test_no_folder_and_odd_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"there is no folder .*/no/where: make it first"):
        write_atomic(tmp_path / "no" / "where" / "x", b"")
    for odd in ("nul\0", "lone\ud800", "long" * 100):
        with pytest.raises(OutputError, match="cannot be written"):
            write_atomic(tmp_path / odd, b"")
    assert os.listdir(tmp_path) == []


def test_a_name_as_long_as_the_system_takes_is_written(tmp_path: Path) -> None:
    write_atomic(tmp_path / ("x" * 255), b"data")
    assert os.listdir(tmp_path) == ["x" * 255]


def test_what_is_read_only_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kept").write_bytes(b"before")
    real = os.access
    for protected in (tmp_path / "kept", tmp_path):
        with monkeypatch.context() as patched:  # root may write everything: say it may not
            patched.setattr(os, "access", lambda p, m, no=protected: Path(p) != no and real(p, m))
            with pytest.raises(OutputError, match="is read-only"):
                write_atomic(tmp_path / "kept", b"after")
    assert (tmp_path / "kept").read_bytes() == b"before"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT])
@pytest.mark.parametrize("call", ["open", "fdopen", "replace"])
def test_a_failing_system_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    (tmp_path / "kept").write_bytes(b"before")
    with monkeypatch.context() as patched:
        patched.setattr(os, call, fails)
        with pytest.raises(OutputError, match=os.strerror(code)):
            write_atomic(tmp_path / "kept", b"after")
    assert (tmp_path / "kept").read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["kept"]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: the write itself fails."""
    import resource
    import signal

    (tmp_path / "kept").write_bytes(b"before")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        with pytest.raises(OutputError, match="File too large"):
            write_atomic(tmp_path / "kept", b"x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert (tmp_path / "kept").read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["kept"]


def test_an_output_is_no_input(tmp_path: Path) -> None:
    source, link, twin = tmp_path / "a", tmp_path / "link", tmp_path / "twin"
    source.write_bytes(b"")
    link.symlink_to(source)
    os.link(source, twin)
    for same in (source, link, twin, tmp_path / "." / "a", tmp_path / "x" / ".." / "a"):
        with pytest.raises(OutputError, match="is what is read"):
            check_outputs([tmp_path / "new", same], [tmp_path / "other", source])
    check_outputs([tmp_path / "new"], [source])


def test_two_outputs_are_two_files(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("new")
    with pytest.raises(OutputError, match="would be written twice"):
        check_outputs([tmp_path / "new", tmp_path / "link"])
    check_outputs([tmp_path / "new", tmp_path / "newer"])
    assert os.listdir(tmp_path) == ["link"]


def test_a_folder_is_made_or_refused(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="is a file"):
        make_folder(tmp_path / "file")
    for odd in (tmp_path / "file" / "b", tmp_path / "nul\0"):
        with pytest.raises(OutputError, match="cannot be written"):
            make_folder(odd)
