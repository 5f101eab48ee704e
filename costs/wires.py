"""Which elements of a value come from where: wiring, sums and maps followed backwards."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from typing_extensions import assert_never

from lapilli.ir import ops
from lapilli.ir.graph import Graph, Node

Index = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Wires:
    """Elements that were asked for, each with one that it is or adds up; of a value several.

    Attributes:
        name: of the value whose elements these are.
        at: (n,) their flat numbers; asked: (n,) which of those asked for each belongs to.
        stands_for: so many elements, where only each so many-th is followed.
    """

    name: str
    at: Index
    asked: Index
    stands_for: int = 1

    def into(self, name: str, at: Index, asked: Index | None = None, times: int = 1) -> Wires:
        """Return what is found for them one node further back."""
        return Wires(name, at, self.asked if asked is None else asked, self.stands_for * times)


def sources(graph: Graph, wires: Wires, every: int = 1) -> Iterator[Wires]:
    """Follow elements of a graph of binary neurons back to neurons, inputs and maps of weights.

    Args:
        graph: of binary neurons.
        wires: where to begin.
        every: of the elements of a sum only each so many-th is followed.
    """
    node = graph[wires.name]
    match node.op:
        case ops.Neuron() | ops.Input() | ops.Readout() | ops.Linear() | ops.Conv2d():
            yield wires
        case ops.Concat(axis=axis):
            yield from _parts(graph, node, axis, wires, every)
        case ops.Sum(axes=axes):
            yield from sources(graph, _summed(graph, node, axes, wires, every))
        case (
            ops.Add() | ops.Reshape() | ops.Permute() | ops.Expand() | ops.Slice() | ops.Delay()
        ):  # fmt: skip
            for operand in node.inputs:
                at = _moved(graph, node, operand, wires.at)
                yield from sources(graph, wires.into(operand, at), every)
        case (
            ops.SpikeMatmul() | ops.Gate() | ops.ShiftSum() | ops.MaxPool2d() | ops.Membrane()
            | ops.GeneralNeuron() | ops.Staircase() | ops.Relu()
        ):  # fmt: skip
            raise TypeError(f"{node.name} is no op of a graph of binary neurons")
        case _:
            assert_never(node.op)


def behind(graph: Graph, wires: Wires, every: int = 1) -> Iterator[Wires]:
    """Follow elements back to neurons and inputs, through maps of weights too."""
    for found in sources(graph, wires, every):
        if isinstance(graph[found.name].op, ops.Weighted):
            yield from behind(graph, weighed(graph, found))
        else:
            yield found


def weighed(graph: Graph, wires: Wires) -> Wires:
    """Follow elements that a map of weights puts out to all elements that it takes for them."""
    node = graph[wires.name]
    x, y = (graph.types[name].shape for name in (node.inputs[0], node.name))
    if isinstance(node.op, ops.Linear):
        found = (wires.at // y[-1])[:, None] * x[-1] + np.arange(x[-1])
        asked = np.broadcast_to(wires.asked[:, None], found.shape)
        return wires.into(node.inputs[0], found.ravel(), asked.ravel())
    if not isinstance(node.op, ops.Conv2d):
        raise TypeError(f"{node.name} is no map of weights")
    outputs, per_group, *kernel = node.op.weight.shape
    feature, *place = np.unravel_index(wires.at, y)
    group = feature // (outputs // node.op.groups)
    channels = group[:, None] * per_group + np.arange(per_group)
    lines = [
        p[:, None] * stride - padding + np.arange(k)
        for p, stride, padding, k in zip(
            place, node.op.stride, node.op.padding, kernel, strict=True
        )
    ]
    rows, columns = lines[0][:, None, :, None], lines[1][:, None, None, :]
    found = (channels[:, :, None, None] * x[1] + rows) * x[2] + columns
    there = np.broadcast_to(
        (rows >= 0) & (rows < x[1]) & (columns >= 0) & (columns < x[2]), found.shape
    )
    asked = np.broadcast_to(wires.asked[:, None, None, None], found.shape)
    return wires.into(node.inputs[0], found[there], asked[there])


def _moved(graph: Graph, node: Node, operand: str, at: Index) -> Index:
    """The elements of an operand that are these elements of a node that only moves them."""
    x, y = graph.types[operand].shape, graph.types[node.name].shape
    match node.op:
        case ops.Permute(axes=axes):
            place = np.unravel_index(at, y)
            return _flat([place[axes.index(axis)] for axis in range(len(x))], x)
        case ops.Expand():
            place = np.unravel_index(at, y)
            return _flat([p if n > 1 else p * 0 for p, n in zip(place, x, strict=True)], x)
        case ops.Slice(axis=axis, start=start):
            place = np.unravel_index(at, y)
            return _flat([p + start * (a == axis) for a, p in enumerate(place)], x)
        case _:  # an addition, or the same elements in the same order
            return at


def _parts(graph: Graph, node: Node, axis: int, wires: Wires, every: int) -> Iterator[Wires]:
    place = list(np.unravel_index(wires.at, graph.types[node.name].shape))
    along, start = place[axis], 0
    for operand in node.inputs:
        shape = graph.types[operand].shape
        mine = (along >= start) & (along < start + shape[axis])
        inside = [p[mine] - start * (a == axis) for a, p in enumerate(place)]
        found = wires.into(operand, _flat(inside, shape), wires.asked[mine])
        yield from sources(graph, found, every)
        start += shape[axis]


def _summed(graph: Graph, node: Node, axes: tuple[int, ...], wires: Wires, every: int) -> Wires:
    """All elements that are added up, or each so many-th."""
    x = graph.types[node.inputs[0]].shape
    lengths = [x[axis] for axis in axes]
    step = min(every, math.prod(lengths))
    added = np.unravel_index(np.arange(0, math.prod(lengths), step), lengths)
    kept = [length for axis, length in enumerate(x) if axis not in axes]
    place = iter(np.unravel_index(wires.at, kept)) if kept else iter(())
    terms = dict(zip(axes, added, strict=True))
    spread = [
        terms[axis][None, :] if axis in terms else next(place)[:, None] for axis in range(len(x))
    ]
    shape = (wires.at.size, added[0].size)
    found = _flat([np.broadcast_to(s, shape) for s in spread], x)
    asked = np.broadcast_to(wires.asked[:, None], shape)
    return wires.into(node.inputs[0], found.ravel(), asked.ravel(), step)


def _flat(place: list[Index], shape: tuple[int, ...]) -> Index:
    flat = np.zeros(place[0].shape if place else (), np.int64)
    for p, length in zip(place, shape, strict=True):
        flat = flat * length + p
    return flat


def distinct(values: Index) -> tuple[Index, Index]:
    """Return the different values in order, and how many of each there are; by sorting."""
    ordered = np.sort(values)
    starts = np.flatnonzero(np.diff(ordered, prepend=ordered[:1] - 1))
    return ordered[starts], np.diff(starts, append=ordered.size)
