"""What a section of the report holds: sentences, figures, tables, and what is missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Written = Callable[[Any], str]


def plain(value: Any) -> str:
    """Write a cell: whole numbers with separators, nothing for what is not there."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)


def percent(value: float | None) -> str:
    """Write a share.

    >>> percent(0.12345), percent(None)
    ('12.35 %', '')
    """
    return "" if value is None else f"{value:.2%}".replace("%", " %")


def round_percent(value: float) -> str:
    """Write a share as a tick does.

    >>> round_percent(0.2), round_percent(0.005)
    ('20 %', '0.5 %')
    """
    return f"{100 * value:.3g} %"


@dataclass(frozen=True, slots=True)
class Column:
    """Of a table.

    Attributes:
        name: its head, and its key in JSON.
        written: makes text of a cell.
        numeric: whether it stands to the right.
        state: makes "good", "bad" or "" of a cell: its colour.
    """

    name: str
    written: Written = plain
    numeric: bool = True
    state: Callable[[Any], str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table.

    Attributes:
        name: of the section's tables; title: its caption.
        columns, rows: cells as JSON holds them.
        folded: whether it is closed until it is asked for.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Any, ...], ...]
    folded: bool = False

    def facts(self) -> list[dict[str, Any]]:
        """Return its rows for JSON."""
        names = [column.name for column in self.columns]
        return [dict(zip(names, row, strict=True)) for row in self.rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A picture and its numbers.

    Attributes:
        name: of the section's figures; title: its caption.
        told: what it shows, in words.
        svg: the picture.
        data: its numbers, for JSON.
        table: the same numbers to be read; None where the picture writes each of them.
        small: whether several stand beside each other.
    """

    name: str
    title: str
    told: str
    svg: str
    data: Any
    table: Table | None = None
    small: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A part that is folded until it is asked for.

    Attributes:
        name: to which links lead; title: its head; told: what stands beside it.
        figures: inside; note: in place of one that is not drawn.
    """

    name: str
    title: str
    told: str
    figures: tuple[Figure, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Missing:
    """What a section has no data for, and the command that gets it."""

    what: str
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A section of the report.

    Attributes:
        name: to which links lead; title: its head.
        told: sentences that begin it.
        figures, tables, cards: in this order.
        missing: what there are no data for.
        facts: for JSON, beside all of these.
    """

    name: str
    title: str
    told: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    cards: tuple[Card, ...] = ()
    missing: tuple[Missing, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def every_figure(self) -> tuple[Figure, ...]:
        """Those of cards, too."""
        return (*self.figures, *(figure for card in self.cards for figure in card.figures))

    def as_json(self) -> dict[str, Any]:
        """Return all of it that is no picture."""
        return {
            "title": self.title,
            "told": list(self.told),
            **self.facts,
            "figures": {
                figure.name: {"title": figure.title, "told": figure.told, "data": figure.data}
                for figure in self.every_figure
            },
            "tables": {table.name: table.facts() for table in self.tables},
            "missing": [{"what": m.what, "command": m.command} for m in self.missing],
        }


def counted(count: int, what: str) -> str:
    """Write a count of things, one or several.

    >>> counted(1, "node"), counted(1200, "node")
    ('1 node', '1,200 nodes')
    """
    return f"{count:,} {what}" + ("" if count == 1 else "s")


def named(names: Sequence[str], most: int = 6) -> str:
    """List names, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
