"""How the network is cut onto the cores of chips."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lapilli.deploy.network_report.figures import bar_figure, heat_figure
from lapilli.deploy.network_report.section import (
    Column,
    Figure,
    Section,
    Table,
    counted,
    percent,
    round_percent,
)
from lapilli.deploy.network_report.small_chip import cannot, obstacles, small_tables, small_told
from lapilli.deploy.network_report.sources import Facts, Sources

_MOST = 40  # populations that are drawn
_MOST_CORES, _ROW = 1024, 32  # that are drawn, and how many of them beside each other
_FULL = 0.9


def section(sources: Sources) -> Section:
    """Say how many cores each chip takes, how full they are, and what does not fit."""
    told, figures, tables = [], [], []
    for chip, found in sources.cores.items():
        if isinstance(found, str):
            told.append(f"{chip}: {found}")
            continue
        if "layers" in found:
            told += small_told(found)
            tables += small_tables(found)
            continue
        told += [_told(found), *_between(found)]
        figures += _figures(found)
        tables += [_populations(found), *obstacles(found)]
    return Section(
        name="cores",
        title="Cores",
        told=tuple(told),
        figures=tuple(figures),
        tables=tuple(tables),
        facts={"chips": dict(sources.cores)},
    )


def _told(found: Facts) -> str:
    unknown = found["unknown"]
    fewest, most = found["chips"]
    chips = counted(fewest if most is None else most, "chip")
    if most is None:
        chips = f"at least {chips}"
    elif most != fewest:
        chips = f"{fewest:,} to {chips}"
    sentence = (
        f"{found['chip']}: {'at least ' * bool(unknown)}{found['cores']:,} cores on {chips}, as "
        f"{found['neurons']:,} binary neurons; no cut takes fewer than {found['lowest']:,}."
    )
    if found["system"]:
        sentence += f" The smallest system with as many chips: {found['system']}."
    if unknown:
        sentence += f" Unknown, and not looked at: {', '.join(unknown)}."
    if not found["fits"]:
        sentence += f" {cannot(found)}."
    return sentence


def _between(found: Facts) -> list[str]:
    """What goes from chip to chip, where cores were put onto several."""
    placed = found.get("placement")
    if placed is None or placed["chips"] < 2:
        return []
    fires = "of an image" if placed["measured"] else "if every neuron fires at every step"
    return [
        f"Put onto {counted(placed['chips'], 'chip')}, {placed['between_chips']:,.0f} of "
        f"{placed['messages']:,.0f} messages {fires} go from chip to chip; no placement of these "
        f"cores goes below {placed['lowest']:,.0f}."
    ]


def _figures(found: Facts) -> list[Figure]:
    chip, every = found["chip"], found["populations"]
    largest = sorted(every, key=lambda p: -p["cores"])[:_MOST]
    shown = [p for p in every if p in largest]
    names = [p["population"] for p in shown]
    told = f"{len(every):,} populations, {found['cores']:,} cores."
    if len(shown) < len(every):
        told += f" The {len(shown)} largest are drawn."
    bars = bar_figure(
        f"cores-{chip}",
        f"Cores of {chip} by population",
        told,
        names,
        {"cores": [p["cores"] for p in shown]},
        of="population",
        written=lambda count: f"{count:,.0f}",
    )
    drawn = [bars] if any(p["cores"] > 1 for p in shown) else []
    known = [r for r, limit in found["each"].items() if limit["most"] is not None]
    if not known:
        return drawn
    use = [[p["use"][r] / found["each"][r]["most"] for r in known] for p in shown]
    told = "Of what a core has, in the fullest core of each population."
    full = heat_figure(
        f"use-{chip}",
        f"How full a core of {chip} is",
        told,
        names,
        known,
        use,
        most=1.0,
        cell=(104.0, 18.0),
        written=percent,
    )
    return [*_map(found, known), *drawn, full]


def _map(found: Facts, known: Sequence[str]) -> list[Figure]:
    """A cell for each core, chip by chip, as dark as it is full."""
    shares = [
        max(p["use"][r] / found["each"][r]["most"] for r in known)
        for p in found["populations"]
        for _ in range(p["cores"])
    ]
    if not 1 < len(shares) <= _MOST_CORES:
        return []
    placed = found.get("placement")
    chip_of = placed["chip_of_core"] if placed else [0] * len(shares)
    labels, values = [], list[list[float | None]]()
    for chip in sorted(set(chip_of)):
        own = [share for share, home in zip(shares, chip_of, strict=True) if home == chip]
        for k in range(0, len(own), _ROW):
            labels.append(f"chip {chip}, from core {k}" if placed else f"from core {k}")
            values.append(list(own[k : k + _ROW]))
    full = sum(share > _FULL for share in shares)
    told = (
        f"{len(shares):,} cores in the order of populations, {_ROW} to a row; of what each has "
        f"least of, {full:,} use more than {round_percent(_FULL)}."
    )
    figure = heat_figure(
        f"map-{found['chip']}",
        f"Every core of {found['chip']}",
        told,
        labels,
        [str(k) for k in range(max(map(len, values)))],
        values,
        most=1.0,
        cell=(20.0, 20.0),
        numbered=False,
        written=percent,
    )
    return [figure]


def _populations(found: Facts) -> Table:
    resources = list(found["each"])
    columns = (
        Column("population", numeric=False),
        *(Column(name) for name in ("neurons", "cores")),
        *(Column(name) for name in resources),
        Column("messages in the run", _rounded),
    )
    rows = tuple(
        (
            *(p["population"], p["neurons"], p["cores"]),
            *(p["use"][r] for r in resources),
            p["messages"],
        )
        for p in found["populations"]
    )
    title = f"Populations on {found['chip']}: what the fullest core takes"
    return Table(
        name=f"populations-{found['chip']}", title=title, columns=columns, rows=rows, folded=True
    )


def _rounded(count: Any) -> str:
    return "" if count is None else f"{count:,.0f}"
