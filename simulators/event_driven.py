"""Only spikes cause work: an independent implementation that counts synaptic operations.

It shares wiring with the definition, nothing that computes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from typing_extensions import assert_never

from lapilli.ir import ops
from lapilli.ir.counts import Counts
from lapilli.ir.graph import Graph, Node
from lapilli.ir.recording import Recording
from lapilli.ir.semantics import wire
from lapilli.ir.tensor import IntArray
from lapilli.ir.types import Kind
from lapilli.simulators.event_delivery import (
    Membrane,
    Tally,
    conv,
    gated_rows,
    linear,
    max_pool,
    shifted_rows,
)


@dataclass(frozen=True, slots=True)
class EventDriven:
    """Adds one weight column, or one row of values, for every event.

    SynOps: one for each spike (or unit of a count) and synapse that it reaches; a graded
    input counts as many events as its magnitude has set bits (shift-and-add). Counts of each node
    (`ir.counts`) are taken where an event is delivered, not from what is known of the layer.
    """

    name: str = "event-driven"

    def compile(self, graph: Graph) -> _EventDrivenExecutable:
        """Every graph that can be built is accumulate-only, so every graph runs."""
        return _EventDrivenExecutable(graph)


@dataclass(frozen=True, slots=True)
class _EventDrivenExecutable:
    graph: Graph

    def run(self, inputs: Mapping[str, IntArray]) -> Recording:
        types, T = self.graph.types, self.graph.T
        batch = next(iter(inputs.values())).shape[1]
        values = {
            n.name: np.zeros((T, batch, *types[n.name].shape), np.int64) for n in self.graph.nodes
        }
        membranes = {name: np.zeros_like(values[name]) for name in self.graph.neurons}
        memory = {n.name: Membrane(values[n.name][0]) for n in self.graph.nodes}
        tallies: dict[str, Tally] = {node.name: Counter() for node in self.graph.nodes}
        synops = 0
        for t in range(T):
            for node in self.graph.nodes:
                args = tuple(values[i][t] for i in node.inputs)
                out = values[node.name][t]
                tally = tallies[node.name]
                match node.op:
                    case ops.Input():
                        out[...] = inputs[node.name][t]
                    case ops.Neuron() as neuron:
                        own = memory[node.name]
                        membranes[node.name][t] = own.step(neuron, args[0], out, tally)
                    case ops.GeneralNeuron() as neuron:
                        own = memory[node.name]
                        membranes[node.name][t] = own.general(neuron, t, args[0], out, tally)
                    case ops.Membrane(neuron=neuron) as op:
                        own = memory[node.name]
                        before = own.step(neuron, args[0], np.zeros_like(out), tally)
                        out[...] = own.v if op.after_reset else before
                    case ops.Readout():
                        memory[node.name].v += args[0]
                        out[...] = memory[node.name].v
                        tally["additions"] += out.size
                    case op:
                        synops += self._accumulate(node, op, args, out, tally)
                self._tell_events(node, args, out, tally)
        currents = {name: values[self.graph[name].inputs[0]] for name in self.graph.firing}
        counts = {name: Counts(**tally) for name, tally in tallies.items()}
        return Recording(values, membranes, currents, synops=synops, counts=counts)

    def _tell_events(
        self, node: Node, args: tuple[IntArray, ...], out: IntArray, tally: Tally
    ) -> None:
        """Count events that arrived at a node that computes, and those that left one that fires."""
        if not isinstance(node.op, ops.Wiring | ops.Concat | ops.Delay):
            for name, x in zip(node.inputs, args, strict=True):
                if self.graph.types[name].kind is not Kind.GRADED:
                    tally["events"] += int(np.abs(x).sum())
        if isinstance(node.op, ops.Input | ops.Firing | ops.Relu):
            graded = self.graph.types[node.name].kind is Kind.GRADED
            tally["sent"] += int(np.count_nonzero(out)) if graded else int(np.abs(out).sum())

    def _accumulate(
        self,
        node: Node,
        op: ops.Stateless,
        args: tuple[IntArray, ...],
        out: IntArray,
        tally: Tally,
    ) -> int:
        """Add into `out` what each event brings; return the number of additions."""
        counts = all(self.graph.types[name].kind is not Kind.GRADED for name in node.inputs)
        match op:
            case ops.Linear():
                return linear(op, args[0], out, tally)
            case ops.Conv2d():
                return conv(op, args[0], out, tally)
            case ops.SpikeMatmul():
                a, b = args
                if self._gate_comes_first(node):
                    return gated_rows(a, b, out, tally)
                b, a, turned = (x.swapaxes(-1, -2) for x in (b, a, out))
                return gated_rows(b, a, turned, tally)
            case ops.Gate():
                gate, value = args if self._gate_comes_first(node) else args[::-1]
                for events in range(1, int(np.abs(gate).max(initial=0)) + 1):
                    for sign, hit in ((1, gate >= events), (-1, gate <= -events)):
                        out[hit] += sign * value[hit]
                        tally["accumulates"] += value[hit].size
                        tally["coincidences"] += int(np.count_nonzero(value[hit]))
                return int(np.abs(gate).sum())
            case ops.ShiftSum():
                return shifted_rows(op, args[0], args[1], out, tally)
            case ops.Add():
                out[...] = args[0] + args[1]
                if counts:
                    tally["accumulates"] += int(sum(np.abs(x).sum() for x in args))
                else:
                    tally["additions"] += out.size
                return int(np.count_nonzero(args[1]))
            case ops.Concat(axis=axis):
                first, second = np.split(out, [args[0].shape[axis + 1]], axis=axis + 1)
                first[...], second[...] = args
                return 0
            case ops.Sum(axes=axes, keepdims=keep):
                total = args[0]
                for axis in sorted(axes, reverse=True):
                    if not counts:
                        tally["additions"] += total.size - total.size // total.shape[axis + 1]
                    total = np.sum(total, axis=axis + 1, keepdims=keep)
                out[...] = total
                if counts:
                    tally["accumulates"] += int(np.abs(args[0]).sum())
                return int(np.count_nonzero(args[0]))
            case ops.MaxPool2d():
                max_pool(op, args[0], out, tally)
                return 0
            case ops.Staircase(thresholds=thresholds):
                for step in range(len(thresholds.array)):  # a neuron for each, firing or not
                    out[np.greater(args[0], thresholds.array[step] - 1)] += 1
                    tally["compares"] += out.size
                tally["updates"] += out.size
                return 0
            case ops.Relu():
                positive = np.nonzero(args[0] > 0)
                out[positive] = args[0][positive]
                tally["compares"] += out.size
                tally["updates"] += out.size
                return 0
            case ops.Reshape() | ops.Permute() | ops.Expand() | ops.Slice() | ops.Delay():
                out[...] = wire(op, args[0])
                return 0
            case _:
                assert_never(op)

    def _gate_comes_first(self, node: Node) -> bool:
        """Which operand of a product says how often the other is added: spikes, else counts."""
        a, b = (self.graph.types[name] for name in node.inputs)
        if Kind.SPIKES in (a.kind, b.kind):
            return a.kind is Kind.SPIKES
        return a.kind is Kind.COUNTS and (b.kind is not Kind.COUNTS or a.range.hi <= b.range.hi)
