"""One pass over a graph that says each node in NIR, or why NIR cannot.

An operation that needs no node of its own gets none: wiring moves book-keeping, and a sum
is two edges into whatever uses it.
"""

from __future__ import annotations

import keyword
import math
import re
from typing import Any

import nir
import numpy as np
from typing_extensions import assert_never

from lapilli.export import nir_nodes
from lapilli.export.nir_layout import Placed, RefusedError, describe, pooled, spreads, tokens
from lapilli.ir.errors import Unsupported, UnsupportedError
from lapilli.ir.graph import Graph, Node
from lapilli.ir.ops import (
    DECAY_ONE,
    Add,
    Concat,
    Conv2d,
    Delay,
    Expand,
    Gate,
    Input,
    Linear,
    MaxPool2d,
    Neuron,
    Permute,
    Readout,
    Relu,
    Reshape,
    Slice,
    SpikeMatmul,
    Staircase,
    Sum,
)
from lapilli.ir.tensor import IntArray, IntTensor


class Walk:
    """Emits NIR nodes for one graph, node by node, and collects what it must refuse.

    Attributes:
        nodes, edges: of the NIR graph.
        names: NIR name -> the name it stands for; helpers are called `<node>.<role>`.
        layouts: name of each value that a NIR neuron shows -> where its elements are.
        output: the same of the graph's output, and whether the host accumulates it.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []
        self.names: dict[str, str] = {}
        self.layouts: dict[str, Any] = {}
        self.output: dict[str, Any] = {}
        self._placed: dict[str, Placed | None] = {}  # None: unknown, after a refusal
        self._reasons: list[Unsupported] = []
        self._used = _ancestors(graph)

    def visit(self, node: Node) -> None:
        """Emit a node, or note why not; a refusal hides no later one."""
        faults = self._faults(node)
        inputs = [p for i in node.inputs if (p := self._placed[i]) is not None]
        self._placed[node.name] = None
        if not faults and len(inputs) == len(node.inputs):
            try:
                placed = self._emit(node, inputs)
                _check_exact(placed)
                self._placed[node.name] = placed
            except RefusedError as refused:
                faults = [str(refused)]
        self._reasons += [Unsupported(node.name, fault) for fault in faults]

    def finish(self) -> None:
        """Connect the output.

        Raises:
            UnsupportedError: something was refused.
        """
        reasons = self._reasons
        reasons += [Unsupported(name, "a second input") for name in self.graph.inputs[1:]]
        reasons += [Unsupported(name, "a second output") for name in self.graph.outputs[1:]]
        name = next(iter(self.graph.outputs), "outputs")
        value = self._placed.get(name)
        if value is None and not reasons:
            reasons.append(Unsupported(name, "there is none"))
        if value is None or reasons:
            raise UnsupportedError("nir", tuple(reasons))
        if len(value.terms) > 1:  # importers do not add up what arrives at an output
            value = self._put(f"{name}.same", nir_nodes.same(value.shape), value, value.shape)
        self.output = {
            "name": name,
            "layout": describe(value),
            "accumulate": isinstance(self.graph[name].op, Readout),
        }
        self._put("output", nir.Output(np.array(value.shape)), value, value.shape)

    def _faults(self, node: Node) -> list[str]:
        """What is wrong with a node, wherever its inputs live."""
        op = node.op
        faults = []
        if node.name not in self._used:
            faults.append("reaches no output; NIR would make it one")
        if isinstance(op, SpikeMatmul):
            faults.append("multiplies two values that change; NIR only has constant weights")
        if isinstance(op, Gate):
            faults.append("gates with or of a value that is not binary; NIR cannot select")
        if isinstance(op, MaxPool2d) and not self.graph.types[node.inputs[0]].is_binary:
            faults.append("a maximum of values that are not binary; NIR cannot compare them")
        if isinstance(op, Staircase | Relu):
            faults.append(f"is a {type(op).__name__}; NIR's neurons fire 0 or 1")
        if isinstance(op, Concat):
            faults.append("joins two values; NIR has no node that does")
        if isinstance(op, Neuron):
            faults += nir_nodes.neuron_faults(op, self.graph.T)
        if any(isinstance(self.graph[i].op, Readout) for i in node.inputs):
            faults.append("uses a read-out, which only the host accumulates")
        return faults

    def _emit(self, node: Node, inputs: list[Placed]) -> Placed:
        op, name = node.op, node.name
        match op:
            case Input(type=t):
                key = self._name(name)
                self.nodes[key] = nir.Input(np.array(t.shape))
                return Placed.whole(key, t.shape, t.range.magnitude)
            case Reshape() | Permute() | Expand() | Slice() | Delay():
                return inputs[0].wired(op)
            case Readout():
                return inputs[0]
            case Linear():
                return self._linear(name, op, inputs[0])
            case Conv2d():
                return self._convolve(name, op, inputs[0])
            case Add():
                return self._add(name, inputs[0], inputs[1])
            case Sum(axes=axes, keepdims=keepdims):
                return self._sum(name, inputs[0], pooled(inputs[0], axes, keepdims))
            case MaxPool2d():
                return self._any(name, op, inputs[0])
            case Neuron():
                return self._fire(name, op, inputs[0])
            case SpikeMatmul() | Gate() | Staircase() | Relu() | Concat():
                raise TypeError(f"{type(op).__name__} is a fault, and faults are not emitted")
            case _:
                assert_never(op)

    def _linear(self, name: str, op: Linear, x: Placed) -> Placed:
        # Weights can be dealt out to wherever their inputs live, so that order never matters.
        w, bias = op.weight.array, op.bias.array
        reach = _reach(op, x)
        if x.home.ndim == 1:
            row, length = x, math.prod(x.shape)
            if len(x.shape) > 1:
                row = self._put(f"{name}.flatten", nir_nodes.flatten(x.shape), x, (length,))
            dealt = _deal(w, x.home, length)
            return self._put(name, nir_nodes.affine(dealt, bias), row, bias.shape, reach)
        channel, pixel = tokens(x)
        size = x.shape[1:]
        layer = nir_nodes.pointwise(_deal(w, channel, x.shape[0]), bias, size)
        y = self._put(name, layer, x, (len(bias), *size), reach)
        home = pixel[..., None] + np.arange(len(bias)) * math.prod(size)
        return Placed(y.terms, y.shape, home, reach)

    def _convolve(self, name: str, op: Conv2d, x: Placed) -> Placed:
        _need_plain(x)
        layer = nir_nodes.convolution(op, x.shape[1:])
        return self._put(name, layer, x, self.graph.types[name].shape, _reach(op, x))

    def _add(self, name: str, a: Placed, b: Placed) -> Placed:
        # No node: both arrive at every consumer, and NIR adds up what arrives.
        if spreads(a, b):
            a = self._spread(f"{name}.spread", a, b)
        elif spreads(b, a):
            b = self._spread(f"{name}.spread", b, a)
        if a.shape != b.shape or not np.array_equal(a.home, b.home):
            raise RefusedError("its operands do not lie in the same order, and NIR cannot permute")
        if set(a.terms) & set(b.terms):  # NIR allows one edge between two nodes
            b = self._put(f"{name}.same", nir_nodes.same(b.shape), b, b.shape)
        return Placed((*a.terms, *b.terms), a.shape, a.home, a.reach + b.reach)

    def _spread(self, name: str, x: Placed, over: Placed) -> Placed:
        y = self._put(name, nir_nodes.spread(over.shape), x, over.shape)
        return Placed(y.terms, y.shape, over.home, y.reach)

    def _sum(self, name: str, x: Placed, home: IntArray) -> Placed:
        C, *size = x.shape
        reach = x.reach * math.prod(size)
        pool = nir_nodes.count(tuple(size), tuple(size), (0, 0))
        y = self._put(name, pool, x, (C, 1, 1), reach)
        return Placed(y.terms, y.shape, home, reach)

    def _any(self, name: str, op: MaxPool2d, x: Placed) -> Placed:
        _need_plain(x)
        shape = self.graph.types[name].shape
        pool = nir_nodes.count(op.kernel, op.stride, op.padding)
        reach = x.reach * math.prod(op.kernel)
        return self._fire(name, _OR, self._put(f"{name}.count", pool, x, shape, reach))

    def _fire(self, name: str, op: Neuron, x: Placed) -> Placed:
        # Wiring may have left out or repeated elements: the tensor's neurons fire all the same.
        wanted = np.broadcast_to(op.threshold.array, (1, *x.home.shape))[0]
        threshold = np.full(math.prod(x.shape), wanted.max())
        threshold[x.home] = wanted
        if not np.array_equal(threshold[x.home], wanted):
            raise RefusedError("one value, repeated, meets different thresholds")
        # Euler's r x - v: twice the current at most, and the membrane, which cannot be larger
        # than the currents of all steps.
        _check_exact(x, (self.graph.T + 2) << max(0, op.fraction_bits))
        node = nir_nodes.neuron(op, threshold.reshape(x.shape), self.graph.T)
        y = self._put(name, node, x, x.shape, 1)
        fired = Placed(y.terms, y.shape, x.home, 1)
        (key,) = y.terms
        bits = op.fraction_bits
        self.layouts[name] = {"node": key, "layout": describe(fired), "fraction_bits": bits}
        return fired

    def _put(
        self, name: str, node: Any, x: Placed, shape: tuple[int, ...], reach: int | None = None
    ) -> Placed:
        key = self._name(name)
        self.nodes[key] = node
        self.edges += [(term, key) for term in x.terms]
        return Placed.whole(key, shape, x.reach if reach is None else reach)

    def _name(self, ours: str) -> str:
        """A name that is an identifier: dots become underscores, twins get a number."""
        base = re.sub(r"[^0-9A-Za-z_]", "_", ours)
        if not base.isidentifier() or keyword.iskeyword(base):
            base = f"n_{base}"
        key, number = base, 1
        while key in self.names:
            number += 1
            key = f"{base}_{number}"
        self.names[key] = ours
        return key


_OR = Neuron(threshold=IntTensor.of([1]), dv=DECAY_ONE, fraction_bits=0)


def _deal(weight: IntArray, home: IntArray, size: int) -> IntArray:
    """Columns to where their inputs live; two that live in one place add up."""
    dealt = np.zeros((len(weight), size), np.int64)
    np.add.at(dealt.T, home, weight.T)
    return dealt


def _reach(op: Linear | Conv2d, x: Placed) -> int:
    """No partial sum of the synapses of one output is larger."""
    fan_in = math.prod(op.weight.shape[1:])  # Python's integers: int64 could wrap unnoticed
    return op.weight.range.magnitude * fan_in * x.reach + op.bias.range.magnitude


def _check_exact(x: Placed, times: int = 1) -> None:
    if x.reach * times >= nir_nodes.EXACT:
        bits = (x.reach * times).bit_length()
        raise RefusedError(f"its sums can need {bits} bits; float64 is exact up to 53")


def _need_plain(x: Placed) -> None:
    if len(x.shape) != 3 or not x.is_plain:
        raise RefusedError("its input does not lie as a map (C, H, W), and NIR cannot permute")


def _ancestors(graph: Graph) -> set[str]:
    """Names of the nodes from which an output can be reached."""
    used = set(graph.outputs)
    for node in reversed(graph.nodes):
        if node.name in used:
            used.update(node.inputs)
    return used
