"""A network on Xylo: so many hidden neurons and outputs, with any weights between them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lapilli.costs.obstacles import Obstacle
from lapilli.costs.small_chips import (
    Share,
    SmallMap,
    elements,
    graded_input,
    kind,
    odd_neuron,
    weight_bits,
    whole_state,
)
from lapilli.ir import ops
from lapilli.ir.graph import Graph, Node
from lapilli.ir.targets.xylo import NeuronChip

_NOTES = (
    "a neuron there fires as often in a step as its state holds its threshold, and rounds its "
    "decays down: a network that fits need not answer as its integers do",
)
_HIDDEN, _OUTPUTS = "hidden neurons", "outputs"


@dataclass(frozen=True, slots=True)
class _Roles:
    """Which neurons are the network's outputs, and which are hidden."""

    hidden: tuple[Node, ...]
    outputs: tuple[Node, ...]


def on_xylo(graph: Graph, chip: NeuronChip) -> SmallMap:
    """Count neurons, inputs and targets, and name what the chip cannot do, or hold."""
    roles = _roles(graph)
    against = [Obstacle(n.name, why) for n in graph.nodes for why in _against(graph, n, chip)]
    shares = []
    for what, nodes in ((_HIDDEN, roles.hidden), (_OUTPUTS, roles.outputs)):
        room = chip.most(what)
        sizes = {node.name: elements(graph, node.name) for node in nodes}
        shares += [Share(name, None, {what: n}, {what: room}) for name, n in sizes.items()]
        if (need := sum(sizes.values())) > room:
            large = max(sizes, key=lambda name: sizes[name])
            against.append(
                Obstacle(large, f"is the largest of {need:,} {what}; the chip has {room:,}")
            )
    return SmallMap(chip=chip, shares=tuple(shares), obstacles=tuple(against), notes=_NOTES)


def _roles(graph: Graph) -> _Roles:
    """Neurons that only the read-out hears are outputs."""
    firing = [node for node in graph.nodes if isinstance(node.op, ops.Firing)]
    outputs = [node for node in firing if not _heard(graph, node.name)]
    return _Roles(tuple(n for n in firing if n not in outputs), tuple(outputs))


def _heard(graph: Graph, name: str) -> bool:
    """Whether other neurons hear what this value holds."""
    return any(
        isinstance(node.op, ops.Firing) or _heard(graph, node.name)
        for node in graph.nodes
        if name in node.inputs and not isinstance(node.op, ops.Readout)
    )


def _against(graph: Graph, node: Node, chip: NeuronChip) -> Iterator[str]:
    match node.op:
        case ops.Input():
            yield from _of_input(graph, node, chip)
        case ops.Linear() | ops.Conv2d() as op:
            if (bits := weight_bits(op)) > chip.most("bits of a weight"):
                yield f"needs {bits} bits of a weight, of {chip.most('bits of a weight')}"
            if (targets := _targets(graph, node, op)) > (most := chip.most("targets of a neuron")):
                yield f"gives a neuron {targets:,} targets, of {most:,}"
        case ops.Neuron() as op:
            yield from odd_neuron(op, leak=True)
            if op.reset is ops.Reset.TO_ZERO:
                yield "resets to zero; there thresholds are subtracted"
            if (bits := whole_state(graph, node, op)) > (most := chip.most("bits of a state")):
                yield f"needs {bits} bits of a state, of {most}"
        case (
            ops.Readout() | ops.Reshape() | ops.Permute() | ops.Slice() | ops.Concat()
            | ops.Expand() | ops.Add() | ops.Sum()
        ):  # fmt: skip
            pass  # the host's; or weights, which may be any
        case _:
            yield f"{kind(node.op)}; there are constant weights and neurons alone"


def _of_input(graph: Graph, node: Node, chip: NeuronChip) -> Iterator[str]:
    if graded_input(graph, node.name):
        yield "has values; Xylo takes events alone"
    if (size := elements(graph, node.name)) > (most := chip.most("inputs")):
        yield f"has {size:,} channels; the chip has {most}"
    if (events := graph.types[node.name].range.magnitude) > (most := chip.most("events in a step")):
        yield f"has up to {events:,} events in a step, of {most}"


def _targets(graph: Graph, node: Node, op: ops.Weighted) -> int:
    """Most neurons that one source reaches through weights that are not 0."""
    there = (op.weight.array != 0).astype(np.int64)
    if isinstance(op, ops.Linear):
        return int(there.sum(axis=0).max())
    _, height, width = graph.types[node.name].shape
    covered = [
        min(length, -(-kernel // stride))
        for length, kernel, stride in zip(
            (height, width), op.weight.shape[2:], op.stride, strict=True
        )
    ]
    features = op.weight.shape[0] // op.groups
    return features * covered[0] * covered[1]
