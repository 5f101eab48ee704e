"""Tables of prices: data of other people, each with its unit, technology, source, year and grade.

Prices are floats, and the one place where floats stand right of the graph: they are multiplied
with counts and printed, and nothing that computes ever sees one.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lapilli.costs.own_files import read_json
from lapilli.ir.errors import FormatError, InputError

_PICOJOULES = {"fJ": 1e-3, "pJ": 1.0, "nJ": 1e3}
_TEXTS = ("unit", "technology", "source", "grade")
_MOST = 1e100  # of any unit: sums of prices stay finite


class Grade(enum.Enum):
    """How somebody came to know a price."""

    MEASURED = "measured"  # on silicon, by who published it
    SIMULATED = "simulated"  # of a circuit, before silicon or without it
    VENDOR = "vendor"  # said by who sells it
    SECONDARY = "secondary"  # quoted, or derived from what was quoted
    UNKNOWN = "unknown"  # nobody published one


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What one operation costs, as somebody said.

    Attributes:
        picojoules: None where nobody says.
        technology: process and precision; source: paper, table, file and commit; year: of it.
        grade: how it is known.
    """

    picojoules: float | None
    technology: str
    source: str
    year: int | None
    grade: Grade


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Prices that belong together, for one model.

    Attributes:
        name: on the command line and in reports.
        model: whose keys they have.
        prices: by key.
    """

    name: str
    model: str
    prices: Mapping[str, Price]

    @property
    def grade(self) -> Grade:
        """Grade of the weakest price in it."""
        order = list(Grade)
        return max((price.grade for price in self.prices.values()), key=order.index)

    @property
    def unknown(self) -> tuple[str, ...]:
        """Keys without a price."""
        return tuple(key for key, price in self.prices.items() if price.picojoules is None)


def shipped() -> tuple[Table, ...]:
    """Read the tables that come with lapilli, a file for each model."""
    folder = Path(__file__).parent / "tables"
    return tuple(table for file in sorted(folder.glob("*.json")) for table in read_tables(file))


def read_tables(path: Path) -> tuple[Table, ...]:
    """Read a JSON file of tables: `{"tables": [{"name", "model", "prices": {KEY: PRICE}}]}`.

    Raises:
        FormatError: it cannot be read, or says something else than prices; names what.
    """
    content = read_json(path)
    tables = content.get("tables") if isinstance(content, dict) else None
    if not isinstance(tables, list) or not tables:
        raise FormatError(path, 'has no list "tables"; docs/cost.md shows one')
    return tuple(_table(path, given) for given in tables)


def _table(path: Path, given: object) -> Table:
    if not isinstance(given, dict) or not isinstance(given.get("name"), str):
        raise FormatError(path, 'holds a table without a "name"')
    name, model, prices = given["name"], given.get("model"), given.get("prices")
    if not isinstance(model, str):
        raise FormatError(path, f"table {name!r} does not say its model")
    if not isinstance(prices, dict) or not prices:
        raise FormatError(path, f"table {name!r} holds no prices")
    told = {str(key): _price(path, name, str(key), price) for key, price in prices.items()}
    return Table(name=name, model=model, prices=told)


def _price(path: Path, table: str, key: str, given: object) -> Price:
    where = f"table {table!r}, price of {key!r}"
    if not isinstance(given, dict):
        raise FormatError(path, f"{where}: is no object with a value, a unit and a source")
    for name in _TEXTS:
        if not isinstance(given.get(name), str):
            raise FormatError(path, f"{where}: says no {name}")
    value, year, unit = given.get("value"), given.get("year"), given["unit"]
    grades = {grade.value: grade for grade in Grade}
    if given["grade"] not in grades:
        raise FormatError(path, f"{where}: grade {given['grade']!r} is none of {', '.join(grades)}")
    grade = grades[given["grade"]]
    if unit not in _PICOJOULES:
        raise FormatError(path, f"{where}: unit {unit!r} is none of {', '.join(_PICOJOULES)}")
    if year is not None and (not isinstance(year, int) or isinstance(year, bool)):
        raise FormatError(path, f"{where}: year {year!r} is none")
    if (value is None) != (grade is Grade.UNKNOWN):
        raise FormatError(path, f"{where}: a value of null is graded unknown, and nothing else is")
    if value is not None and not _is_price(value):
        raise FormatError(path, f"{where}: {value!r} is no number from 0 to {_MOST:g}")
    return Price(
        picojoules=None if value is None else float(value) * _PICOJOULES[unit],
        technology=given["technology"],
        source=given["source"],
        year=year,
        grade=grade,
    )


def _is_price(value: object) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return 0 <= value <= _MOST


def checked(tables: Sequence[Table], keys: Mapping[str, Sequence[str]]) -> tuple[Table, ...]:
    """Return tables that models can use, each once.

    Args:
        tables: of several files.
        keys: of each model, by name.

    Raises:
        InputError: a model that nobody has, a key that it lacks or does not know, or two tables
            of one name.
    """
    names: set[str] = set()
    for table in tables:
        if table.name in names:
            raise InputError(f"two tables of prices are called {table.name!r}: rename one")
        names.add(table.name)
        if table.model not in keys:
            known = ", ".join(keys)
            raise InputError(f"table {table.name!r}: model {table.model!r} is none of {known}")
        for key in table.prices:
            if key not in keys[table.model]:
                known = ", ".join(keys[table.model])
                raise InputError(
                    f"table {table.name!r}: {table.model} has no price of {key!r}, but of {known}"
                )
        if missing := [key for key in keys[table.model] if key not in table.prices]:
            raise InputError(
                f"table {table.name!r} lacks the price of {', '.join(missing)}; say null, of grade "
                "unknown, where nobody knows"
            )
    return tuple(tables)
