"""Where compiled kernels are kept: a folder of the user's cache, for exactly these sources."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

import platformdirs


def directory() -> Path:
    """Folder of the compiled kernels; another content of their sources is another folder."""
    sources = sorted(Path(__file__).parent.rglob("*.py"))
    content = hashlib.sha256(b"\0".join(source.read_bytes() for source in sources))
    return Path(platformdirs.user_cache_dir("lapilli")) / "fast" / content.hexdigest()[:16]


def is_writable(folder: Path) -> bool:
    """Whether files can be made in `folder`, which is made where it is missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder)
    except OSError:
        return False
    os.close(handle)
    Path(name).unlink()
    return True
