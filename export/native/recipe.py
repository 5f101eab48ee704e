"""Read the recipe in a `.lapilli` file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, TypeVar

from lapilli.export.malformed import MalformedError
from lapilli.export.native.values import (
    boolean,
    fields_of,
    fraction,
    integer,
    items,
    text,
)
from lapilli.ir.recipe import (
    Json,
    NeuronRecord,
    Note,
    NoteKind,
    Recipe,
    Result,
    Rounding,
    SynapseRecord,
)

_Made = TypeVar("_Made")
_Read = Callable[[object, str], Any]


def recipe_from(value: object) -> Recipe | None:
    """Read a recipe; None if the network has none.

    Raises:
        MalformedError: a key that is missing or unknown, or a value of another type.
    """
    return None if value is None else _made(Recipe, value, "the recipe")


def _made(kind: type[_Made], value: object, where: str) -> _Made:
    """Read a dataclass field by field, by the types that it declares."""
    told = fields_of(kind, value, where)
    types = {f.name: str(f.type) for f in fields(kind)}  # type: ignore[arg-type]
    given = {name: _READERS[types[name]](v, f"{where}: {name}") for name, v in told.items()}
    return kind(**given)


def _each(kind: type[Any]) -> _Read:
    def read(value: object, where: str) -> tuple[Any, ...]:
        return tuple(_made(kind, item, where) for item in items(value, where))

    return read


def _integers(value: object, where: str) -> tuple[int, ...]:
    return tuple(integer(item, where) for item in items(value, where))


def _texts(value: object, where: str) -> tuple[str, ...]:
    return tuple(text(item, where) for item in items(value, where))


def _or_none(read: _Read) -> _Read:
    return lambda value, where: None if value is None else read(value, where)


def _json(value: object, where: str) -> Mapping[str, Json]:
    if not isinstance(value, dict):
        raise MalformedError(f"{where}: expected an object")
    _check_plain(value, where)
    return value


def _check_plain(value: object, where: str) -> None:
    if isinstance(value, float):
        raise MalformedError(f"{where}: {value!r} is a floating-point number")
    nested = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for item in nested:
        _check_plain(item, where)


def _note_kind(value: object, where: str) -> NoteKind:
    try:
        return NoteKind(value)
    except ValueError as error:
        raise MalformedError(f"{where}: unknown kind {value!r} of note") from error


_READERS: Mapping[str, _Read] = {
    "str": text,
    "int": integer,
    "bool": boolean,
    "Fraction": fraction,
    "int | None": _or_none(integer),
    "tuple[int, ...]": _integers,
    "bool | None": _or_none(boolean),
    "Fraction | None": _or_none(fraction),
    "NoteKind": _note_kind,
    "Mapping[str, Json]": _json,
    "Rounding": lambda value, where: _made(Rounding, value, where),
    "tuple[SynapseRecord, ...]": _each(SynapseRecord),
    "tuple[NeuronRecord, ...]": _each(NeuronRecord),
    "tuple[Note, ...]": _each(Note),
    "tuple[str, ...]": _texts,
    "tuple[Result, ...]": _each(Result),
}
