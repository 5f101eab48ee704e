"""Is every value equal? Runs and kinds of values, and where two runs first part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lapilli.deploy.network_report.runs import Run, runs_of
from lapilli.deploy.network_report.section import (
    Column,
    Figure,
    Missing,
    Section,
    Table,
    counted,
    named,
)
from lapilli.deploy.network_report.sources import Sources
from lapilli.pictures.spikes import Trace, raster, traces

_KINDS = {
    "input": "encoded inputs",
    "current": "currents",
    "membrane": "membranes",
    "spikes": "spikes",
    "value": "other values",
    "logits": "answers",
}


def section(sources: Sources) -> Section:
    """Say of every simulator and kind of value how many were compared, and how many differ."""
    every = runs_of(sources)
    compared = [run for run in every if run.compared]
    missing = []
    if not compared:
        command = "validate {net} --data {data} {model} -o results"
        missing.append(Missing("Nothing was compared with PyTorch.", sources.command(command)))
    elif len({run.simulator for run in compared}) == 1:
        command = "compare {net} {model} --images {data} --json > compare.json"
        missing.append(
            Missing(
                "One simulator was compared; others join with --comparison compare.json.",
                sources.command(command),
            )
        )
    figures = [f for k, run in enumerate(every) for f in _divergence(run, k)]
    return Section(
        name="equality",
        title="Equality",
        told=(*_told(compared), *(_first(run) for run in every if run.first is not None)),
        tables=(_matrix(compared),) if compared else (),
        figures=tuple(figures),
        missing=tuple(missing),
        facts={"runs": [_facts(run) for run in every]},
    )


def _told(compared: Sequence[Run]) -> tuple[str, ...]:
    if not compared:
        return ()
    values, differ = (sum(getattr(r, k) for r in compared) for k in ("compared", "mismatches"))
    sentence = (
        f"{values:,} values of {counted(len(compared), 'run')} were compared, each on its own and "
        f"without a tolerance: {differ:,} differ."
    )
    vacuous = sorted({name for run in compared for name in run.vacuous})
    if vacuous:
        sentence += f" Of {named(vacuous)} this shows nothing: silent, saturated or at rest."
    renamed = [pair for run in compared for pair in run.renamed][:1]
    return (
        sentence,
        *(f"Class names differ: the model says {m!r}, the network {n!r}." for m, n in renamed),
    )


def _first(run: Run) -> str:
    lines = str(run.first["text"]).splitlines() if run.first else ()
    said = "; ".join(line.strip() for line in lines)
    return f"{run.simulator} against {run.against}: {said}."


def _facts(run: Run) -> dict[str, Any]:
    return {
        "simulator": run.simulator,
        "against": run.against,
        "verdict": run.verdict,
        "images": run.images,
        "compared": run.compared,
        "mismatches": run.mismatches,
        "kinds": {kind: list(counts) for kind, counts in run.kinds.items()},
        "vacuous": list(run.vacuous),
        "renamed": [list(pair) for pair in run.renamed],
        "first": None if run.first is None else dict(run.first),
    }


def _matrix(compared: Sequence[Run]) -> Table:
    """A row for each run, a column for each kind of value; a cell is [compared, mismatches]."""
    kinds = [kind for kind in _KINDS if any(kind in run.kinds for run in compared)]
    columns = (
        Column("simulator", numeric=False),
        Column("verdict", numeric=False, state=lambda v: "good" if v == "exact" else "bad"),
        Column("against", numeric=False),
        Column("images"),
        *(Column(_KINDS[kind], _counts, state=_state) for kind in kinds),
        Column("all values", _counts, state=_state),
    )
    rows = tuple(
        (
            run.simulator,
            run.verdict,
            run.against,
            run.images,
            *(list(run.kinds[kind]) if kind in run.kinds else None for kind in kinds),
            [run.compared, run.mismatches],
        )
        for run in compared
    )
    return Table(
        name="matrix", title="Values that differ, of those compared", columns=columns, rows=rows
    )


def _counts(cell: Sequence[int] | None) -> str:
    return "not compared" if cell is None else f"{cell[1]:,} of {cell[0]:,}"


def _state(cell: Sequence[int] | None) -> str:
    if cell is None:
        return ""
    return "bad" if cell[1] else "good"


def _divergence(run: Run, number: int) -> list[Figure]:
    """Draw spikes and membranes around the first divergence of a run."""
    first = run.first
    if first is None or not first.get("around"):
        return []
    around, node = first["around"], first["node"]
    end = f" of {run.simulator} against {run.against}" if number else ""
    place = f"{node} {list(first['index'])}, sample {first['sample']}, step {first['t']}"
    expected, got = (np.array(around[key], np.int64) for key in ("expected", "got"))
    told = (
        f"Spikes around {place}: {int((expected != got).sum())} of {expected.size} differ. Hollow: "
        f"only {run.against} sent it; red: only {run.simulator}."
    )
    title = f"Spikes around the first divergence{end}"
    figures = [
        Figure(
            name=f"raster-{number}",
            title=title,
            told=told,
            svg=raster(
                expected,
                title=title,
                told=told,
                labels=[str(list(index)) for index in around["neurons"]],
                first_step=around["first_step"],
                other=got,
                marked=(around["row"], around["column"]),
            ),
            data={key: around[key] for key in ("first_step", "neurons", "expected", "got")},
        )
    ]
    lines = [
        Trace(name, around[key])
        for name, key in (
            (run.against, "expected_membrane"),
            (run.simulator, "got_membrane"),
        )
        if around[key]
    ]
    if lines:
        levels = {} if first["threshold"] is None else {"threshold": first["threshold"]}
        title = f"Membrane before reset{end}"
        told = f"Membrane of {place}, in state units: {_ends(lines, around['column'])}."
        svg = traces(
            lines,
            title=title,
            told=told,
            first_step=around["first_step"],
            levels=levels,
            marked=around["column"],
        )
        values = {line.name: list(line.values) for line in lines}
        data = {"first_step": around["first_step"], **levels, "lines": values}
        figures.append(
            Figure(name=f"membrane-{number}", title=title, told=told, svg=svg, data=data)
        )
    return figures


def _ends(lines: Sequence[Trace], column: int) -> str:
    return ", ".join(f"{line.name} {line.values[column]:,} there" for line in lines)
