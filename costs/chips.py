"""Chips by name, or by a file of the user: what a core holds, and who says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeGuard

from lapilli.costs.own_files import read_json
from lapilli.ir.errors import FormatError, InputError
from lapilli.ir.targets.speck import SPECK
from lapilli.ir.targets.table import TARGETS
from lapilli.ir.targets.target import Cores, Figure, Grade, Resource
from lapilli.ir.targets.xylo import XYLOS

CHIPS = tuple(target.name for target in TARGETS if target.cores is not None)
SMALL = {chip.name: chip for chip in (SPECK, *XYLOS)}  # a whole network or nothing
_MOST = 1 << 50  # of anything
_COUNT = "cores"  # of a chip, beside the resources of each


def chip(name: str) -> tuple[str, Cores]:
    """Return a chip's name and its cores.

    Args:
        name: one of `CHIPS`, or a file that ends in .json.

    Raises:
        InputError: no such chip.
        FormatError: a file that says something else, or contradicts itself.
    """
    if name.endswith(".json"):
        return _read(Path(name))
    for target in TARGETS:
        if target.name == name and target.cores is not None:
            return name, target.cores
    known = ", ".join((*CHIPS, *SMALL))
    raise InputError(f"chip {name!r} is none of {known}; your own is a FILE.json (docs/cost.md)")


def _read(path: Path) -> tuple[str, Cores]:
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("name"), str):
        raise FormatError(path, 'describes no chip: it has no "name"')
    known = {_COUNT, *(r.value for r in Resource)}
    if odd := sorted(content.keys() - {"name", "systems", *known}):
        raise FormatError(path, f"{odd[0]!r} is nothing that a chip has; {', '.join(known)} are")
    if missing := [key for key in sorted(known) if key not in content]:
        raise FormatError(path, f"does not say {', '.join(missing)}; null where nobody knows")
    systems = content.get("systems", {})
    if not isinstance(systems, dict) or not all(_is_count(n) for n in systems.values()):
        raise FormatError(path, '"systems" names none: {"board": 8}')
    each = {r: _figure(path, r.value, content[r.value]) for r in Resource}
    count = _figure(path, _COUNT, content[_COUNT])
    in_order = {
        name: Figure.known(chips, path.name, Grade.SECOND_HAND)
        for name, chips in sorted(systems.items(), key=lambda item: item[1])
    }
    return content["name"], Cores(count=count, each=each, systems=in_order)


def _figure(path: Path, key: str, given: Any) -> Figure:
    if given is None:
        return Figure.unknown()
    if not isinstance(given, dict):
        raise FormatError(path, f"{key}: is no value with a source and a grade")
    grades = {grade.value: grade for grade in Grade if grade is not Grade.UNKNOWN}
    value = given.get("value")
    high = given.get("most", value)
    if not _is_count(value) or not _is_count(high):
        asked = f"{value!r} to {high!r}" if "most" in given else repr(value)
        raise FormatError(path, f"{key}: {asked} is no count of 1 to {_MOST:,}")
    if high < value:
        raise FormatError(path, f"{key}: at most {high}, and at least {value}: which is it?")
    if not isinstance(given.get("source"), str) or given.get("grade") not in grades:
        told = ", ".join(grades)
        raise FormatError(path, f"{key}: needs a source, and a grade: {told}")
    return Figure.known(value, given["source"], grades[given["grade"]], high)


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _MOST
