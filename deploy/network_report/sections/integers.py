"""The integers of a network: weights and thresholds as histograms."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lapilli.deploy.network_report.figures import bar_figure, histogram_figure
from lapilli.deploy.network_report.section import Column, Figure, Section, Table, percent
from lapilli.deploy.network_report.sources import Sources
from lapilli.deploy.report.histogram import histogram
from lapilli.ir import ops
from lapilli.ir.graph import Graph, Node
from lapilli.ir.tensor import IntArray

_MOST = 48  # histograms that are drawn


def section(sources: Sources) -> Section:
    """Show how weights and thresholds are spread."""
    graph = sources.network.graph
    weighted = [n for n in graph.nodes if isinstance(n.op, ops.Weighted)]
    shown = sorted(weighted, key=lambda n: -_mantissa(n).size)[:_MOST]
    figures = [figure for n in weighted if n in shown for figure in _weights(n)]
    told = (
        "Integers without the power of two that the weights of a layer share. A real weight is its "
        "integer times the scale of its layer."
    )
    if len(weighted) > len(shown):
        told += f" The {len(shown)} largest of {len(weighted)} layers are drawn."
    return Section(
        name="integers",
        title="Weights and thresholds",
        told=(told,),
        figures=(*_thresholds(graph), *figures),
        tables=(_table(weighted),) if weighted else (),
    )


def _mantissa(node: Node) -> IntArray:
    if not isinstance(node.op, ops.Weighted):
        raise TypeError(f"{node.name} has no weights")
    found: IntArray = node.op.weight.array >> node.op.weight.exponent
    return found


def _weights(node: Node) -> list[Figure]:
    values = _mantissa(node)
    counts = histogram(values)
    if counts is None:
        return []
    zeros = int(np.count_nonzero(values == 0))
    told = (
        f"{values.size:,} weights, {values.min()} to {values.max()}; "
        f"{percent(zeros / values.size)} zero."
    )
    return [histogram_figure(f"weights-{node.name}", node.name, told, counts)]


def _table(weighted: Sequence[Node]) -> Table:
    columns = (
        *(Column(name, numeric=False) for name in ("layer", "op")),
        *(Column(name) for name in ("weights", "lowest", "highest", "bits", "shared shift")),
        Column("zero", percent),
    )
    rows = []
    for node in weighted:
        if isinstance(node.op, ops.Weighted):
            values, weight = _mantissa(node), node.op.weight
            zeros = int(np.count_nonzero(values == 0)) / values.size
            rows.append(
                (node.name, type(node.op).__name__, values.size, int(values.min()),
                 int(values.max()), weight.mantissa.range.bits, weight.exponent, zeros)
            )  # fmt: skip
    title = "Weights of every layer"
    return Table(name="weights", title=title, columns=columns, rows=tuple(rows), folded=True)


def _thresholds(graph: Graph) -> list[Figure]:
    """A bar for each layer of one threshold, a histogram for each layer of several."""
    tensors = {n.name: _threshold(n.op) for n in graph.nodes if isinstance(n.op, ops.Firing)}
    single = {name: int(t.flat[0]) for name, t in tensors.items() if t.min() == t.max()}
    figures = []
    if single:
        told = f"In state units, of {len(single)} layers whose neurons share one threshold."
        figures.append(
            bar_figure(
                "thresholds",
                "Thresholds",
                told,
                list(single),
                {"threshold": list(single.values())},
                written=lambda value: f"{value:,.0f}",
            )
        )
    for name, values in [(n, t) for n, t in tensors.items() if n not in single][:_MOST]:
        counts = histogram(values)
        if counts is not None:
            told = f"{values.size:,} thresholds from {values.min():,} to {values.max():,}."
            figures.append(
                histogram_figure(f"thresholds-{name}", f"Thresholds of {name}", told, counts)
            )
    return figures


def _threshold(op: ops.Firing) -> IntArray:
    return op.thresholds.array if isinstance(op, ops.Staircase) else op.threshold.array
