"""How the network is cut onto the cores of chips."""

from __future__ import annotations

from typing import Any

from lapilli.deploy.network_report.figures import bar_figure, heat_figure
from lapilli.deploy.network_report.section import Column, Figure, Section, Table, percent
from lapilli.deploy.network_report.sources import Facts, Sources

_MOST = 40  # populations that are drawn


def section(sources: Sources) -> Section:
    """Say how many cores each chip takes, how full they are, and what does not fit."""
    told, figures, tables = [], [], []
    for chip, found in sources.cores.items():
        if isinstance(found, str):
            told.append(f"{chip}: {found}")
            continue
        told.append(_told(found))
        figures += _figures(found)
        tables.append(_populations(found))
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
    chips = f"at least {fewest:,}" if most is None else f"{fewest:,}"
    if most is not None and most != fewest:
        chips += f" to {most:,}"
    sentence = (
        f"{found['chip']}: {'at least ' * bool(unknown)}{found['cores']:,} cores on {chips} "
        f"chip{'s' * (fewest != 1 or most != 1)}, as {found['neurons']:,} binary neurons; no cut "
        f"takes fewer than {found['lowest']:,}."
    )
    if found["system"]:
        sentence += f" The smallest system with as many chips: {found['system']}."
    if unknown:
        sentence += f" Unknown, and not looked at: {', '.join(unknown)}."
    misfits = [p["population"] for p in found["populations"] if p["beyond"]]
    if misfits:
        sentence += f" Fits no core: {', '.join(misfits)}."
    return sentence


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
    return [*drawn, full]


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
