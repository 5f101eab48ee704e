"""Say what a file is that is no checkpoint, by its first bytes."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

_SAVE_STATE_DICT = "save the parameters themselves: torch.save(model.state_dict(), 'weights.pth')"
_POINTER = b"version https://git-lfs.github.com/spec/"
_STARTS = (
    (b"\x93NUMPY", f"is a single NumPy array, no checkpoint; {_SAVE_STATE_DICT}"),
    (b"\x89HDF", "is an HDF5 file (NIR, Keras or lava-dl), no PyTorch checkpoint; "
                 "a .nir file is read by `lapilli import`"),
    (b"\x1f\x8b", "is compressed by gzip, no checkpoint yet; unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "is a 7z archive, no checkpoint yet; unpack it first"),
)  # fmt: skip


def mistaken(path: Path) -> str | None:
    """Name a file that people take for a checkpoint and say what to do; None if it may be one."""
    with path.open("rb") as file:
        head = file.read(1024)
    if not head:
        return "the file is empty, no checkpoint: its download or copy broke off; get it again"
    if head.startswith(_POINTER):
        size = re.search(rb"^size (\d+)", head, re.MULTILINE)
        bytes_there = f" of {int(size[1]):,} bytes" if size else ""
        return (
            f"is a git-lfs pointer to a checkpoint{bytes_there}, not the checkpoint itself; "
            "run `git lfs pull` in its repository"
        )
    if re.match(rb"\s*(<!doctype html|<html)", head, re.IGNORECASE):
        title = re.search(rb"<title>([^<]*)", head, re.IGNORECASE)
        named = f" ({title[1].decode(errors='replace').strip()!r})" if title else ""
        return (
            f"is a web page{named}, no checkpoint: the link leads to a page with a button; "
            "download the file in a browser"
        )
    for start, sentence in _STARTS:
        if head.startswith(start):
            return sentence
    return _mistaken_zip(path) if head.startswith(b"PK\x03\x04") else None


def _mistaken_zip(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return None
    if any(name.endswith("constants.pkl") or "/code/" in name for name in names):
        return (
            "is a TorchScript archive, which holds code and no state_dict; where you trust it, "
            "write torch.jit.load(FILE).state_dict() to a file with torch.save"
        )
    if names and all(name.endswith(".npy") for name in names):
        return f"is an .npz archive of NumPy arrays, no checkpoint; {_SAVE_STATE_DICT}"
    inside = [n for n in names if n.endswith((".pth", ".pt", ".tar", ".safetensors", ".ckpt"))]
    if inside:
        return f"is a zip archive that holds {inside[0]!r}, no checkpoint itself; unpack it first"
    return None
