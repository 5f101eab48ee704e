"""One batch on its way through the graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from lapilli.ir import ops
from lapilli.ir.graph import Graph, Node
from lapilli.ir.recording import Recording
from lapilli.simulators.fast import choice, matrices, plain, stepwise
from lapilli.simulators.fast.choice import Path
from lapilli.simulators.fast.neurons import Answer, Rule
from lapilli.simulators.fast.remade import Remade, narrowed, remade
from lapilli.simulators.fast.weighted import Layer, ShiftedLayer
from lapilli.simulators.fast.widened import Widened
from lapilli.simulators.fast.work import Work

Array = npt.NDArray[Any]
LARGE = 2 << 30  # bytes of spikes, currents and membranes from which on a recording is kept small
_BYTES = 9  # that each neuron of each step takes: 1 of a spike, 4 of a current, 4 of a membrane


class Run:
    """One batch on its way through the graph; values (T * B, *shape) until nobody reads them."""

    def __init__(
        self, graph: Graph, layers: Mapping[str, Layer | ShiftedLayer], rules: Mapping[str, Rule],
        features: frozenset[str], work: Work, values: dict[str, Array], *, keeps: bool,
    ) -> None:  # fmt: skip
        self.graph, self.layers, self.rules = graph, layers, rules
        self.features, self.work, self.keeps = features, work, keeps
        self.values = values
        self.paths: dict[str, Path] = {}
        self.currents: dict[str, Array] = {}
        self.membranes: dict[str, Array | Remade] = {}
        self.shown = dict.fromkeys(graph.recorded if keeps else graph.outputs)
        self.spikes: dict[str, Array] = {}  # copies, where the recording is kept small
        fired = sum(prod(graph.types[name].shape) for name in graph.firing)
        self.small = keeps and _BYTES * fired * len(values[graph.inputs[0]]) > LARGE
        self.left = Counter(i for node in graph.nodes for i in node.inputs)
        self.fused: dict[str, Answer] = {}

    def compute(self, node: Node) -> None:
        """Find the value of a node whose operands are there; drop those that nobody reads again."""
        match node.op:
            case ops.Input():
                return
            case ops.Linear() | ops.Conv2d():
                self._layer(node.name, self.values[node.inputs[0]])
            case ops.Neuron() | ops.GeneralNeuron():
                self._neuron(node, node.op)
            case ops.Membrane(neuron=neuron) as op:
                x = self.values[node.inputs[0]]
                self.values[node.name] = stepwise.membranes(op, neuron, x, self.graph.T)
                self.paths[node.name] = Path.DEFINITION
            case ops.Readout():
                x = self._by_step(self.values[node.inputs[0]])
                dtype = choice.dtype_of(self.graph.types[node.name].range)
                total = np.cumsum(x, axis=0, dtype=dtype)
                self.values[node.name] = total.reshape(-1, *x.shape[2:])
                self.paths[node.name] = Path.NUMPY
            case ops.SpikeMatmul():
                a, b = node.inputs
                types = self.graph.types[a], self.graph.types[b], self.graph.types[node.name]
                path = matrices.choose(types[0], types[1], self.features)
                self.values[node.name] = matrices.multiply(
                    path, self.values[a], self.values[b], types, self.work
                )
                self.paths[node.name] = path
            case op:
                args = tuple(self.values[i] for i in node.inputs)
                self.values[node.name], self.paths[node.name] = plain.compute(
                    op, args, self.graph.types[node.name]
                )
        self._drop(node)

    def recording(self) -> Recording:
        """What was to be kept, as recordings hold it."""
        return Recording(
            Widened({name: self._by_step(self._shown(name)) for name in self.shown}),
            Widened(
                {
                    name: x if isinstance(x, Remade) else self._by_step(x)
                    for name, x in self.membranes.items()
                }
            ),
            Widened({name: self._by_step(x) for name, x in self.currents.items()}),
        )

    def _shown(self, name: str) -> Array:
        return self.spikes[name] if name in self.spikes else self.values[name]

    def _layer(self, name: str, x: Array) -> None:
        layer = self.layers[name]
        answer = layer.run(x, self.graph.T, self.work, keeps=self.keeps)
        self.paths[name] = layer.choose(x)
        if answer.currents is not None:
            self.values[name] = answer.currents
        if answer.spikes is not None:
            self.fused[name] = answer

    def _neuron(self, node: Node, op: ops.Integrating) -> None:
        (source,) = node.inputs
        answer = self.fused.pop(source, None)
        path = Path.NEURONS
        if answer is None:
            x, rule = self.values[source], self.rules.get(node.name)
            if rule is None:
                path, answer = Path.DEFINITION, stepwise.neurons(op, x, self.graph.T)
            else:
                answer = rule.fire(x, self.graph.T, self.work, keeps=self.keeps)
        self.paths[node.name] = path
        if answer.spikes is not None:
            self.values[node.name] = answer.spikes
        if self.keeps and answer.membranes is not None:
            self.membranes[node.name] = answer.membranes

    def _drop(self, node: Node) -> None:
        fires = self.keeps and isinstance(node.op, ops.Firing)
        if fires:
            self.currents[node.name] = self.values[node.inputs[0]]
        if fires and self.small:
            self._keep_small(node.name)
        for name in node.inputs:
            self.left[name] -= 1
            if not self.left[name] and (name not in self.shown or name in self.spikes):
                self.values.pop(name, None)

    def _keep_small(self, name: str) -> None:
        """Copy what is recorded of neurons out of the memory that is kept between batches."""
        self.spikes[name] = self.values[name].copy(order="K")
        currents = self.currents[name] = narrowed(self.currents[name])
        membranes, rule = self.membranes.get(name), self.rules.get(name)
        if isinstance(membranes, np.ndarray):
            again = rule and remade(
                rule, self._by_step(currents), self._by_step(membranes), self.work
            )
            self.membranes[name] = again or membranes.copy(order="K")
        self.work.memory.forget()

    def _by_step(self, x: Array) -> Array:
        return x.reshape(self.graph.T, -1, *x.shape[1:])
