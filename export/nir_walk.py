"""One pass over a graph that says each node in NIR, or why NIR cannot.

An operation that needs no node of its own gets none: wiring moves book-keeping, and a sum
is two edges into whatever uses it.
"""

from __future__ import annotations

import keyword
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import nir
import numpy as np
from typing_extensions import assert_never

from lapilli.export import nir_nodes
from lapilli.export.nir_dialect import Dialect, Said, finest_bits, holds
from lapilli.export.nir_layout import Placed, RefusedError, describe, pooled, spreads, tokens
from lapilli.export.nir_moves import Stage, Weights, moved, onto_elements
from lapilli.ir.errors import Unsupported, UnsupportedError
from lapilli.ir.graph import Graph, Node
from lapilli.ir.ops import (
    Add,
    Concat,
    Conv2d,
    Delay,
    Expand,
    Gate,
    Input,
    Linear,
    MaxPool2d,
    Membrane,
    Neuron,
    Permute,
    Readout,
    Relu,
    Reshape,
    ShiftSum,
    Slice,
    SpikeMatmul,
    Staircase,
    Sum,
)
from lapilli.ir.tensor import IntArray, IntTensor


class Walk:
    """Emits NIR nodes for one graph, node by node, and collects what it must refuse.

    Args:
        graph: what to say.
        say: how to say it.
        refused: what is known to be wrong already.
    """

    def __init__(self, graph: Graph, say: Dialect, refused: Sequence[Unsupported] = ()) -> None:
        self.graph = graph
        self.say = say
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []
        self.names: dict[str, str] = {}
        self.layouts: dict[str, Any] = {}
        self._placed: dict[str, Placed | None] = {}  # None: unknown, after a refusal
        self._reasons = list(refused)

    def visit(self, node: Node) -> None:
        """Emit a node, or note why not; a refusal hides no later one."""
        faults = self._faults(node)
        inputs = [p for i in node.inputs if (p := self._placed[i]) is not None]
        self._placed[node.name] = None
        if not faults and len(inputs) == len(node.inputs):
            try:
                placed = self._emit(node, inputs)
                self._check_exact(placed.reach)
                self._placed[node.name] = placed
            except RefusedError as refused:
                faults = [str(refused)]
        self._reasons += [Unsupported(node.name, fault) for fault in faults]

    def finish(self) -> Said:
        """Connect the output; the whole.

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
            value = self._same(f"{name}.same", value)
        output = {
            "name": name,
            "layout": describe(value),
            "accumulate": isinstance(self.graph[name].op, Readout),
        }
        self._put("output", nir.Output(np.array(value.shape)), value, value.shape)
        return Said(self.nodes, tuple(self.edges), self.names, self.layouts, output)

    def _faults(self, node: Node) -> list[str]:
        """What is wrong with a node, wherever its inputs live."""
        op = node.op
        faults = self.say.neuron_faults(op, self.graph.T) if isinstance(op, Neuron) else []
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
            case Sum():
                return self._sum(name, op, inputs[0])
            case Concat():
                return self._join(name, op, inputs)
            case Neuron():
                return self._fire(name, op, inputs[0])
            case (
                SpikeMatmul()
                | ShiftSum()
                | Gate()
                | MaxPool2d()
                | Membrane()
                | Staircase()
                | Relu()
            ):
                raise TypeError(f"{type(op).__name__} is lowered before NIR sees it")
            case _:
                assert_never(op)

    def _linear(self, name: str, op: Linear, x: Placed) -> Placed:
        # Weights can be dealt out to wherever their inputs live, so that order never matters.
        w, bias = op.weight.array, op.bias.array
        reach = _reach(op, x)
        if w.shape == (1, 1):  # elementwise: stays where it lives
            if bias.any() and len(x.shape) not in (1, 3):
                size = (math.prod(x.shape),)
                home, flat = x.home, nir_nodes.flatten(x.shape)
                x = replace(self._put(f"{name}.flatten", flat, x, size), home=home)
            layer = nir_nodes.scaled(x.shape, int(w[0, 0]), int(bias[0]))
            return replace(self._put(name, layer, x, x.shape, reach), home=x.home)
        if x.home.ndim == 1 and w.any() and (self.say.FLATTENS or len(x.shape) == 1):
            row, length = x, math.prod(x.shape)
            if len(x.shape) > 1:
                row = self._put(f"{name}.flatten", nir_nodes.flatten(x.shape), x, (length,))
            dealt = _deal(w, x.home, length)
            return self._put(name, nir_nodes.affine(dealt, bias), row, bias.shape, reach)
        try:
            channel, pixel = tokens(x)
        except RefusedError:
            return self._linear_of_elements(name, op, x, reach)
        layer = nir_nodes.pointwise(_deal(w, channel, x.shape[0]), bias, x.shape[1:])
        y = self._put(name, layer, x, (len(bias), *x.shape[1:]), reach)
        home = pixel[..., None] + np.arange(len(bias)) * math.prod(x.shape[1:])
        return Placed(y.terms, y.shape, home, reach)

    def _linear_of_elements(self, name: str, op: Linear, x: Placed, reach: int) -> Placed:
        """One weight for each pair of elements, token by token."""
        w, out = op.weight.array, len(op.bias.array)
        sources = x.home.reshape(-1, 1, w.shape[1])
        rows = np.arange(len(sources) * out).reshape(-1, out, 1)
        spread = (a.ravel() for a in np.broadcast_arrays(rows, sources, w[None]))
        bias = np.tile(op.bias.array, len(sources))
        stages = onto_elements(Weights(*spread), bias, x.shape)
        return self._elements(name, stages, x, (*x.home.shape[:-1], out), reach)

    def _convolve(self, name: str, op: Conv2d, x: Placed) -> Placed:
        if not x.is_plain and op.weight.shape[1:] == (x.home.shape[0], 1, 1) and _is_still(op):
            # Token by token: where they lie does not matter.
            w = IntTensor.of(op.weight.array[:, :, 0, 0])
            features = replace(x, home=np.moveaxis(x.home, 0, -1))
            y = self._linear(name, Linear(weight=w, bias=op.bias), features)
            return replace(y, home=np.moveaxis(y.home, -1, 0))
        x = self._as_map(name, x)
        shape = self.graph.types[name].shape
        if _counts(op):  # each channel's windows, added up
            pool = nir_nodes.count(op.weight.shape[2:], op.stride, op.padding)
            sizes = zip(x.shape[1:], op.weight.shape[2:], op.stride, op.padding, strict=True)
            made = (shape[0], *((n + 2 * p - k) // s + 1 for n, k, s, p in sizes))
            y = self._put(name, pool, x, made, _reach(op, x))
        else:
            layer = nir_nodes.convolution(op, x.shape[1:])
            made = tuple(int(n) for n in layer.output_type["output"])
            y = self._put(name, layer, x, made, _reach(op, x))
        kept = np.arange(math.prod(made)).reshape(made)[:, : shape[1], : shape[2]]
        return replace(y, home=kept)

    def _as_map(self, name: str, x: Placed) -> Placed:
        """The value as a tensor of its own shape (C, H, W), or with zeros at ends of the map."""
        if len(x.shape) == 3 and x.is_plain:
            return x
        shape = x.home.shape
        return self._move(f"{name}.map", x, shape, np.arange(x.home.size).reshape(shape))

    def _add(self, name: str, a: Placed, b: Placed) -> Placed:
        # No node: both arrive at every consumer, and NIR adds up what arrives.
        if spreads(a, b):
            a = self._spread(f"{name}.spread", a, b)
        elif spreads(b, a):
            b = self._spread(f"{name}.spread", b, a)
        if a.shape != b.shape or not np.array_equal(a.home, b.home):
            a, b = self._meet(name, a, b)
        if set(a.terms) & set(b.terms):  # NIR allows one edge between two nodes
            b = self._same(f"{name}.twin", b)
        total = Placed((*a.terms, *b.terms), a.shape, a.home, a.reach + b.reach)
        return total if len(total.terms) <= _MOST_TERMS else self._same(f"{name}.same", total)

    def _same(self, name: str, x: Placed) -> Placed:
        """The value in one node of its own."""
        return replace(self._put(name, nir_nodes.same(x.shape), x, x.shape), home=x.home)

    def _meet(self, name: str, a: Placed, b: Placed) -> tuple[Placed, Placed]:
        """Two values in one layout: that of one of them, if it repeats nothing, or a new one."""
        count, maps = a.home.size, len(a.shape) == len(b.shape) == 3
        row = ((count, 1, 1) if maps else (count,), np.arange(count).reshape(a.home.shape))
        layouts = [(p.shape, p.home) for p in (a, b) if len(np.unique(p.home)) == count]
        if not maps:
            layouts = [(shape, home) for shape, home in layouts if len(shape) == 1]
        reason = RefusedError("its operands do not lie alike, and no square kernel moves them so")
        for shape, home in (*layouts, row):
            try:
                stages = [[] if p.home is home else moved(p, shape, home) for p in (a, b)]
            except RefusedError as refused:
                reason = refused
                continue
            if all(not s or s[-1][1] == shape for s in stages):
                left, right = (
                    self._stages(f"{name}.{side}", s, p, home)
                    for side, s, p in zip("ab", stages, (a, b), strict=True)
                )
                return left, right
        raise reason

    def _join(self, name: str, op: Concat, inputs: list[Placed]) -> Placed:
        """Each part to its place among zeros, and the sum of both."""
        shape = self.graph.types[name].shape
        count = math.prod(shape)
        home = np.arange(count).reshape(shape)
        cut = inputs[0].home.shape[op.axis]
        tensor = (count, 1, 1) if all(len(p.shape) == 3 for p in inputs) else (count,)
        a, b = (
            self._move(f"{name}.{side}", p, tensor, part)
            for side, p, part in zip("ab", inputs, np.split(home, [cut], op.axis), strict=True)
        )
        return Placed((*a.terms, *b.terms), tensor, home, max(a.reach, b.reach))

    def _spread(self, name: str, x: Placed, over: Placed) -> Placed:
        y = self._put(name, nir_nodes.spread(over.shape), x, over.shape)
        return Placed(y.terms, y.shape, over.home, y.reach)

    def _sum(self, name: str, op: Sum, x: Placed) -> Placed:
        shape = self.graph.types[name].shape
        count = x.home.size // math.prod(shape)
        reach = x.reach * count
        try:
            home = pooled(x, op.axes, op.keepdims)
        except RefusedError:
            sources = np.moveaxis(x.home, op.axes, range(-len(op.axes), 0)).reshape(-1, count)
            rows = np.broadcast_to(np.arange(len(sources))[:, None], sources.shape)
            weights = Weights.of_moves(rows, sources)
            stages = onto_elements(weights, np.zeros(len(sources), np.int64), x.shape)
            return self._elements(name, stages, x, shape, reach)
        C, *size = x.shape
        pool = nir_nodes.count(tuple(size), tuple(size), (0, 0))
        y = self._put(name, pool, x, (C, 1, 1), reach)
        return Placed(y.terms, y.shape, home, reach)

    def _move(self, name: str, x: Placed, shape: tuple[int, ...], home: IntArray) -> Placed:
        stages = moved(x, shape, home)
        made = stages[-1][1]
        if made != shape:
            rows = np.arange(math.prod(made)).reshape(made)
            home = rows[:, : shape[1], : shape[2]].ravel()[home]
        return self._stages(name, stages, x, home)

    def _stages(self, name: str, stages: list[Stage], x: Placed, home: IntArray) -> Placed:
        """Nodes in a row; the last one has the name."""
        for i, (node, shape) in enumerate(stages, start=1):
            own = name if i == len(stages) else f"{name}.{i}"
            x = self._put(own, node, x, shape)
        return replace(x, home=home)

    def _elements(
        self, name: str, stages: list[Stage], x: Placed, shape: tuple[int, ...], reach: int
    ) -> Placed:
        """The result of `onto_elements`, as a value of this shape."""
        home = np.arange(math.prod(shape)).reshape(shape)
        return replace(self._stages(name, stages, x, home), reach=reach)

    def _fire(self, name: str, op: Neuron, x: Placed) -> Placed:
        # Wiring may have left out or repeated elements: the tensor's neurons fire all the same.
        wanted = np.broadcast_to(op.threshold.array, (1, *x.home.shape))[0]
        threshold = np.full(math.prod(x.shape), wanted.max())
        threshold[x.home] = wanted
        if not np.array_equal(threshold[x.home], wanted):
            raise RefusedError("one value, repeated, meets different thresholds")
        finest = finest_bits(op, self.graph.T)
        # Twice: the steps between two membranes, and Euler's r x - v.
        self._check_exact(2 * x.reach * holds(op, self.graph.T) << finest)
        parts = self.say.neurons(op, threshold.reshape(x.shape), self.graph.T)
        if len(parts) == 1:
            y = self._put(name, parts[0].neuron, x, x.shape, 1)
        else:
            terms: list[str] = []
            for i, part in enumerate(parts):
                masked = self._put(f"{name}.{i}.mask", part.mask, x, x.shape)
                terms += self._put(f"{name}.{i}", part.neuron, masked, x.shape, 1).terms
            y = self._same(name, Placed(tuple(terms), x.shape, x.home, 1))
        fired = Placed(y.terms, y.shape, x.home, 1)
        (key,) = y.terms
        bits = op.fraction_bits
        self.layouts[name] = {"node": key, "layout": describe(fired), "fraction_bits": bits}
        return fired

    def _check_exact(self, reach: int) -> None:
        if reach >= self.say.EXACT:
            bits, held = reach.bit_length(), (self.say.EXACT - 1).bit_length()
            raise RefusedError(
                f"its sums can need {bits} bits; {self.say.FLOAT} is exact up to {held}"
            )

    def _put(
        self, name: str, node: Any, x: Placed, shape: tuple[int, ...], reach: int | None = None
    ) -> Placed:
        key = self._name(name)
        self.nodes[key] = self.say.dressed(node, x.shape)
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


_MOST_TERMS = 4  # importers take time that grows with the square of the edges, or worse


def _deal(weight: IntArray, home: IntArray, size: int) -> IntArray:
    """Columns to where their inputs live; two that live in one place add up."""
    dealt = np.zeros((len(weight), size), np.int64)
    np.add.at(dealt.T, home, weight.T)
    return dealt


def _reach(op: Linear | Conv2d, x: Placed) -> int:
    """No partial sum of the synapses of one output is larger."""
    fan_in = math.prod(op.weight.shape[1:])  # Python's integers: int64 could wrap unnoticed
    weight = op.weight.range.magnitude * fan_in
    if weight < 1 << 62:
        weight = int(np.abs(op.weight.array).reshape(len(op.weight.array), -1).sum(axis=1).max())
    return weight * x.reach + op.bias.range.magnitude


def _is_still(op: Conv2d) -> bool:
    return op.stride == (1, 1) and op.padding == (0, 0)


def _counts(op: Conv2d) -> bool:
    """Whether it is a sum over each window of each channel."""
    depthwise = op.groups == op.weight.shape[0] and op.weight.shape[1] == 1
    return depthwise and bool((op.weight.array == 1).all()) and not op.bias.array.any()


def ancestors(graph: Graph) -> set[str]:
    """Names of the nodes from which an output can be reached."""
    used = set(graph.outputs)
    for node in reversed(graph.nodes):
        if node.name in used:
            used.update(node.inputs)
    return used
