"""How the network and this report were made: options, versions, digests."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any

import numpy as np

from lapilli.deploy.network_report.section import Column, Section, Table
from lapilli.deploy.network_report.sources import Results, Sources
from lapilli.ir.version import __version__

_VERSIONS = ("lapilli", "python", "numpy", "processor")


def section(sources: Sources) -> Section:
    """Write down what it takes to make all of this again."""
    network, recipe = sources.network, sources.network.recipe
    rows: list[tuple[str, Any]] = [
        ("file", sources.file),
        ("network", network.digest),
        ("graph", network.graph.digest),
        ("this report by", f"lapilli {__version__}, NumPy {np.__version__}"),
        ("Python", platform.python_version()),
    ]
    if recipe is not None:
        rows += [
            ("parameters of the model", recipe.parameters),
            ("made for", recipe.target or "no target"),
            *((f"model: {key}", value) for key, value in recipe.model.items()),
            *((f"quantize: {key}", value) for key, value in recipe.options.items()),
            ("rounding", recipe.rounding.method),
            *((f"calibration: {key}", value) for key, value in recipe.images.items()),
        ]
    columns = tuple(Column(name, _text, numeric=False) for name in ("what", "value"))
    tables = [Table(name="network", title="The network", columns=columns, rows=tuple(rows))]
    tables += [_results(results, k) for k, results in enumerate(sources.results)]
    told = "Digests are SHA-256. Whoever has the same model, options and images gets the same ones."
    if recipe is None:
        told += " The file does not say how the network was made."
    return Section(name="provenance", title="How it was made", told=(told,), tables=tuple(tables))


def _results(results: Results, number: int) -> Table:
    rows = [*_flat("", results.summary["options"])]
    if results.runs:
        seconds = sum(run["seconds"] for run in results.runs)
        machines = len({run["machine"] for run in results.runs})
        rows += [
            ("seconds of all shards", f"{seconds:,.1f}"),
            ("machines", machines),
            ("last shard ended", max(run["ended"] for run in results.runs)),
            *((f"{key} there", _set(results, key)) for key in _VERSIONS),
        ]
    columns = tuple(Column(name, _text, numeric=False) for name in ("what", "value"))
    title = f"The run of validate in {results.name}"
    return Table(name=f"validate-{number}", title=title, columns=columns, rows=tuple(rows))


def _set(results: Results, key: str) -> str:
    return ", ".join(sorted({str(run[key]) for run in results.runs if key in run}))


def _flat(head: str, facts: Mapping[str, Any]) -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in facts.items():
        name = f"{head}{key}"
        rows += _flat(f"{name}: ", value) if isinstance(value, dict) else [(name, value)]
    return rows


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None or value == "" else str(value)
