"""What NIR has a node for beside binary neurons: spikes that wait, membranes that are read."""

from __future__ import annotations

import numpy as np

from lapilli.export.nir.write.canonical import EXACT
from lapilli.ir import ops
from lapilli.ir.bounds import finest_bit, neuron_bounds
from lapilli.ir.graph import Graph, Node
from lapilli.ir.tensor import IntArray
from lapilli.ir.types import TensorType


def has_node(graph: Graph, node: Node) -> bool:
    """Whether a general neuron is a `Delay`, or a membrane that of an `LI` or an `I`."""
    if not isinstance(node.op, ops.GeneralNeuron | ops.Membrane):
        return False
    given = graph.types[node.inputs[0]]
    if isinstance(node.op, ops.Membrane):
        return integrates(node.op, given, graph.T)
    return steps_held(node.op, given, graph.T) is not None


def never(graph: Graph, node: Node) -> bool:
    """Whether a flavour without such nodes has one: no."""
    del graph, node
    return False


def integrates(op: ops.Membrane, given: TensorType, T: int) -> bool:
    """Whether a membrane is a leaky sum of its currents, which nothing resets or rounds."""
    neuron = op.neuron
    bounds = neuron_bounds("", neuron, given, T)
    silent = neuron.reset is ops.Reset.NONE or bounds.v.magnitude < neuron.threshold.range.lo
    plain = neuron.du == ops.DECAY_ONE and not neuron.bias.array.any()
    whole = neuron.fraction_bits >= 0 and finest_bit(neuron, T) >= 0
    if not (silent and plain and whole) or neuron.dv & (neuron.dv - 1):
        return False
    added = given.range.shifted(neuron.fraction_bits).magnitude * steps_of_decay(neuron)
    return added + bounds.v.magnitude < EXACT


def steps_of_decay(neuron: ops.Neuron) -> int:
    """The time constant of a membrane in steps, a power of two; 1 where it has none."""
    return ops.DECAY_ONE // neuron.dv if neuron.dv else 1


def steps_held(op: ops.Op, given: TensorType, T: int) -> IntArray | None:
    """By how many steps an op holds each spike that it is given; None if it does anything else.

    Args:
        op: a neuron without memory but for one tap of 1 for each element, or none, which is T.
        given: its input.
        T: steps of a sample.

    Returns:
        Steps, of one element or of a shape that broadcasts against the value.
    """
    if not isinstance(op, ops.GeneralNeuron) or not given.is_binary:
        return None
    forgets = op.dv.range.lo == op.du.range.lo == ops.DECAY_ONE and op.shift == 0
    plain = len(op.taps.array) == 1 and not op.bias.array.any() and not (op.floored and op.floor)
    taps = op.taps.array[0]
    if not forgets or not plain or not np.array_equal(op.threshold.array.ravel(), [1]):
        return None
    if not np.isin(taps, (0, 1)).all() or (taps.sum(axis=0) > 1).any():
        return None
    return np.where(taps.any(axis=0), taps.argmax(axis=0), T)
