"""A cost report as text, as facts for JSON, as CSV and as a LaTeX table."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import asdict
from fractions import Fraction
from typing import Any

from lapilli.costs import words
from lapilli.costs.estimate import BreakEven
from lapilli.costs.report import CostReport, Row
from lapilli.costs.traffic import BYTE, TRAFFIC_FIELDS
from lapilli.ir.counts import FIELDS
from lapilli.ir.version import __version__


def facts(report: CostReport) -> dict[str, Any]:
    """Return all of it for JSON: counts of the whole run, energies in picojoules of one image."""
    return {
        "lapilli": __version__,
        "digest": report.digest,
        "T": report.T,
        "images": report.images,
        "simulator": report.simulator,
        "parameters": report.parameters,
        "dense_operations_of_an_image": report.operations,
        "state_bits_of_an_image": report.state_bits,
        "synaptic_operations": report.synaptic,
        "input_rate": _number(report.input_rate),
        "total": asdict(report.total),
        "traffic_bits": asdict(report.traffic),
        "nodes": [_node(report, row) for row in report.rows],
        "energy": [
            {
                "model": one.model,
                "table": one.table,
                "grade": one.grade.value,
                "picojoules": one.picojoules,
                "priced_picojoules": one.priced,
                "unpriced": list(one.unpriced),
                "break_even": None if one.break_even is None else asdict(one.break_even),
            }
            for one in report.estimates
        ],
        "ranges": [
            {**asdict(r), "grade": r.grade.value, "tables": list(r.tables)} for r in report.ranges
        ],
        "models": {
            model.name: {
                "equation": model.equation,
                "omits": list(model.omits),
                "usual_table": model.table,
                "integer_table": model.integers,
            }
            for model in report.models
        },
        "prices": {
            table.name: {
                key: {**asdict(price), "grade": price.grade.value}
                for key, price in table.prices.items()
            }
            for table in report.tables
        },
        "method": words.method(report),
    }


def _number(value: Fraction | None) -> float | None:
    return None if value is None else float(value)


def _even(found: BreakEven | None) -> float | None:
    return None if found is None else found.rate


def _node(report: CostReport, row: Row) -> dict[str, Any]:
    pair = row.pair
    return {
        "node": row.node,
        "op": row.op,
        "counts": asdict(row.counts),
        "traffic_bits": asdict(row.traffic),
        "widths": asdict(row.widths),
        "dense": None if row.dense is None else asdict(row.dense),
        "rate": _number(row.rate),
        "input_rate": _number(row.input_rate),
        "coincidences": None
        if pair is None
        else {"met": pair.met, "min": float(pair.smaller), "product": float(pair.product)},
        "least_of_an_image": asdict(row.bounds[0]),
        "most_of_an_image": asdict(row.bounds[1]),
        "picojoules": {
            one.table: one.by_node[row.node] for one in report.estimates if row.node in one.by_node
        },
        "break_even_rate": {
            one.table: _even(one.layers[row.node])
            for one in report.estimates
            if row.node in one.layers
        },
    }


def text(report: CostReport) -> str:
    """Return it for a terminal."""
    ran = f"{report.images:,} images on {report.simulator}" if report.images else "without a run"
    lines = [
        f"graph {report.digest[:12]}, T = {report.T}, {ran}",
        f"parameters {report.parameters:,}; dense operations of an image "
        f"{words.count(report.operations)}; states {report.state_bits / BYTE:,.0f} bytes",
    ]
    lines += _ran(report) if report.images else _bounded(report)
    return "\n".join([*lines, "", words.method(report)]) + "\n"


def _ran(report: CostReport) -> Iterator[str]:
    each = Fraction(1, report.images)
    yield (
        f"synaptic operations of an image {words.count(report.synaptic * each)}, products that "
        f"remain {words.count(report.total.multiplies * each)}, firing rate at inputs of layers "
        f"{words.share(report.input_rate)}"
    )
    yield ""
    head = ("node", "op", "dense", "accumulates", "multiplies", "sent", "in", "out", "break-even")
    shown = [row for row in report.rows if row.dense or row.counts.updates or row.counts.sent]
    yield from words.columns([head, *(_cells(report, row, each) for row in shown)])
    yield "of one image; break-even by spikingjelly for integers; other nodes are in --json"
    yield ""
    for row in report.rows:
        if row.pair is not None:
            yield (
                f"{row.node}: {words.count(row.pair.met * each)} spikes met; papers guess "
                f"{words.count(row.pair.smaller * each)} by the smaller rate, "
                f"{words.count(row.pair.product * each)} by the product of both"
            )
    moved = (
        f"{name} {words.count(getattr(report.traffic, name) * each / BYTE)}"
        for name in TRAFFIC_FIELDS
    )
    yield f"bytes read and written for an image: {', '.join(moved)}"
    yield ""
    yield "energy of one image, estimated"
    for model in report.models:
        yield f"{model.name}: {words.told(report.usual(model))} by {model.table}"
        yield f"  range by grade (tables): {words.spanned(report, model) or words.UNKNOWN}"
        if model.quantized is not None:
            found = report.integers(model).break_even
            yield f"  {words.compared(found, model.integers)}"
        gaps = [e for e in report.estimates if e.model == model.name and e.unpriced]
        yield from (f"  {e.table}: {words.told(e)}" for e in gaps)


def _cells(report: CostReport, row: Row, each: Fraction) -> tuple[str, ...]:
    model = next(m for m in report.models if m.name == "spikingjelly")
    layers = report.integers(model).layers
    return (
        row.node,
        row.op,
        words.count(row.dense.operations * report.T) if row.dense else "",
        words.count(row.counts.accumulates * each),
        words.count(row.counts.multiplies * each),
        words.count(row.counts.sent * each),
        "" if row.input_rate is None else words.share(row.input_rate),
        "" if row.rate is None else words.share(row.rate),
        words.even(layers[row.node]) if row.node in layers else "",
    )


def _bounded(report: CostReport) -> Iterator[str]:
    yield "bounds of an image, each node for itself; give --data for what happens"
    yield ""
    head = ("node", "op", "dense", "accumulates", "multiplies", "compares", "updates")
    shown = [row for row in report.rows if row.dense or row.bounds[1].updates]
    yield from words.columns([head, *(_bound_cells(report, row) for row in shown)])


def _bound_cells(report: CostReport, row: Row) -> tuple[str, ...]:
    least, most = row.bounds
    between = (
        f"{words.count(getattr(least, name))} to {words.count(getattr(most, name))}"
        for name in ("accumulates", "multiplies")
    )
    return (
        row.node,
        row.op,
        words.count(row.dense.operations * report.T) if row.dense else "",
        *between,
        words.count(most.compares),
        words.count(most.updates),
    )


def as_csv(report: CostReport) -> str:
    """Return a row for each node: counts and bits of the whole run, picojoules of one image."""
    out = io.StringIO()
    write = csv.writer(out, lineterminator="\n")
    tables = [one.table for one in report.estimates]
    write.writerow(
        [
            "node", "op", "images", "T", "dense_operations", "synapses", "parameters",
            *FIELDS, *(f"{name}_bits" for name in TRAFFIC_FIELDS),
            *("rate", "input_rate", "met", "min_estimate", "product_estimate"),
            *(f"{name}_pJ" for name in tables), *(f"{name}_break_even" for name in tables),
        ]
    )  # fmt: skip
    for row in report.rows:
        dense, pair = row.dense, row.pair
        shapes = (dense.operations, dense.synapses, dense.parameters) if dense else ("",) * 3
        guesses = (pair.met, float(pair.smaller), float(pair.product)) if pair else ("",) * 3
        write.writerow(
            [
                row.node, row.op, report.images, report.T, *shapes,
                *(getattr(row.counts, name) for name in FIELDS),
                *(getattr(row.traffic, name) for name in TRAFFIC_FIELDS),
                *("" if r is None else float(r) for r in (row.rate, row.input_rate)),
                *guesses,
                *(one.by_node.get(row.node, "") for one in report.estimates),
                *(_known(one.layers.get(row.node)) for one in report.estimates),
            ]
        )  # fmt: skip
    return out.getvalue()


def _known(found: BreakEven | None) -> float | str:
    return "" if found is None else found.rate


def latex(report: CostReport) -> str:
    """Return the table that papers print, with ranges; needs the package booktabs."""
    names = [model.name for model in report.models] if report.images else []
    head = ["Parameters", "$T$", "Dense ops", "SOPs", "Firing rate", *names]
    row = [words.count(report.parameters), str(report.T), words.count(report.operations)]
    spans = [""] * 5
    if report.images:
        row += [words.count(Fraction(report.synaptic, report.images)),
                words.share(report.input_rate)]  # fmt: skip
        row += [words.told(report.usual(model)) for model in report.models]
        spans += [words.spanned(report, model) or words.UNKNOWN for model in report.models]
    else:
        row += [words.UNKNOWN, words.UNKNOWN]
    lines = [
        r"\begin{tabular}{" + "r" * len(head) + "}",
        r"\toprule",
        " & ".join(_escaped(cell) if cell != "$T$" else cell for cell in head) + r" \\",
        r"\midrule",
        " & ".join(map(_escaped, row)) + r" \\",
    ]
    if any(spans):
        lines.append(" & ".join(map(_escaped, spans)) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    note = "\n".join(f"% {sentence}" for sentence in words.method(report).split(". "))
    return "\n".join([*lines, note]) + "\n"


def _escaped(cell: str) -> str:
    for sign in "\\&%$#_{}":
        cell = cell.replace(sign, f"\\{sign}" if sign != "\\" else "/")
    return cell.replace("uJ", r"$\mu$J")
