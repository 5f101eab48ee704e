"""Checkpoints in several files: which files they are, and that none is missing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from lapilli.ir.errors import CheckpointError

_PART = re.compile(r"(.+)-(\d+)-of-(\d+)(\.\w+)")


def is_sharded(path: Path) -> bool:
    """Whether this is the index, or the folder, of a checkpoint in several files."""
    return path.is_dir() or path.name.endswith(".index.json")


def refuse_lone_shard(path: Path) -> None:
    """Refuse one file of several.

    Raises:
        CheckpointError: the name says that there are more.
    """
    part = _PART.fullmatch(path.name)
    if part and int(part[3]) > 1:
        raise CheckpointError(
            path,
            f"is one of the {int(part[3])} files of a checkpoint; name their folder, "
            f"or their index ({part[1]}{part[4]}.index.json)",
        )


def read_shards(path: Path, read: Callable[[Path], object]) -> Mapping[str, Tensor]:
    """Read all files of a checkpoint by `read` and join what they hold.

    Args:
        path: the index, or the folder: with one index, or with all files of one numbered set.
        read: what one file holds: tensors by name.

    Raises:
        CheckpointError: no such index, a file or a key is missing, or a key is there twice.
    """
    index = _index_in(path) if path.is_dir() else path
    if index is None:
        files, placed = _numbered(path), None
    else:
        placed = _placed(index)
        files = [index.parent / name for name in sorted(set(placed.values()))]
    state: dict[str, Tensor] = {}
    for file in files:
        if not file.is_file():
            raise CheckpointError(path, f"lacks its file {file.name!r}; download all of them")
        content = read(file)
        if not isinstance(content, Mapping):
            raise CheckpointError(file, "holds no tensors by name")
        for key, value in content.items():
            if not isinstance(key, str) or not isinstance(value, Tensor):
                raise CheckpointError(file, f"entry {key!r} is not a tensor")
            if key in state:
                raise CheckpointError(path, f"has {key!r} in two of its files")
            state[key] = value
    if placed is not None and (odd := sorted(placed.keys() ^ state.keys())):
        raise CheckpointError(path, f"its index and its files disagree about {odd[0]!r}")
    return state


def _index_in(folder: Path) -> Path | None:
    found = sorted(folder.glob("*.index.json"))
    if len(found) > 1:
        raise CheckpointError(folder, f"has several indexes ({_names(found)}); name one of them")
    return found[0] if found else None


def _placed(index: Path) -> Mapping[str, str]:
    """The file of each key, as the index says."""
    try:
        placed = json.loads(index.read_text())["weight_map"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(index, "is no index of a checkpoint: no 'weight_map'") from error
    if not isinstance(placed, dict) or not placed:
        raise CheckpointError(index, "is no index of a checkpoint: its 'weight_map' is no object")
    for name in placed.values():
        if not isinstance(name, str) or Path(name).name != name:
            raise CheckpointError(index, f"names a file outside its folder: {name!r}")
    return placed


def _numbered(folder: Path) -> list[Path]:
    """The files x-00001-of-0000n of a folder, if all are there."""
    files = sorted(f for f in folder.iterdir() if f.is_file())
    parts = [m for f in files if (m := _PART.fullmatch(f.name))]
    sets = {(m[1], m[3], m[4]) for m in parts}
    if len(sets) != 1:
        shown = _names(files) or "nothing"
        raise CheckpointError(
            folder, f"is a folder without one checkpoint in several files; it has {shown}"
        )
    stem, count, suffix = next(iter(sets))
    there = {int(m[2]) for m in parts}
    missing = next((i for i in range(1, int(count) + 1) if i not in there), None)
    if missing is not None:
        name = f"{stem}-{missing:0{len(count)}}-of-{count}{suffix}"
        raise CheckpointError(folder, f"lacks its file {name!r}; download all of them")
    return [folder / m.string for m in parts]


def _names(files: list[Path]) -> str:
    shown = ", ".join(f.name for f in files[:4])
    return shown if len(files) <= 4 else f"{shown} and {len(files) - 4} more"
