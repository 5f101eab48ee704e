"""Graph to Lava processes: one process for each primitive, wiring folded into its readers.

Runs in the worker. Neurons are Lava's own wherever `legality` says that they are what the
graph means: `LIFReset`, unmodified, or `TernaryLIF`, which is given the same reset. Their
registers count du from one ("ds_offset"), shift the input left by 6, and fire on
v > vth * 64, which is v >= 64 * vth + 1. Where Lava has no such neuron, it is one of ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lava.proc.lif.process import LIFReset
from typing_extensions import assert_never

from lapilli.ir import ops
from lapilli.ir.graph import Graph, Node
from lapilli.ir.loihi import TIE
from lapilli.simulators.lava.shared.job import Job
from lapilli.simulators.lava.shared.legality import unsupported_by_lif
from lapilli.simulators.lava.shared.traces import InputTap, OutputTap, Trace, Wires
from lapilli.simulators.lava.worker.processes import primitives
from lapilli.simulators.lava.worker.processes.neurons import (
    General,
    Integrator,
    Stairs,
    TernaryReset,
)

_FIRES = (LIFReset, TernaryReset, Integrator, General, Stairs)  # their ports are a_in and s_out


@dataclass(frozen=True, slots=True)
class ProcessNetwork:
    """The Lava processes of a graph, all connected; those that fire also by name."""

    processes: tuple[Any, ...]
    neurons: Mapping[str, Any]


def lower(graph: Graph, job: Job, folder: Path) -> ProcessNetwork:
    """Build and connect the processes of `graph`; files are in `folder`."""
    builder = _Builder(graph, job, folder)
    for node in builder.needed():
        builder.add(node)
    builder.finish()
    neurons = {name: builder.made[name] for name in graph.firing}
    return ProcessNetwork((*builder.made.values(), *builder.extra), neurons)


class _Builder:
    def __init__(self, graph: Graph, job: Job, folder: Path) -> None:
        self.graph, self.job, self.folder = graph, job, folder
        self.nodes = {node.name: node for node in graph.nodes}
        self.made: dict[str, Any] = {}  # processes of nodes, by name
        self.extra: list[Any] = []
        self.unrecorded = set(job.values)
        self.joined: dict[Any, Any] = {}  # disjoint sets: process -> another of its part
        # Neurons that are ours: what Lava's own cannot be, or all.
        self.ours = frozenset(
            graph.neurons if job.own_neurons else (n.node for n in unsupported_by_lif(graph))
        )
        self.feeds: dict[str, Node] = {}  # primitive -> the neuron on its port `current`
        for name in graph.firing:
            root, _ = self.root(self.nodes[name].inputs[0])
            if not isinstance(self.nodes[root].op, ops.Firing):
                self.feeds.setdefault(root, self.nodes[name])

    def needed(self) -> list[Node]:
        """Nodes with an effect on something recorded; Lava does not run loose ends."""
        wanted = self.graph.ancestors((*self.graph.firing, *self.job.values))
        return [node for node in self.graph.nodes if node.name in wanted]

    def root(self, name: str) -> tuple[str, Wires]:
        """The node that a value comes from, and the wires between."""
        wires: list[ops.Wiring] = []
        while isinstance(op := self.nodes[name].op, ops.Wiring):
            wires.insert(0, op)
            name = self.nodes[name].inputs[0]
        return name, tuple(wires)

    def add(self, node: Node) -> None:
        """Make the process of `node`, whose operands are made."""
        op = node.op
        if isinstance(op, ops.Wiring):
            return
        if isinstance(op, ops.Synaptic):
            kind = primitives.Product if len(node.inputs) == 2 else primitives.Synapse
            largest = largest_sum(node, op, self.graph)
            self.made[node.name] = self.primitive(kind, node, op=op, largest=largest)
            return
        match op:
            case ops.Neuron() | ops.GeneralNeuron() | ops.Staircase():
                made = self.neuron(node, op)
            case ops.Relu():
                made = self.primitive(primitives.Pointwise, node, op=op)
            case ops.Input():
                trace = self.trace(self.job.inputs, node.name)
                made = self.primitive(primitives.Source, node, trace=trace)
            case ops.Delay(steps=steps):
                made = self.primitive(primitives.DelayLine, node, steps=steps)
            case ops.Add() | ops.Concat():
                made = self.primitive(primitives.Merge, node, op=op)
            case ops.Membrane():
                reset = self.job.resets[node.name]
                made = self.primitive(primitives.MembraneProbe, node, op=op, reset=reset)
            case ops.Readout():
                reset = self.job.resets[node.name]
                made = self.primitive(primitives.Accumulator, node, reset=reset)
            case _:
                assert_never(op)
        self.made[node.name] = made

    def finish(self) -> None:
        """Record what nobody received, and tie separate parts together."""
        for name in sorted(self.unrecorded):
            root, wires = self.root(name)
            output_tap = OutputTap(wires, whole=self.trace(self.job.values, name))
            self.extra.append(self.probe(root, output_tap, self.shape(name), InputTap()))
        first = next(iter(self.made))
        for name in self.made:
            if self.part(self.made[name]) is not self.part(self.made[first]):
                shapes = (self.shape(first), self.shape(name), self.shape(name))
                connector = primitives.Connector(
                    shapes, shapes[-1], input_taps=(InputTap(), InputTap()), output_tap=None
                )
                self.connect(first, connector.a)
                self.connect(name, connector.b)
                self.extra.append(connector)

    def primitive(self, kind: Any, node: Node, **options: object) -> Any:
        """A process of ours for `node`, connected to what it reads."""
        roots = [self.root(name) for name in node.inputs]
        shapes = (*(self.shape(root) for root, _ in roots), self.shape(node.name))
        input_taps = tuple(InputTap(wires, self.spikes_trace(root)) for root, wires in roots)
        output_tap, current = None, shapes[-1]
        if neuron := self.feeds.get(node.name):
            output_tap, current = self.output_tap(neuron), self.shape(neuron.name)
        made = kind(shapes, current, input_taps=input_taps, output_tap=output_tap, **options)
        for (root, _), port in zip(roots, "ab", strict=False):
            self.connect(root, getattr(made, port))
        return made

    def probe(
        self, root: str, output_tap: OutputTap, current: tuple[int, ...], input_tap: InputTap
    ) -> Any:
        """A process that only passes on, and records."""
        shapes = (self.shape(root), self.shape(root))
        made = primitives.Probe(shapes, current, input_taps=(input_tap,), output_tap=output_tap)
        self.connect(root, made.a)
        return made

    def neuron(self, node: Node, op: ops.Firing) -> Any:
        """The process that fires, fed by the primitive before it or else by a probe."""
        made = self.firing(node, op)
        root, _ = self.root(node.inputs[0])
        feeder = self.made[root]
        if self.feeds.get(root) is not node:
            input_tap = InputTap(trace=self.spikes_trace(root))
            feeder = self.probe(root, self.output_tap(node), self.shape(node.name), input_tap)
            self.extra.append(feeder)
        feeder.current.connect(made.a_in)
        self.joined[self.part(made)] = self.part(feeder)
        return made

    def firing(self, node: Node, op: ops.Firing) -> Any:
        """Lava's own neuron if it can be this one, else ours."""
        shape = self.shape(node.name)
        if isinstance(op, ops.Staircase):
            return Stairs(shape=shape, op=op)
        interval, offset = self.job.resets[node.name]
        if isinstance(op, ops.GeneralNeuron):
            return General(shape=shape, op=op, reset=(interval, offset))
        if node.name in self.ours:
            return Integrator(shape=shape, op=op, reset=(interval, offset))
        vth = (int(op.threshold.array.ravel()[0]) - 1) // TIE
        registers = {
            "shape": shape,
            "du": max(op.du - 1, 0),
            "dv": op.dv if op.dv < ops.DECAY_ONE else 0,  # full leak: reset at every step instead
            "bias_mant": np.broadcast_to(op.bias.array, shape).copy(),
            "bias_exp": 0,
        }
        if op.ternary:
            return TernaryReset(reset=(interval, offset), vth_hi=vth, vth_lo=-vth, **registers)
        return LIFReset(vth=vth, reset_interval=interval, reset_offset=offset, **registers)

    def output_tap(self, neuron: Node) -> OutputTap:
        """What the input of `neuron` passes on its way."""
        op = neuron.op
        _, wires = self.root(neuron.inputs[0])
        shift = 0
        if isinstance(op, ops.Neuron) and neuron.name not in self.ours:
            shift = op.fraction_bits - ops.LOIHI_FRACTION_BITS  # Lava's own shift by the rest
        return OutputTap(wires, shift, digests=self.trace(self.job.digests, neuron.name))

    def connect(self, root: str, port: Any) -> None:
        """Send the value of `root` to an in-port."""
        made = self.made[root]
        (made.s_out if isinstance(made, _FIRES) else made.out).connect(port)
        self.joined[self.part(port.process)] = self.part(made)

    def part(self, process: Any) -> Any:
        """A process that stands for all that are connected to this one."""
        while (other := self.joined.get(process, process)) is not process:
            process = other
        return process

    def shape(self, name: str) -> tuple[int, ...]:
        """Of messages that carry this value."""
        return (self.job.lanes, *self.graph.types[name].shape)

    def spikes_trace(self, root: str) -> Trace | None:
        """The trace for a value, for the first who asks."""
        if root not in self.unrecorded:
            return None
        self.unrecorded.discard(root)
        return self.trace(self.job.values, root)

    def trace(self, files: Mapping[str, str], name: str) -> Trace | None:
        """The file of this node, if there is one."""
        if name not in files:
            return None
        return Trace(self.folder / files[name], self.job.latency[name], self.job.lanes)


def largest_sum(node: Node, op: ops.Synaptic, graph: Graph) -> int:
    """Bound on every partial sum of a synapse; more than floats hold where none is needed."""
    x = [graph.types[name].range.magnitude for name in node.inputs]
    match op:
        case ops.Linear(weight=w, bias=b) | ops.Conv2d(weight=w, bias=b):
            fan_in = np.abs(w.array).reshape(len(w.array), -1).sum(axis=1)
            return x[0] * int(fan_in.max()) + b.range.magnitude
        case ops.SpikeMatmul():
            return graph.types[node.inputs[0]].shape[-1] * x[0] * x[1]
        case ops.Gate() | ops.ShiftSum() | ops.Sum() | ops.MaxPool2d():  # never in floats
            return 1 << 53
        case _:
            assert_never(op)
