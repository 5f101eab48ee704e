"""Which values PyTorch may hold in float32, and no integer of theirs is rounded.

float32 holds every integer up to 2^24. A sum is exact in it, in whatever order, where the terms'
magnitudes together stay below that, in the unit of which all of them are multiples. The graph says
of every node how large they can get. What is computed outside of modules meets in PyTorch as it
is, so that all values of a *zone*, what operators of no module connect, have one precision.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from fractions import Fraction

import numpy as np
import torch

from lapilli.ir import ops
from lapilli.ir.bounds import finest_bit, neuron_bounds
from lapilli.ir.graph import Graph
from lapilli.ir.partial_sums import partial_sum
from lapilli.ir.targets.float32 import SIGNIFICAND
from lapilli.model.neurons.general_rule import GeneralRule
from lapilli.model.neurons.rule import NeuronRule, Rule
from lapilli.quantize.neurons import IntegerNeuron

LARGEST = 1 << SIGNIFICAND.bits  # up to here, every integer is a float32
_FLAGS = threading.Lock()  # PyTorch's flags are the process's


@contextmanager
def no_transform() -> Iterator[None]:
    """Switch off NNPACK, whose convolutions are transforms; oneDNN is asked for the direct ones."""
    with _FLAGS, torch.backends.nnpack.flags(enabled=False):
        yield


def narrow_nodes(graph: Graph, modules: Collection[str]) -> frozenset[str]:
    """Nodes whose values float32 holds, and all that they meet in PyTorch.

    Args:
        graph: before any pass.
        modules: the synapses and neurons that are modules, and take and give any precision.
    """
    zone: dict[str, str] = {}

    def leader(name: str) -> str:
        while zone[name] != name:
            name = zone[name]
        return name

    for node in graph.nodes:
        zone[node.name] = node.name
        if node.name not in modules:
            for given in node.inputs:
                zone[leader(given)] = node.name
    averaged = _averaged(graph)
    wide = {
        leader(node.name)
        for node in graph.nodes
        if isinstance(node.op, ops.Input | ops.ShiftSum)  # PyTorch is given float64
        or partial_sum(graph, node) * (graph.T if node.name in averaged else 1) > LARGEST
    }
    return frozenset(name for name in zone if leader(name) not in wide)


def _averaged(graph: Graph) -> frozenset[str]:
    """Nodes between the last neurons and the read-out: the author adds T steps of any of them."""
    found: set[str] = set()
    waiting = list(graph.outputs)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            if not isinstance(graph[name].op, ops.Stateful) or name in graph.outputs:
                waiting += graph[name].inputs
    return frozenset(n for n in found if not isinstance(graph[n].op, ops.Stateful))


def is_narrow_neuron(name: str, graph: Graph, rule: Rule, neuron: IntegerNeuron) -> bool:
    """Whether float32 computes a neuron of ours, `v + (x - v) / tau`, and rounds nothing."""
    if not neuron.exact:
        return False
    if isinstance(rule, GeneralRule):
        return False
    if not (isinstance(rule, NeuronRule) and isinstance(neuron.op, ops.Neuron)):
        return True  # a staircase has no memory: it rounds its current
    thresholds = [neuron.v_threshold] if neuron.v_threshold is not None else list(rule.thetas)
    if any(Fraction(float(np.float32(float(t)))) != t for t in thresholds):
        return False
    op, given = neuron.op, graph.types[graph[name].inputs[0]]
    finest = finest_bit(op, graph.T)
    if finest < 0:
        return False
    bounds = neuron_bounds(name, op, given, graph.T)
    membrane = max(bounds.v.magnitude, bounds.after.magnitude)
    current = given.range.magnitude * 2**op.fraction_bits / rule.gain
    fits = (current + membrane) / 2**finest <= LARGEST
    return fits and membrane + op.threshold.range.magnitude <= LARGEST
