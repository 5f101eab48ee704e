"""HDF5's library in a process of its own: it does not end on some damaged files.

Some loop for ever (HDF5 2.0: 57 of the 25 000 that `make fuzz` tried). The process is given
the bytes, can open no file from then on and has only so much time and memory. Arrays come
back in a safetensors container.
"""

from __future__ import annotations

import codecs
import json
import math
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from lapilli.export import limits
from lapilli.export.hdf5.parser import Texts, Tree, parse_tree
from lapilli.export.limits import Progress
from lapilli.export.malformed import MalformedError
from lapilli.ir.errors import FormatError

_PATIENCE = 60.0  # seconds, however busy the machine is
_CODE = "from lapilli.export.hdf5.process import answer; answer({most})"
_ENDLESS = "damaged: the HDF5 library did not come to an end with it"
_PROGRESS = re.compile(rb"(\d{1,9}) (\d{1,9})\n")
_LONGEST_LINE = 64
_REFUSED = 3  # exit status of a worker whose output is the reason


def read_tree(
    path: Path, memory_limit: int | None = None, progress: Progress | None = None
) -> Tree:
    """Read every dataset of a file; opens that file alone.

    Args:
        path: of the file.
        memory_limit: that its numbers may take, eight for each; by default as
            `limits.justified` says.
        progress: is told of the datasets that are read, from a thread of its own.

    Raises:
        FormatError: no HDF5 file, damaged, or one of the things that no honest file needs;
            names the object.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FormatError(path, f"cannot be read ({error.strerror})") from error
    most = limits.justified(len(data)) if memory_limit is None else memory_limit
    code = _CODE.format(most=most)
    known = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    patience = _PATIENCE + len(data) / (1 << 18)
    try:
        with _listening(progress) as told:
            worker = subprocess.run(
                [sys.executable, "-c", code], input=data, env=known, check=False,
                stdout=subprocess.PIPE, stderr=told, timeout=patience,
            )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise FormatError(path, _ENDLESS) from error
    if worker.returncode == _REFUSED:
        raise FormatError(path, worker.stdout.decode(errors="replace"))
    if worker.returncode:
        raise FormatError(path, _ENDLESS)
    return _unpacked(worker.stdout)


@contextmanager
def _listening(progress: Progress | None) -> Iterator[int]:
    """Give a worker something to write its progress to, and pass it on until the worker ends."""
    if progress is None:
        yield subprocess.DEVNULL
        return
    heard, told = os.pipe()
    listener = threading.Thread(target=_listen, args=(heard, progress), daemon=True)
    listener.start()
    try:
        yield told
    finally:
        os.close(told)
        listener.join()


def _listen(heard: int, progress: Progress) -> None:
    with open(heard, "rb") as lines:
        for line in iter(lambda: lines.readline(_LONGEST_LINE), b""):
            if said := _PROGRESS.fullmatch(line):  # anything else is the library's
                progress(int(said[1]), int(said[2]))


def _tell(done: int, total: int) -> None:
    os.write(2, f"{done} {total}\n".encode())


def answer(memory_limit: int) -> None:
    """Be the worker of `read_tree`: bytes of a file in, the tree or a reason out."""
    data = sys.stdin.buffer.read()
    confine(memory_limit, seconds=5 + len(data) // (1 << 20))
    try:
        out = _packed(parse_tree(data, memory_limit, _tell))
    except MalformedError as error:
        sys.stdout.buffer.write(str(error).encode(errors="replace"))
        sys.stdout.flush()
        os._exit(_REFUSED)
    sys.stdout.buffer.write(out)
    sys.stdout.flush()
    os._exit(0)  # no clean-up: HDF5's own could meet the damage once more


def confine(memory_limit: int, seconds: int) -> None:
    """Let this process open no file, and use this many seconds and bytes from now on."""
    try:
        import resource
    except ImportError:  # Windows; there only the checks protect
        return
    statm = Path("/proc/self/statm")
    mapped = int(statm.read_text().split()[0]) * resource.getpagesize() if statm.exists() else 0
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    limits = {
        resource.RLIMIT_AS: mapped + 3 * memory_limit + (32 << 20),
        resource.RLIMIT_CPU: math.ceil(used) + seconds,
        resource.RLIMIT_NOFILE: 0,
        resource.RLIMIT_CORE: 0,
    }
    codecs.lookup("ascii")  # Python opens a file for this one, when h5py first asks
    for kind, limit in limits.items():
        _, hard = resource.getrlimit(kind)
        resource.setrlimit(kind, (limit, hard))


def _packed(tree: Tree) -> bytes:
    places = list(tree.values)
    about = {
        "groups": [[list(at), list(names)] for at, names in tree.groups.items()],
        "values": [
            [list(at), None if isinstance(value, np.ndarray) else _plain(value)]
            for at, value in tree.values.items()
        ],
    }
    arrays = {str(i): value for i, at in enumerate(places)
              if isinstance(value := tree.values[at], np.ndarray)}  # fmt: skip
    return save(arrays, {"about": json.dumps(about)})


def _unpacked(data: bytes) -> Tree:
    size = int.from_bytes(data[:8], "little")
    about = json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["about"])
    arrays = load(data)
    return Tree(
        {tuple(at): tuple(names) for at, names in about["groups"]},
        {
            tuple(at): arrays[str(i)] if text is None else _text_from(text)
            for i, (at, text) in enumerate(about["values"])
        },
    )


def _plain(text: str | Texts) -> str | tuple[tuple[int, ...], tuple[str, ...]]:
    return text if isinstance(text, str) else (text.shape, text.items)


def _text_from(plain: str | list[list[Any]]) -> str | Texts:
    return plain if isinstance(plain, str) else Texts(tuple(plain[0]), tuple(plain[1]))
