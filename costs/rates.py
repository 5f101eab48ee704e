"""How often planes, ANDs and ORs fire, which no run of the graph shows: at most, on the mean.

A neuron that remembers nothing fires no oftener than its input reaches its level, and a mean
reaches a level no oftener than mean over level (Markov); one that needs all its inputs at once
fires no oftener than the rarest. Each source is taken to be heard alike by all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

from lapilli.costs.populations import Convolved, Mapped, Population, Way, Wired
from lapilli.ir import ops
from lapilli.ir.graph import Graph


def rates_of(
    graph: Graph, everything: tuple[Population, ...], known: Mapping[str, Fraction]
) -> dict[str, Fraction]:
    """Return spikes of a neuron for an image, of every population on the mean.

    Args:
        graph: of binary neurons.
        everything: its populations, in topological order.
        known: those that a run showed.
    """
    found: dict[str, Fraction] = {}
    for population in everything:
        most = Fraction(graph.T)
        rate = known.get(population.name)
        if rate is None:
            rate = min(most, _reached(graph, population, found, most))
        found[population.name] = rate
    return found


def _reached(
    graph: Graph, population: Population, found: Mapping[str, Fraction], most: Fraction
) -> Fraction:
    op = graph[population.name].op
    if not isinstance(op, ops.Neuron) or op.dv != ops.DECAY_ONE or op.bias.array.any():
        return most  # it remembers, or fires by itself
    level = (op.threshold.range.lo - 1 >> op.fraction_bits) + 1
    mean, inputs, rarest = Fraction(0), 0, most
    for (way, leaves), synapse in zip(population.ways, population.synapses, strict=True):
        heard = [found.get(leaf, most) for leaf in leaves]
        weight, offset = _heaviest(graph, synapse)
        level -= offset
        mean += _each(way) * weight * sum(heard, Fraction(0)) / max(1, len(heard))
        inputs += _each(way) * weight
        rarest = min([rarest, *heard])
    if level < 1:
        return most
    return rarest if level == inputs else mean / level


def _each(way: Way) -> int:
    """How many sources one neuron hears."""
    match way:
        case Wired():
            return way.each
        case Mapped():
            return way.features * way.several
        case Convolved():
            return way.per_group * math.prod(way.kernel) * way.several


def _heaviest(graph: Graph, synapse: str) -> tuple[int, int]:
    """The largest weight and bias; of spikes that are added as they are, 1 and 0.

    What takes away counts nothing.
    """
    op = graph[synapse].op if synapse else None
    if not isinstance(op, ops.Weighted):
        return 1, 0
    return max(0, op.weight.range.hi), max(0, op.bias.range.hi)
