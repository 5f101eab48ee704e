"""From a graph to stages: what becomes a function, what is only another way to count.

Wiring moves nothing where strides can say it. A linear map, a convolution or a product, and the
neuron that alone reads it, are one function: the currents of a layer never lie in memory.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from typing_extensions import assert_never

from lapilli.export.c import elements, products, synapses
from lapilli.export.c.answers import Answering, answer
from lapilli.export.c.constants import Constant
from lapilli.export.c.fusing import read_alone
from lapilli.export.c.integers import Integer, holding
from lapilli.export.c.rows import Row
from lapilli.export.c.stage import Memory, Operand, Stage
from lapilli.export.c.views import View, wired
from lapilli.export.c.words import identifiers
from lapilli.ir import ops
from lapilli.ir.errors import Unsupported, UnsupportedError
from lapilli.ir.graph import Graph, Node

Rows: TypeAlias = ops.Weighted | ops.SpikeMatmul | ops.ShiftSum
Elementwise: TypeAlias = (
    ops.Add | ops.Gate | ops.Sum | ops.MaxPool2d | ops.Concat | Answering | ops.Readout
)
_MOST = (1 << 31) - 1  # elements that an index of 32 bits counts


@dataclass(frozen=True, slots=True)
class Plan:
    """All functions of a network, in the order in which they are called.

    Attributes:
        graph: without what nobody reads.
        names: an identifier for each node.
        stages: functions; those at the end of `outputs` copy to the caller.
        outputs: position of each output's copy in `stages`, in the order of `graph.outputs`.
        views: where the value of each node lies that is not fused away.
        types: of the elements of each buffer.
    """

    graph: Graph
    names: Mapping[str, str]
    stages: tuple[Stage, ...]
    outputs: tuple[int, ...]
    views: Mapping[str, View]
    types: Mapping[str, Integer]

    @property
    def watched(self) -> tuple[str, ...]:
        """Nodes whose values can be watched: all that fires, and membranes that are read."""
        return tuple(dict.fromkeys((*self.graph.firing, *self.graph.membranes)))


def plan(graph: Graph) -> Plan:
    """Plan the functions of a graph.

    Raises:
        UnsupportedError: a value, or weights, that 32 bits do not count, or nothing to answer.
    """
    _check(graph)
    alive = graph.without_dead(graph.recorded)
    readers: dict[str, list[Node]] = {}
    for node in alive.nodes:
        for name in dict.fromkeys(node.inputs):
            readers.setdefault(name, []).append(node)
    planner = _Planner(alive, identifiers(n.name for n in alive.nodes), readers)
    for node in alive.nodes:
        if node.name not in planner.views:
            planner.take(node)
    outputs = planner.copy_outputs()
    return Plan(alive, planner.names, tuple(planner.stages), outputs, planner.views, planner.types)


def _check(graph: Graph) -> None:
    reasons = [
        Unsupported(n.name, f"its {size} numbers are more than an index of 32 bits counts")
        for n in graph.nodes
        if (size := graph.T * math.prod(graph.types[n.name].shape)) > _MOST
        or (isinstance(n.op, ops.Linear | ops.Conv2d) and (size := n.op.weight.size) > _MOST)
    ]
    if not graph.outputs:
        reasons.append(Unsupported("outputs", "there is none"))
    if reasons:
        raise UnsupportedError("c", tuple(reasons))


@dataclass(slots=True)
class _Planner:
    graph: Graph
    names: Mapping[str, str]
    readers: Mapping[str, list[Node]]
    stages: list[Stage] = field(default_factory=list)
    views: dict[str, View] = field(default_factory=dict)
    types: dict[str, Integer] = field(default_factory=dict)

    def take(self, node: Node) -> None:
        """Plan one node whose operands are planned."""
        match node.op:
            case ops.Input():
                self._keep(node, View.whole(node.name, self._shape(node.name)))
            case ops.Reshape() | ops.Permute() | ops.Expand() | ops.Slice() | ops.Delay():
                self._wire(node, node.op)
            case ops.Linear() | ops.Conv2d() | ops.SpikeMatmul() | ops.ShiftSum():
                self._row(node, node.op)
            case (
                ops.Add() | ops.Gate() | ops.Sum() | ops.MaxPool2d() | ops.Concat() | ops.Neuron()
                | ops.GeneralNeuron() | ops.Membrane() | ops.Staircase() | ops.Relu()
                | ops.Readout()
            ):  # fmt: skip
                self._elements(node, node.op)
            case _:
                assert_never(node.op)

    def copy_outputs(self) -> tuple[int, ...]:
        """Add what hands the outputs over to the caller, each as soon as it is there."""
        copies: list[Stage] = []
        for position, name in enumerate(self.graph.outputs):
            buffer, value = self.views[name].buffer, View.whole(name, self._shape(name))
            made = self._made((name,), value, self.types[buffer])
            elements.combine(made, None, self.graph.types[name].range)
            body = tuple(made.code.lines)
            copies.append(
                Stage(f"output_{position}", (self.graph[name],), made.operands, value, made.type,
                      body=body)
            )  # fmt: skip
            behind = [i + 1 for i, s in enumerate(self.stages) if s.node.name == buffer]
            self.stages.insert(behind[0] if behind else 0, copies[-1])
        return tuple(next(i for i, s in enumerate(self.stages) if s is c) for c in copies)

    def _shape(self, name: str) -> tuple[int, ...]:
        return self.graph.types[name].shape

    def _keep(self, node: Node, value: View) -> Integer:
        """Remember where a node's value lies in a buffer of its own."""
        kind = holding(self.graph.types[node.name].range)
        self.views[node.name], self.types[node.name] = value, kind
        return kind

    def _operands(self, names: tuple[str, ...]) -> tuple[Operand, ...]:
        made = []
        for letter, name in zip("ab", names, strict=False):
            view = self.views[name]
            given = isinstance(self.graph[view.buffer].op, ops.Input)
            step = f"{letter}_step" if given else str(math.prod(self._shape(view.buffer)))
            made.append(Operand(letter, view, self.types[view.buffer], step))
        return tuple(made)

    def _made(self, inputs: tuple[str, ...], value: View, kind: Integer) -> elements.Elements:
        given = tuple(self.graph.types[i] for i in inputs)
        return elements.Elements(value, kind, self._operands(inputs), given, math.prod(value.shape))

    def _wire(self, node: Node, op: ops.Wiring | ops.Delay) -> None:
        (source,) = node.inputs
        if (view := wired(op, self.views[source])) is not None:
            self.views[node.name] = view
            return
        kind = self._keep(node, View.whole(node.name, self._shape(node.name)))
        # In row-major order, other shapes of it lie where they should.
        made = self._made(node.inputs, View.whole(node.name, self._shape(source)), kind)
        elements.combine(made, None, self.graph.types[node.name].range)
        self._add(node, made)

    def _add(
        self,
        node: Node,
        made: elements.Elements,
        states: tuple[Memory, ...] = (),
        constants: tuple[Constant, ...] = (),
        *,
        timed: bool = False,
    ) -> None:
        name, value, body = self.names[node.name], self.views[node.name], tuple(made.code.lines)
        self.stages.append(
            Stage(
                name, (node,), made.operands, value, made.type, states, (), constants, body,
                timed=timed,
            )
        )  # fmt: skip

    def _elements(self, node: Node, op: Elementwise) -> None:
        shape, values = self._shape(node.name), self.graph.types[node.name].range
        order = None if isinstance(op, ops.Sum) else self.views[node.inputs[0]].order
        value = View.whole(node.name, shape, order)
        made = self._made(node.inputs, value, self._keep(node, value))
        match op:
            case ops.Add() | ops.Gate():
                elements.combine(made, op, values)
                self._add(node, made)
            case ops.Sum():
                elements.add_up(made, op, values)
                self._add(node, made)
            case ops.MaxPool2d():
                elements.max_pool(made, op)
                self._add(node, made)
            case ops.Concat(axis=axis):
                elements.join(made, axis)
                self._add(node, made)
            case ops.Neuron() | ops.GeneralNeuron() | ops.Membrane() | ops.Staircase() | ops.Relu():
                found = answer(self.graph, node, self.names[node.name])
                states = elements.answer_each(made, found)
                constants = tuple(found.constants.values())
                self._add(node, made, states, constants, timed=found.timed)
            case ops.Readout():
                self._add(node, made, elements.readout(made))
            case _:
                assert_never(op)

    def _row(self, node: Node, op: Rows) -> None:
        alone = read_alone(self.graph, self.readers, node)
        order, axis, last = alone.order, alone.axis, alone.last
        own, name = self.graph.types[node.name], (last or node).name
        operands = self._operands(node.inputs)
        found = answer(self.graph, last, self.names[name]) if last else None
        kind = holding(self.graph.types[name].range)
        row = Row(
            self.names[node.name], node.name, own.shape, axis, order, operands,
            tuple(self.graph.types[i] for i in node.inputs), own.range, kind, found,
            frames=len(operands) == 1 and operands[0].step == "a_step",
        )  # fmt: skip
        _write_row(row, op)
        value = alone.view(View.whole(name, own.shape, (*order, axis)))
        for fused in (node, *alone.chain, *([last] if last else [])):
            self.views[fused.name] = value  # nobody looks for those that are fused away
        self.types[name] = kind
        states = found.states.items() if found else ()
        answered = found.constants.values() if found else ()
        self.stages.append(
            Stage(
                self.names[name],
                (node, *alone.chain, *([last] if last else [])),
                operands,
                value,
                kind,
                tuple(Memory(f"{n}_state", t, math.prod(own.shape), row.width) for n, t in states),
                tuple(row.scratch),
                (*row.constants, *answered),
                tuple(row.code.lines),
                timed=found is not None and found.timed,
            )
        )


def _write_row(row: Row, op: Rows) -> None:
    match op:
        case ops.Linear():
            synapses.linear(row, op)
        case ops.Conv2d():
            synapses.conv2d(row, op)
        case ops.SpikeMatmul():
            products.spike_matmul(row)
        case ops.ShiftSum():
            products.shift_sum(row, op)
        case _:
            assert_never(op)
