"""How much of each register a network takes: what is proved, and what was seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lapilli.deploy.network_report.figures import bar_figure
from lapilli.deploy.network_report.section import Column, Figure, Missing, Section, Table
from lapilli.deploy.network_report.sources import Sources
from lapilli.ir.certificate import Need, certify, needs, widest
from lapilli.ir.targets.lava import STATE
from lapilli.ir.targets.table import TARGETS
from lapilli.ir.targets.target import Register
from lapilli.ir.types import IntRange

_Held = Mapping[str, Mapping[Register, Need]]  # of each target, what needs most of a register


@dataclass(frozen=True, slots=True)
class _Row:
    """Bits of a membrane that are proved to be enough, and that images asked for."""

    node: str
    proved: int
    seen: int | None
    lowest: int | None
    highest: int | None


def section(sources: Sources) -> Section:
    """Hold every membrane to the registers that targets have."""
    graph = sources.network.graph
    rows, held = _rows(sources), {target.name: widest(needs(graph, target)) for target in TARGETS}
    missing = []
    if rows and all(row.seen is None for row in rows):
        command = sources.command("validate {net} --data {data} --no-labels -o results")
        missing.append(Missing("What images ask of membranes was not recorded.", command))
    told = [_fits(held)]
    if seen := [row for row in rows if row.seen is not None]:
        tight = max(seen, key=lambda row: row.seen or 0)
        told.append(
            f"Of what images asked for, {tight.node} came nearest: {tight.seen} bits, "
            f"{tight.lowest:,} to {tight.highest:,}."
        )
    return Section(
        name="headroom",
        title="Headroom",
        told=tuple(told),
        figures=(_membranes(rows),) if rows else (),
        tables=(_registers(held), *_states(rows)),
        missing=tuple(missing),
    )


def _rows(sources: Sources) -> list[_Row]:
    layers = sources.results[0].layers if sources.results else {}
    return [
        _row(bounds.name, bounds.state_bits, layers.get(bounds.name, {}))
        for bounds in certify(sources.network.graph)
    ]


def _row(node: str, proved: int, facts: Mapping[str, object]) -> _Row:
    lowest, highest = facts.get("lowest_state"), facts.get("highest_state")
    if not isinstance(lowest, int) or not isinstance(highest, int):
        return _Row(node, proved, None, None, None)
    return _Row(node, proved, (IntRange(lowest, highest) | IntRange(-1, 0)).bits, lowest, highest)


def _fits(held: _Held) -> str:
    """Say which targets hold every number."""
    answers = {target: {need.holds for need in found.values()} for target, found in held.items()}
    fits = [target for target, holds in answers.items() if holds <= {True}]
    known = [t for t, holds in answers.items() if None in holds and False not in holds]
    others = [target for target, holds in answers.items() if False in holds]
    sentence = f"Every number is proved to fit {', '.join(fits) or 'none of the targets'}"
    if known:
        sentence += f"; as far as its registers are known, {', '.join(known)}"
    return f"{sentence}; not {', '.join(others)}." if others else f"{sentence}."


def _membranes(rows: Sequence[_Row]) -> Figure:
    told = (
        f"Bits with the sign, of {len(rows)} layers: at most {max(row.proved for row in rows)} are "
        f"proved to be enough; Loihi's state has {STATE.bits}."
    )
    series: dict[str, list[float | None]] = {"proved": [row.proved for row in rows]}
    if any(row.seen is not None for row in rows):
        series["seen"] = [row.seen for row in rows]
    return bar_figure(
        "membranes",
        "Bits of a membrane",
        told,
        [row.node for row in rows],
        series,
        written=lambda bits: f"{bits:g}",
        limits={"Loihi's state": STATE.bits},
    )


def _states(rows: Sequence[_Row]) -> list[Table]:
    """How far membranes went, where they were recorded, and what is left of Loihi's register."""
    known = [row for row in rows if row.lowest is not None and row.highest is not None]
    if not known:
        return []
    columns = (
        Column("layer", numeric=False),
        *(Column(name) for name in ("lowest", "highest", "largest that fits")),
        Column("headroom", lambda share: f"{share:.4%}".replace("%", " %")),
    )
    rows_ = tuple(
        (r.node, r.lowest, r.highest, STATE.largest,
         1 - max(abs(r.lowest or 0), abs(r.highest or 0)) / STATE.largest)
        for r in known
    )  # fmt: skip
    title = "Membranes before reset, and what is left of Loihi's state"
    return [Table(name="states", title=title, columns=columns, rows=rows_, folded=True)]


def _registers(held: _Held) -> Table:
    """A row for each register, a column for each target; a cell is [bits needed, bits there]."""
    columns = (
        Column("register", numeric=False),
        *(Column(target, _bits, state=_state) for target in held),
        Column("most needed by", numeric=False),
    )
    rows = []
    for register in Register:
        needed = [found.get(register) for found in held.values()]
        nodes = dict.fromkeys(need.node for need in needed if need is not None)
        if nodes:
            cells = [None if n is None else [n.bits, str(n.limit), n.holds] for n in needed]
            rows.append((register.value, *cells, ", ".join(nodes)))
    title = "Bits that registers need, of those that targets have"
    return Table(name="registers", title=title, columns=columns, rows=tuple(rows))


def _bits(cell: Sequence[object] | None) -> str:
    return "" if cell is None else f"{cell[0]} of {cell[1]}"


def _state(cell: Sequence[object] | None) -> str:
    if cell is None or cell[2] is None:
        return ""
    return "good" if cell[2] else "bad"
