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
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from lapilli.export import limits
from lapilli.export.hdf5.parser import Texts, Tree, parse_tree
from lapilli.export.malformed import MalformedError
from lapilli.ir.errors import FormatError

_PATIENCE = 60.0  # seconds, however busy the machine is
_CODE = "from lapilli.export.hdf5.process import answer; answer({most})"
_ENDLESS = "damaged: the HDF5 library did not come to an end with it"
_REFUSED = 3  # exit status of a worker whose output is the reason


def read_tree(path: Path, memory_limit: int | None = None) -> Tree:
    """Read every dataset of a file; opens that file alone.

    Args:
        path: of the file.
        memory_limit: that its numbers may take, eight for each; by default as
            `limits.justified` says.

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
        worker = subprocess.run(
            [sys.executable, "-c", code],
            input=data, env=known, capture_output=True, check=False, timeout=patience,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise FormatError(path, _ENDLESS) from error
    if worker.returncode == _REFUSED:
        raise FormatError(path, worker.stdout.decode(errors="replace"))
    if worker.returncode:
        raise FormatError(path, _ENDLESS)
    return _unpacked(worker.stdout)


def answer(memory_limit: int) -> None:
    """Be the worker of `read_tree`: bytes of a file in, the tree or a reason out."""
    data = sys.stdin.buffer.read()
    confine(memory_limit, seconds=5 + len(data) // (1 << 20))
    try:
        out = _packed(parse_tree(data, memory_limit))
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
