"""Counts times prices: a value, what is not priced, a range for each grade, and the break-even."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from lapilli.costs.models.model import Measured, Model, Term
from lapilli.costs.prices import Grade, Table
from lapilli.ir import ops
from lapilli.ir.graph import Graph
from lapilli.ir.types import Kind


@dataclass(frozen=True, slots=True)
class BreakEven:
    """Where events cost what a quantized dense network of the same shape, run once, costs.

    Attributes:
        rate: mean firing rate at the inputs, each weighted by its dense operations, at which it
            is so, if all layers fire more or less in proportion. Above 1: events always cost
            less; 0: what neurons cost at each step is more already.
        here: the rate of this run.
        layers: how many this is about.
    """

    rate: float
    here: float
    layers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Energy of one image, by one model and one table of prices.

    Attributes:
        model, table: by name; grade: of the weakest price.
        priced: picojoules of what has a price.
        unpriced: operations that happened and have none; empty where all of them have.
        by_node: picojoules of each node that costs any, and all of whose operations have a price.
        break_even: of all layers that the model takes to be driven by events; None where it, or
            the table, does not say.
        layers: of each layer that events drive; None where the model takes it for a dense one.
    """

    model: str
    table: str
    grade: Grade
    priced: float
    unpriced: tuple[str, ...]
    by_node: Mapping[str, float]
    break_even: BreakEven | None
    layers: Mapping[str, BreakEven | None]

    @property
    def picojoules(self) -> float | None:
        """The energy; None where a price is unknown."""
        return None if self.unpriced else self.priced


@dataclass(frozen=True, slots=True)
class Range:
    """Lowest and highest of the tables of one grade, in picojoules of one image."""

    model: str
    grade: Grade
    lowest: float
    highest: float
    tables: tuple[str, ...]


def estimate(measured: Measured, model: Model, table: Table) -> Estimate:
    """Price a run by a model and a table."""
    terms = list(model.terms(measured))
    by_node: dict[str, float] = defaultdict(float)
    for term in terms:
        by_node[term.node] += _cost(term, table)
    gaps = [t for t in terms if t.quantity and table.prices[t.key].picojoules is None]
    unpriced, dark = {t.key for t in gaps}, {t.node for t in gaps}
    layers, together = _break_even(measured, model, table, terms)
    return Estimate(
        model=model.name,
        table=table.name,
        grade=table.grade,
        priced=sum(by_node.values()) / measured.images,
        unpriced=tuple(key for key in model.keys if key in unpriced),
        by_node={n: cost / measured.images for n, cost in by_node.items() if n not in dark},
        break_even=together,
        layers=layers,
    )


def _cost(term: Term, table: Table) -> float:
    price = table.prices[term.key].picojoules
    return 0.0 if price is None else float(term.quantity) * price


def ranges(estimates: Iterable[Estimate]) -> tuple[Range, ...]:
    """Return what the tables of each grade span, model by model; tables with gaps are left out."""
    found: dict[tuple[str, Grade], list[Estimate]] = defaultdict(list)
    for one in estimates:
        if one.picojoules is not None:
            found[one.model, one.grade].append(one)
    return tuple(
        Range(
            model,
            grade,
            min(one.priced for one in several),
            max(one.priced for one in several),
            tuple(one.table for one in several),
        )
        for (model, grade), several in found.items()
    )


def driven_layers(graph: Graph) -> tuple[str, ...]:
    """Synapses that events drive: those that a quantized dense layer could stand in for."""
    return tuple(
        node.name
        for node in graph.nodes
        if isinstance(node.op, ops.Weighted)
        and not node.op.graded
        and graph.types[node.inputs[0]].kind is not Kind.GRADED
    )


def firing_rate(measured: Measured, layer: str) -> Fraction:
    """Events at the input of a synapse, for each element and step."""
    graph = measured.graph
    size = measured.steps
    for length in graph.types[graph[layer].inputs[0]].shape:
        size *= length
    return Fraction(measured.counts[layer].events, size)


def weighted_rate(measured: Measured, layers: Sequence[str]) -> Fraction | None:
    """Mean firing rate of several inputs, each by its dense operations; None of no layer."""
    weights = [measured.dense[name].operations for name in layers]
    if not sum(weights):
        return None
    rates = (firing_rate(measured, name) for name in layers)
    return sum((r * w for r, w in zip(rates, weights, strict=True)), Fraction(0)) / sum(weights)


def _break_even(
    measured: Measured, model: Model, table: Table, terms: Sequence[Term]
) -> tuple[dict[str, BreakEven | None], BreakEven | None]:
    """Rates at which events cost what a quantized dense network does, by layer and in all."""
    layers = driven_layers(measured.graph)
    if model.quantized is None or table.unknown:
        return dict.fromkeys(layers), None
    home = _homes(measured.graph, layers)
    driven: dict[str, float] = defaultdict(float)
    left: dict[str, float] = defaultdict(float)  # of the dense network's cost, for events
    for term in terms:
        if term.driven and term.node in layers:
            driven[term.node] += _cost(term, table)
        elif term.node in home:
            left[home[term.node]] -= _cost(term, table)
    for name in layers:
        dense = model.quantized(measured, measured.graph[name])
        left[name] += sum(_cost(term, table) for term in dense)
    own = [name for name in layers if driven[name]]

    def together(names: Sequence[str]) -> BreakEven | None:
        rate = weighted_rate(measured, names)
        if rate is None:
            return None
        factor = sum(left[name] for name in names) / sum(driven[name] for name in names)
        return BreakEven(max(0.0, float(rate) * factor), float(rate), len(names))

    return {name: together([name] if name in own else []) for name in layers}, together(own)


def _homes(graph: Graph, layers: Sequence[str]) -> dict[str, str]:
    """Of each layer, and of the neurons that stand behind it, the layer: the last before them."""
    last: dict[str, str] = {}
    home: dict[str, str] = {}
    order = {node.name: i for i, node in enumerate(graph.nodes)}
    for node in graph.nodes:
        before = [last[name] for name in node.inputs if name in last]
        nearest = max(before, key=order.__getitem__, default=None)
        if node.name in layers:
            home[node.name] = last[node.name] = node.name
        elif isinstance(node.op, ops.Firing | ops.Relu | ops.Stateful):
            if nearest is not None:
                home[node.name] = nearest
        elif isinstance(node.op, ops.Weighted | ops.SpikeMatmul | ops.Gate | ops.ShiftSum):
            continue  # another synapse: what follows is no neuron of the layer before
        elif nearest is not None:
            last[node.name] = nearest
    return home
