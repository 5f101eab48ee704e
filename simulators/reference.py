"""The dense NumPy simulator: `ir.semantics` in a loop over time. The oracle."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from lapilli.ir import ops
from lapilli.ir.errors import RangeError
from lapilli.ir.graph import Graph, Node
from lapilli.ir.recording import Recording
from lapilli.ir.semantics import Fired, State, evaluate, integrate, membrane
from lapilli.ir.tensor import IntArray

Evaluate: TypeAlias = Callable[[ops.Stateless, tuple[IntArray, ...]], IntArray]
Integrate: TypeAlias = Callable[[Any, IntArray, State], Fired]  # of Neuron and GeneralNeuron


@dataclass(frozen=True, slots=True)
class Reference:
    """Computes every value densely and checks it against its proven range.

    `evaluate` and `integrate` can be exchanged for faulty ones: that is how the
    conformance suite is shown to catch faults.
    """

    name: str = "reference"
    evaluate: Evaluate = evaluate
    integrate: Integrate = integrate

    def compile(self, graph: Graph) -> _ReferenceExecutable:
        """Nothing to compile: the graph is the program."""
        return _ReferenceExecutable(graph, self)


@dataclass(frozen=True, slots=True)
class _ReferenceExecutable:
    graph: Graph
    rules: Reference

    def run(self, inputs: Mapping[str, IntArray]) -> Recording:
        batch = next(iter(inputs.values())).shape[1]
        state = {n.name: State.zeros((batch, *self._shape(n))) for n in self.graph.nodes}
        values: dict[str, list[IntArray]] = {n.name: [] for n in self.graph.nodes}
        membranes: dict[str, list[IntArray]] = {name: [] for name in self.graph.neurons}
        for t in range(self.graph.T):
            for node in self.graph.nodes:
                args = tuple(values[i][t] for i in node.inputs)
                match node.op:
                    case ops.Input():
                        value = inputs[node.name][t]
                    case ops.Neuron() | ops.GeneralNeuron():
                        fired = self.rules.integrate(node.op, args[0], state[node.name])
                        value, state[node.name] = fired.spikes, fired.state
                        membranes[node.name].append(fired.membrane)
                    case ops.Membrane(neuron=neuron):
                        fired = self.rules.integrate(neuron, args[0], state[node.name])
                        value, state[node.name] = membrane(node.op, fired), fired.state
                    case ops.Readout():
                        value = state[node.name].v + args[0]
                        state[node.name] = State(value, value)
                    case op:
                        value = self.rules.evaluate(op, args)
                self._check_range(node, value)
                values[node.name].append(value)
        stacked = {name: np.stack(steps) for name, steps in values.items()}
        return Recording(
            stacked,
            membranes={name: np.stack(steps) for name, steps in membranes.items()},
            currents={name: stacked[self.graph[name].inputs[0]] for name in self.graph.firing},
        )

    def _shape(self, node: Node) -> tuple[int, ...]:
        return self.graph.types[node.name].shape

    def _check_range(self, node: Node, value: IntArray) -> None:
        proven = self.graph.types[node.name]
        if value.shape[1:] != proven.shape:
            raise RangeError(node.name, f"value of shape {value.shape[1:]} is no {proven}")
        if int(value.min()) not in proven.range or int(value.max()) not in proven.range:
            raise RangeError(
                node.name, f"value in [{value.min()}, {value.max()}] left the proven {proven}"
            )
        if (each := proven.channels) is None:
            return
        if (value < each.lo).any() or (value > each.hi).any():
            raise RangeError(node.name, f"a channel left its own range within the proven {proven}")
