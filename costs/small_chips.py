"""Chips that take a whole network or nothing: what each layer takes there, and what cannot be.

`speck` and `xylo` beside this one know a chip each.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from lapilli.costs.obstacles import Obstacle
from lapilli.ir import ops
from lapilli.ir.bounds import neuron_bounds
from lapilli.ir.graph import Graph, Node
from lapilli.ir.targets.speck import LayerChip
from lapilli.ir.targets.xylo import NeuronChip
from lapilli.ir.types import IntRange, Kind

SmallChip = LayerChip | NeuronChip


@dataclass(frozen=True, slots=True)
class Share:
    """What one layer takes of a chip, by what it is of.

    Attributes:
        node: of its neurons; core: that takes it, None if it has none, or the chip has but one.
        takes: how much, by name; room: how much there is, where that is known.
    """

    node: str
    core: int | None
    takes: Mapping[str, int]
    room: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallMap:
    """A network on a small chip.

    Attributes:
        chip: what it is put on.
        shares: of each layer that the chip can do.
        obstacles: all that it cannot, in the order of the graph.
        cores: of the chip; 0 where neurons are not on cores.
        notes: what no check here can say.
    """

    chip: SmallChip
    shares: tuple[Share, ...]
    obstacles: tuple[Obstacle, ...]
    cores: int = 0
    notes: tuple[str, ...] = field(default=())

    @property
    def fits(self) -> bool:
        """Whether nothing stands against it."""
        return not self.obstacles


def weight_bits(op: ops.Weighted) -> int:
    """Bits of the weights, sign included, without the power of two that all share."""
    return (op.weight.mantissa.range | IntRange(-1, 0)).bits


def whole_state(graph: Graph, node: Node, op: ops.Neuron) -> int:
    """Bits of a membrane that counts in the largest unit in which all that it adds is whole."""
    bounds = neuron_bounds(node.name, op, graph.types[node.inputs[0]], graph.T)
    if op.dv:
        return bounds.state_bits  # a decay leaves any bit
    unit = max(0, op.fraction_bits) + _exponent(graph, node.inputs[0])
    lowest = int(np.bitwise_or.reduce(np.abs(op.bias.array).ravel()))
    if lowest:
        unit = min(unit, (lowest & -lowest).bit_length() - 1)
    return max(1, bounds.state_bits - unit)


def _exponent(graph: Graph, name: str) -> int:
    """Power of two that a value is a multiple of, as far as its weights say."""
    node = graph[name]
    while isinstance(node.op, ops.Wiring):
        node = graph[node.inputs[0]]
    return node.op.weight.exponent if isinstance(node.op, ops.Weighted) else 0


def odd_neuron(op: ops.Op, *, leak: bool) -> Iterator[str]:
    """What a neuron does that neither chip's neurons do.

    Args:
        op: that fires.
        leak: whether they may forget by shifts of their state.
    """
    if not isinstance(op, ops.Neuron):
        yield f"{kind(op)} is none of its neurons"
        return
    if op.ternary:
        yield "sends negative spikes, too"
    if op.dv and not leak:
        yield "forgets a part of its membrane at each step; a constant leak is all there is"
    if leak and not _is_shift(op.dv):
        yield f"keeps (4096 - {op.dv}) / 4096 of its membrane; it must be 1 - 2^-n of it"
    if op.du != ops.DECAY_ONE and not (leak and _is_shift(op.du)):
        yield f"keeps (4096 - {op.du}) / 4096 of its current from step to step"
    if op.reset is ops.Reset.NONE:
        yield "does not reset"


def _is_shift(decay: int) -> bool:
    """Whether a decay takes 2^-n of the state, or nothing."""
    return decay == 0 or (decay & (decay - 1)) == 0


def kind(op: ops.Op) -> str:
    """Name an op in words."""
    words = {
        ops.SpikeMatmul: "a product of two values",
        ops.Gate: "a product of two values",
        ops.ShiftSum: "a sum of values that others shift",
        ops.MaxPool2d: "a maximum",
        ops.Add: "an addition of two values",
        ops.Sum: "a sum over an axis",
        ops.Concat: "values of two sources side by side",
        ops.GeneralNeuron: "a general neuron",
        ops.Membrane: "a membrane that is shown",
        ops.Staircase: "a neuron that fires several events at once",
        ops.Relu: "a value that is sent as it is",
        ops.Permute: "an exchange of axes",
        ops.Expand: "a repetition",
        ops.Slice: "a part of a value",
        ops.Delay: "a delay",
    }
    return words.get(type(op), type(op).__name__)


def graded_input(graph: Graph, name: str) -> bool:
    """Whether an input has values that are not events."""
    return graph.types[name].kind is Kind.GRADED


def elements(graph: Graph, name: str) -> int:
    """How many elements a value has."""
    return math.prod(graph.types[name].shape)
