"""A value as weighted spikes: x = offset + sum of weight * spike, what products are made of."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lapilli.ir import ops
from lapilli.ir.graph import Graph
from lapilli.ir.passes.binary.building import Building
from lapilli.ir.passes.binary.thresholds import planes


@dataclass(frozen=True, slots=True)
class Terms:
    """offset + sum of weight * spikes of a node, all of the value's shape."""

    spikes: tuple[tuple[int, str], ...]
    offset: int = 0


class Decomposition:
    """The terms of the values of a graph in the making; each is made once, when asked for."""

    def __init__(self, build: Building) -> None:
        self.build = build
        self._known: dict[str, Terms] = {}

    def know(self, name: str, terms: Terms) -> None:
        """A value was made from these spikes; nothing has to be added to have them."""
        self._known[name] = terms

    def terms(self, name: str) -> Terms:
        """The fewest terms: spikes that are there already, or else bit planes."""
        bounds = self.build.graph.types[name].range
        bits = (bounds.hi - bounds.lo).bit_length()
        free = self._free(name)
        if free is None or len(free.spikes) > bits:
            free = self._wired(name)
        if free is None or len(free.spikes) > bits:
            made = planes(self.build, name, name, bounds)
            free = Terms(made, bounds.lo)
        self._known[name] = free
        return free

    def _free(self, name: str) -> Terms | None:
        """The terms that cost no neuron; None if there are none."""
        if name in self._known:
            return self._known[name]
        if self.build.types[name].is_binary:
            return Terms(((1, name),))
        node = self.build.graph[name]
        match node.op:
            case ops.Add():
                parts = [self._free(i) for i in node.inputs]
                first, second = parts
                if first is None or second is None:
                    return None
                return Terms((*first.spikes, *second.spikes), first.offset + second.offset)
            case ops.Reshape() | ops.Permute() | ops.Expand() | ops.Delay():
                inner = self._free(node.inputs[0])
                return None if inner is None else self._moved(name, inner)
            case _:  # whatever it is: any value has bit planes
                return None

    def _wired(self, name: str) -> Terms | None:
        """Of wiring, the planes of its source, which has no more elements and other readers."""
        node = self.build.graph[name]
        if not isinstance(node.op, ops.Reshape | ops.Permute | ops.Expand | ops.Delay):
            return None
        return self._moved(name, self.terms(node.inputs[0]))

    def _moved(self, name: str, terms: Terms) -> Terms:
        op = self.build.graph[name].op
        spikes = tuple(
            (weight, self.build.new(f"{name}.{i}", op, spike))
            for i, (weight, spike) in enumerate(terms.spikes)
        )
        moved = replace(terms, spikes=spikes)
        self._known[name] = moved
        return moved


def summands(graph: Graph, name: str, weight: int = 1) -> tuple[tuple[int, str], ...]:
    """(weight, neuron node) of what a firing node of the original has become, element by element.

    One neuron, or what levels or signs of it add up to.
    """
    node = graph[name]
    match node.op:
        case ops.Neuron():
            return ((weight, name),)
        case ops.Linear(weight=w):
            weight *= int(w.array.item())
        case ops.Add() | ops.Reshape():
            pass
        case _:
            raise TypeError(f"{name} is {type(node.op).__name__}, and no sum of spikes")
    return tuple(part for i in node.inputs for part in summands(graph, i, weight))


def value(build: Building, name: str, terms: Terms) -> str:
    """The value that its terms stand for, under a name of ours."""
    parts = [
        build.scaled(f"{name}.{i}", spike, weight, terms.offset if i == 0 else 0)
        for i, (weight, spike) in enumerate(terms.spikes)
    ]
    return build.total(f"{name}.total", parts)
