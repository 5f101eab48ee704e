"""Read values out of JSON that nobody vouches for; each refusal says where."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import MISSING, fields
from fractions import Fraction
from typing import Any

from lapilli.export.malformed import MalformedError


def mapping(
    value: object, where: str, keys: Iterable[str], optional: Iterable[str] = ()
) -> dict[str, Any]:
    """Take an object that has all of `keys`, perhaps some of `optional`, and no other."""
    keys = tuple(keys)
    if not isinstance(value, dict):
        raise MalformedError(f"{where}: expected an object")
    if missing := [k for k in keys if k not in value]:
        raise MalformedError(f"{where}: key {missing[0]!r} is missing")
    if odd := sorted(value.keys() - {*keys, *optional}):
        raise MalformedError(f"{where}: unknown key {odd[0]!r}")
    return value


def fields_of(kind: Any, value: object, where: str) -> dict[str, Any]:
    """Take an object that has the fields of a dataclass; those with a default may be missing."""
    given = {f.name: f.default is MISSING and f.default_factory is MISSING for f in fields(kind)}
    must = [name for name, needed in given.items() if needed]
    may = [name for name, needed in given.items() if not needed]
    return mapping(value, where, must, may)


def items(value: object, where: str) -> list[Any]:
    """Take a list."""
    if not isinstance(value, list):
        raise MalformedError(f"{where}: expected a list")
    return value


def text(value: object, where: str) -> str:
    """Take a string."""
    if not isinstance(value, str):
        raise MalformedError(f"{where}: expected text, got {value!r}")
    return value


def integer(value: object, where: str) -> int:
    """Take a number of at most 64 bits."""
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) >= 1 << 63:
        raise MalformedError(f"{where}: expected a 64-bit integer, got {str(value)[:40]}")
    return value


def boolean(value: object, where: str) -> bool:
    """Take true or false."""
    if not isinstance(value, bool):
        raise MalformedError(f"{where}: expected true or false, got {value!r}")
    return value


def integers(value: object, where: str) -> tuple[int, ...]:
    """Take a list of at most 32 integers."""
    numbers = tuple(integer(v, where) for v in items(value, where))
    if len(numbers) > 32:
        raise MalformedError(f"{where}: {len(numbers)} axes")
    return numbers


def pair(value: object, where: str) -> tuple[int, ...]:
    """Take two small integers."""
    numbers = integers(value, where)
    if len(numbers) != 2 or not all(0 <= n < 1 << 16 for n in numbers):
        raise MalformedError(f"{where}: expected two small integers, got {numbers}")
    return numbers


def fraction(value: object, where: str) -> Fraction:
    """Take a fraction, written as text without an exponent."""
    written = text(value, where)
    try:
        if len(written) > 200 or "e" in written.lower():
            raise ValueError("too long")
        return Fraction(written)
    except (ValueError, ZeroDivisionError) as error:
        raise MalformedError(f"{where}: {written[:40]!r} is no fraction") from error
