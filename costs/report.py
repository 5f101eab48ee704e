"""What a network costs: counts of a run, or bounds without one, and what models make of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from lapilli.costs.bounds import bounds
from lapilli.costs.counting import count
from lapilli.costs.estimate import (
    Estimate,
    Range,
    driven_layers,
    estimate,
    firing_rate,
    ranges,
    weighted_rate,
)
from lapilli.costs.models.model import Measured, Model
from lapilli.costs.models.papers import attended, coincident, operand_events, rate
from lapilli.costs.models.table import KEYS, MODELS
from lapilli.costs.prices import Table, checked, shipped
from lapilli.costs.shapes import Dense, dense
from lapilli.costs.traffic import BYTE, Traffic, Widths, state_bits, traffic, widths
from lapilli.costs.values import watched
from lapilli.ir import ops
from lapilli.ir.counts import Counts, total
from lapilli.ir.errors import InputError
from lapilli.ir.graph import Graph, Node
from lapilli.ir.tensor import IntArray
from lapilli.pictures.tables import folded, table
from lapilli.simulators.protocol import Simulator

_MICROJOULE = 1e6  # picojoules
_ENERGY = ("model", "energy of an image", "by table", "range by grade")
_COUNTED = ("node", "op", "accumulates", "multiplies", "sent")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A product of two binary operands: what met, and what papers guess from two firing rates.

    Attributes:
        met: spikes of both operands that met, in the whole run.
        smaller: operations times the smaller rate; product: times both rates.
    """

    met: int
    smaller: Fraction
    product: Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One node, in the whole run.

    Attributes:
        node, op: its name and kind.
        counts: of all images; traffic: in bits.
        dense: of a synapse or product, for one step of one image.
        widths: of what it holds.
        rate: of what fires, events for each neuron and step, in parts of the most that it can.
        input_rate: of a synapse that events drive, events for each element and step.
        pair: of a product of two binary operands.
        bounds: fewest and most of one image, by what is proved.
    """

    node: str
    op: str
    counts: Counts
    traffic: Traffic
    dense: Dense | None
    widths: Widths
    rate: Fraction | None
    input_rate: Fraction | None
    pair: Pair | None
    bounds: tuple[Counts, Counts]


@dataclass(frozen=True, slots=True, kw_only=True)
class CostReport:
    """What a network costs on some images; without images, bounds of one.

    Attributes:
        digest: of the graph; T: steps; images: how many ran, 0 without a run; simulator: that
            ran them.
        parameters: weights and biases; operations: dense ones of one image, papers' way.
        state_bits: of all neurons' states, of one image.
        rows: a row for each node, in the order of the graph.
        total: of all nodes; traffic: of all nodes, in bits.
        synaptic: events at synapses and products of all images: synaptic operations.
        input_rate: of layers that events drive, weighted by dense operations.
        estimates: by each model and table, empty without a run; ranges: by model and grade.
        models: that were asked.
        tables: of prices.
    """

    digest: str
    T: int
    images: int
    simulator: str
    parameters: int
    operations: int
    state_bits: int
    rows: tuple[Row, ...]
    total: Counts
    traffic: Traffic
    synaptic: int
    input_rate: Fraction | None
    estimates: tuple[Estimate, ...]
    ranges: tuple[Range, ...]
    models: tuple[Model, ...]
    tables: tuple[Table, ...]

    def _repr_html_(self) -> str:
        """Show a notebook counts of the run, and energies of an image with their ranges."""
        ran = f"{self.images:,} images on {self.simulator}" if self.images else "without a run"
        each = Fraction(1, max(1, self.images))
        facts = {
            "graph": f"{self.digest[:12]}, T = {self.T}, {ran}",
            "parameters": f"{self.parameters:,}",
            "dense operations of an image": f"{self.operations:,}",
            "bytes of states": f"{self.state_bits / BYTE:,.0f}",
        }
        if not self.images:
            return table((), list(facts.items()), caption="cost: closed forms, without a run")
        facts["synaptic operations of an image"] = f"{float(self.synaptic * each):,.1f}"
        rows = [
            (
                row.node, row.op, f"{float(row.counts.accumulates * each):,.1f}",
                f"{float(row.counts.multiplies * each):,.1f}",
                f"{float(row.counts.sent * each):,.1f}",
            )
            for row in self.rows
            if row.dense or row.counts.sent
        ]  # fmt: skip
        return (
            table((), list(facts.items()), caption="cost")
            + table(_ENERGY, [self._energy(m) for m in self.models], caption="energy, estimated")
            + folded("counts of an image", table(_COUNTED, rows))
        )

    def _energy(self, model: Model) -> tuple[str, ...]:
        usual = self.usual(model)
        told = f"{usual.priced / _MICROJOULE:.4g} uJ"
        if usual.unpriced:
            told = f"unknown: no price of {', '.join(usual.unpriced)}"
        spans = "; ".join(
            f"{r.grade.value} {r.lowest / _MICROJOULE:.4g} to {r.highest / _MICROJOULE:.4g} uJ"
            for r in self.ranges
            if r.model == model.name
        )
        return model.name, told, model.table, spans or "unknown"

    @property
    def neuron_rates(self) -> dict[str, Fraction] | None:
        """Spikes of one neuron for an image, on the mean of its node; None without a run."""
        if not self.images:
            return None
        fired = [row for row in self.rows if row.rate is not None and row.counts.updates]
        return {r.node: Fraction(r.counts.sent * self.T, r.counts.updates) for r in fired}

    def usual(self, model: Model) -> Estimate:
        """By the table that a model is usually read with."""
        return next(e for e in self.estimates if (e.model, e.table) == (model.name, model.table))

    def integers(self, model: Model) -> Estimate:
        """By the table for integers, of which the break-even is told."""
        return next(e for e in self.estimates if (e.model, e.table) == (model.name, model.integers))


def measure(
    graph: Graph,
    batches: Iterable[Mapping[str, IntArray]],
    on: Simulator,
    *,
    own_tables: Sequence[Table] = (),
    progress: Callable[[int], None] | None = None,
) -> CostReport:
    """Run a graph, count what each node does, and price it.

    Args:
        graph: of a network.
        batches: inputs by name, (T, B, *shape), one batch after the other.
        on: the simulator that runs them.
        own_tables: of prices, beside those that come with lapilli.
        progress: called with the number of images done.

    Raises:
        InputError: no images; no neuron fired; a table that no model can use.
    """
    tables = checked((*shipped(), *own_tables), KEYS)  # before hours of running
    executable = on.compile(watched(graph))
    counted = {node.name: Counts() for node in graph.nodes}
    images = 0
    for inputs in batches:
        found = count(graph, inputs, executable.run(inputs))
        counted = {name: counts + found[name] for name, counts in counted.items()}
        images += next(iter(inputs.values())).shape[1]
        if progress:
            progress(images)
    if not images:
        raise InputError("costs take at least one image; without any there are bounds")
    if graph.firing and not any(counted[name].sent for name in graph.firing):
        raise InputError(
            f"no neuron fired on {images} images: there are no events to count, and a price of "
            "nothing says nothing; give data that the network knows"
        )
    return _report(graph, counted, images, on.name, tables)


def bounded(graph: Graph) -> CostReport:
    """Return what shapes and proven ranges say of one image, without a run: no energy."""
    counted = {node.name: Counts() for node in graph.nodes}
    return _report(graph, counted, 0, "", ())


def _report(
    graph: Graph,
    counted: Mapping[str, Counts],
    images: int,
    simulator: str,
    tables: tuple[Table, ...],
) -> CostReport:
    of = widths(graph)
    measured = Measured(graph, images, counted, traffic(counted, of), dense(graph), of)
    models = {model.name: model for model in MODELS}
    estimates = tuple(estimate(measured, models[table.model], table) for table in tables)
    layers, limits = driven_layers(graph), bounds(graph)
    return CostReport(
        digest=graph.digest,
        T=graph.T,
        images=images,
        simulator=simulator,
        parameters=sum(one.parameters for one in measured.dense.values()),
        operations=graph.T * sum(one.operations for one in measured.dense.values()),
        state_bits=state_bits(graph, of),
        rows=tuple(_row(measured, node, node.name in layers, limits) for node in graph.nodes),
        total=total(counted.values()),
        traffic=sum(measured.traffic.values(), Traffic()),
        synaptic=sum(c.accumulates for n, c in counted.items() if n in measured.dense),
        input_rate=weighted_rate(measured, layers) if images else None,
        estimates=estimates,
        ranges=ranges(estimates),
        models=MODELS,
        tables=tables,
    )


def _row(
    measured: Measured, node: Node, driven: bool, limits: Mapping[str, tuple[Counts, Counts]]
) -> Row:
    counted, ran = measured.counts[node.name], measured.images > 0
    kind = measured.graph.types[node.name]
    most = math.prod(kind.shape) * measured.steps * kind.range.magnitude
    fires = isinstance(node.op, ops.Firing) and ran and most > 0
    return Row(
        node=node.name,
        op=type(node.op).__name__,
        counts=counted,
        traffic=measured.traffic[node.name],
        dense=measured.dense.get(node.name),
        widths=measured.widths[node.name],
        rate=Fraction(counted.sent, most) if fires else None,
        input_rate=firing_rate(measured, node.name) if driven and ran else None,
        pair=_pair(measured, node) if ran else None,
        bounds=limits[node.name],
    )


def _pair(measured: Measured, node: Node) -> Pair | None:
    binary = all(measured.graph.types[name].is_binary for name in node.inputs)
    if not isinstance(node.op, ops.SpikeMatmul | ops.Gate) or not binary:
        return None
    operations = measured.dense[node.name].operations * measured.steps
    first, second = (
        rate(measured, name, events)
        for name, events in zip(node.inputs, operand_events(measured, node), strict=True)
    )
    return Pair(
        met=measured.counts[node.name].coincidences,
        smaller=attended(operations, first, second),
        product=coincident(operations, first, second),
    )
