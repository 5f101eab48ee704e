"""What integers changed, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from lapilli.deploy.network_report.figures import bar_figure
from lapilli.deploy.network_report.section import (
    Column,
    Figure,
    Missing,
    Section,
    Table,
    percent,
    round_percent,
)
from lapilli.deploy.network_report.sources import Sources
from lapilli.deploy.report.tables import scale_text
from lapilli.ir import ops
from lapilli.ir.recipe import Recipe


def section(sources: Sources) -> Section:
    """Compare integers with the model in float."""
    network, told = sources.network, []
    unlike = _unlike(sources)
    missing = []
    if not unlike:
        words = "validate {net} --data {data} {model} -o results"
        missing.append(Missing("Spikes were not compared with float's.", sources.command(words)))
    if sources.quantization is None:
        words = "quantize {source} ... -o {net} --report quantization.json"
        what = (
            "Which weights became 0 is in --quantization quantization.json: quantize with the same "
            "options writes it beside the same network."
        )
        missing.append(Missing(what, sources.command(words)))
    else:
        found = sources.quantization
        told.append(
            f"On {found['images']:,} images of the calibration, {found['same_answers']:,} have the "
            f"same answer in float and in integers; {percent(found['unlike_float'])} of all spikes "
            "are not float's."
        )
    if network.recipe is None:
        told.append("The file holds no recipe: nobody knows the scales of its layers.")
    tables = () if network.recipe is None else (_scales(sources, network.recipe),)
    return Section(
        name="quantization",
        title="Quantization",
        told=tuple(told),
        figures=(*unlike, *_lost(sources.quantization)),
        tables=(*tables, *_notes(network.recipe)),
        missing=tuple(missing),
    )


def _unlike(sources: Sources) -> list[Figure]:
    """Spikes that are not those of the model in float: of a test set, or of the calibration."""
    rows: dict[str, float] = {}
    on = "the test set"
    for results in sources.results:
        rows = rows or {
            name: row["float_mismatch"]
            for name, row in results.layers.items()
            if "float_mismatch" in row
        }
    if not rows and sources.quantization is not None:
        on = "the calibration"
        rows = {
            row["node"]: row["unlike_float"]
            for row in sources.quantization["neurons"]
            if row["unlike_float"] is not None
        }
    if not rows:
        return []
    worst = max(rows, key=rows.__getitem__)
    told = f"Share of neurons and steps, on {on}; most in {worst}, {percent(rows[worst])}."
    series = {"unlike float's": list(rows.values())}
    title = "Spikes that are not float's"
    return [
        bar_figure(
            "unlike-float", title, told, list(rows), series, written=percent, ticked=round_percent
        )
    ]


def _lost(found: Any) -> list[Figure]:
    """Weights that are not 0 in float, and are in integers."""
    if found is None or not found["synapses"]:
        return []
    rows = {row["node"]: row["zeroed"] for row in found["synapses"]}
    worst = max(rows, key=rows.__getitem__)
    told = (
        f"Share of weights that are 0 in integers alone; most in {worst}, {percent(rows[worst])}."
    )
    series = {"lost": list(rows.values())}
    return [
        bar_figure(
            "lost",
            "Weights that became 0",
            told,
            list(rows),
            series,
            written=percent,
            ticked=round_percent,
        )
    ]


def _scales(sources: Sources, recipe: Recipe) -> Table:
    columns = (
        *(Column(name, numeric=False) for name in ("layer", "module")),
        Column("bits"),
        Column("scale", lambda text: scale_text(Fraction(text))),
        Column("scales of channels"),
        Column("at limit", percent),
        Column("current's scale", lambda text: scale_text(Fraction(text))),
    )
    rows = []
    for record in recipe.synapses:
        op = sources.network.graph[record.node].op
        if not isinstance(op, ops.Weighted):
            continue
        limit = (1 << (record.bits - 1)) - 1 if record.bits else 0
        largest = np.abs(op.weight.array >> record.exponent) >= limit
        rows.append(
            (record.node, record.path, record.bits, str(record.weight_scale),
             len(record.factors) or 1, float(largest.mean()) if limit else None,
             str(record.output_scale))
        )  # fmt: skip
    title = "Scales: a real weight is an integer times its scale"
    return Table(name="scales", title=title, columns=columns, rows=tuple(rows), folded=True)


def _notes(recipe: Recipe | None) -> Sequence[Table]:
    if recipe is None or not recipe.notes:
        return ()
    columns = tuple(Column(name, numeric=False) for name in ("layer", "what", "why"))
    rows = tuple((n.path or "the model", n.kind.value, n.text) for n in recipe.notes)
    return (Table(name="notes", title="Given up, and warnings", columns=columns, rows=rows),)
