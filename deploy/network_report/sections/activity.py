"""Firing rates, by layer and by time step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lapilli.deploy.network_report.figures import bar_figure, heat_figure
from lapilli.deploy.network_report.section import (
    Figure,
    Missing,
    Section,
    named,
    percent,
    round_percent,
)
from lapilli.deploy.network_report.sources import Facts, Sources

_MOST_STEPS = 64  # drawn beside each other


def section(sources: Sources) -> Section:
    """Say how often each layer fires."""
    layers = _layers(sources)
    words = "validate {net} --data {data} --no-labels -o results"
    if not layers:
        missing = Missing("Nothing was run.", sources.command(words))
        return Section(name="activity", title="Firing rates", missing=(missing,))
    silent = [name for name, row in layers.items() if row["rate"] == 0]
    told = [
        "Events of each neuron and time step, in parts of the most that it can send: "
        f"{_extremes(layers)}."
    ]
    if silent:
        told.append(f"Silent over the whole set: {named(silent)}.")
    steps = {name: row["rate_by_step"] for name, row in layers.items() if row.get("rate_by_step")}
    uncounted = Missing("Nobody counted step by step.", sources.command(words))
    return Section(
        name="activity",
        title="Firing rates",
        told=tuple(told),
        figures=(_rates(layers), *_by_step(steps)),
        missing=() if steps else (uncounted,),
    )


def rates_of(sources: Sources) -> dict[str, float]:
    """Return the firing rate of each layer that is known."""
    return {name: row["rate"] for name, row in _layers(sources).items()}


def _layers(sources: Sources) -> Mapping[str, Facts]:
    """Of each layer that fires, what is known."""
    for results in sources.results:
        return {name: row for name, row in results.layers.items() if "rate" in row}
    for compared in sources.comparisons:
        return {name: {"rate": rate} for name, rate in compared["rates"].items()}
    return {}


def _extremes(layers: Mapping[str, Facts]) -> str:
    low = min(layers, key=lambda name: layers[name]["rate"])
    high = max(layers, key=lambda name: layers[name]["rate"])
    return (
        f"from {percent(layers[low]['rate'])} ({low}) to {percent(layers[high]['rate'])} ({high})"
    )


def _rates(layers: Mapping[str, Facts]) -> Figure:
    series = {"integers": [row["rate"] for row in layers.values()]}
    real = [row.get("rate_in_float") for row in layers.values()]
    if any(rate is not None for rate in real):
        series["float"] = real
    told = f"{len(layers)} layers; {_extremes(layers)}."
    return bar_figure(
        "rates",
        "Firing rate by layer",
        told,
        list(layers),
        series,
        written=percent,
        ticked=round_percent,
    )


def _by_step(steps: Mapping[str, Sequence[float]]) -> list[Figure]:
    if not steps:
        return []
    T = min(len(rates) for rates in steps.values())
    means = [sum(rates[t] for rates in steps.values()) / len(steps) for t in range(T)]
    told = "Mean of all layers by step: " + ", ".join(percent(mean) for mean in means[:16])
    told += ", …" if T > 16 else "."
    wide = 58.0 if T <= 12 else max(8.0, 700.0 / min(T, _MOST_STEPS))
    return [
        heat_figure(
            "by-step",
            "Firing rate by layer and time step",
            told,
            list(steps),
            [str(t) for t in range(min(T, _MOST_STEPS))],
            [list(rates[:_MOST_STEPS]) for rates in steps.values()],
            across="time step",
            cell=(wide, 18.0),
            numbered=T <= 12,
            written=percent,
        )
    ]
