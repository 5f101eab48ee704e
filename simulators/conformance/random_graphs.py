"""Random graphs that are alive: every op of the language, and neurons that fire now and then.

A graph grows block by block, and the values of its nodes with it. A neuron's threshold is
taken from the membranes that it will see, so that it fires, and not always; where that is not
possible the block is left out. Half of the graphs speak the part of the language that most
targets know (`plain`: binary spikes, hard resets, decays of 0, 1/2 and 1, one output).

The same seed gives the same graph on every machine.
"""

from __future__ import annotations

import math
from contextlib import suppress

import numpy as np

from lapilli.ir import ops
from lapilli.ir.graph import Graph
from lapilli.ir.types import IntRange, Kind, TensorType
from lapilli.simulators.conformance import Case
from lapilli.simulators.conformance.growing import Growing, NothingFiresError

_BATCH = 3
_KINDS = (
    (Kind.SPIKES, 0, 1), (Kind.SPIKES, -1, 1), (Kind.COUNTS, 0, 3), (Kind.GRADED, -7, 7),
)  # fmt: skip


def random_case(seed: int) -> Case:
    """A graph of up to some forty nodes and inputs for it, three samples; even seeds are plain.

    Every node that fires does so at some step of some sample, and not at all of them.
    """
    for attempt in range(100):
        growing = _Blocks(np.random.default_rng([seed, attempt]), plain=seed % 2 == 0)
        with suppress(NothingFiresError):
            growing.grow()
            graph = growing.finish()
            inputs = {name: growing.values[name] for name in graph.inputs}
            return Case(f"random-{seed}", "whatever there is", graph, inputs)
    raise AssertionError(f"seed {seed} gives no graph that is alive")


class _Blocks(Growing):
    """The blocks that a graph grows by; each is a few nodes and, where it can, a neuron."""

    def grow(self) -> None:
        self.T = int(self.rng.integers(2, 7))
        self._input()
        if not self.plain and self.rng.random() < 0.3:
            self._input()
        blocks = [self._synapses, self._residual, self._pool, self._mask, self._synapses]
        if not self.plain:
            blocks += [self._attention, self._wiring, self._wiring, self._other, self._other]
            blocks += [self._weighed, self._shown, self._general]
        for _ in range(self.rng.integers(2, 7)):
            blocks[self.rng.integers(len(blocks))]()

    def finish(self) -> Graph:
        """End in a head; a plain graph keeps only what leads to it."""
        last = self._head(self.any())
        graph = self._whole(last)
        if not graph.firing:
            raise NothingFiresError
        return graph

    def _whole(self, last: str) -> Graph:
        if self.plain:
            return Graph(tuple(self.nodes), (last,), self.T).without_dead()
        read = {i for node in self.nodes for i in node.inputs}
        return Graph(tuple(self.nodes), tuple(n for n in self.types if n not in read), self.T)

    def _input(self) -> None:
        kind, low, high = _KINDS[self.rng.choice([0, 3] if self.plain else [0, 1, 2, 3])]
        sizes = [int(n) for n in self.rng.integers(2, 5, 3)]
        shape = (sizes[0], 4, 4) if self.rng.random() < 0.7 else tuple(sizes[:2])
        shape = (*sizes[:1], 4, 4) if self.plain else shape
        given = self.rng.integers(low, high + 1, (self.T, _BATCH, *shape)).astype(np.int64)
        name = f"x{len(self.nodes)}"
        self.keep(name, ops.Input(type=TensorType(shape, IntRange(low, high), kind)), (), given)
        if kind is Kind.GRADED:
            self.fire(self.layer(name))

    def _synapses(self) -> None:
        self.fire(self.layer(self.any()))

    def _residual(self) -> None:
        """Two layers of one value, added before a neuron; now and then with the value itself."""
        x = self.any()
        a = self.layer(x, stay=True)
        b = self.layer(self.fire(a), stay=True) if self.rng.random() < 0.5 else x
        self.fire(self.put(ops.Add(), a, b))

    def _pool(self) -> None:
        x = self.any(rank=3)
        padding = (int(self.rng.integers(2)), int(self.rng.integers(2)))
        stride = (int(self.rng.integers(1, 3)), int(self.rng.integers(1, 3)))
        self.put(ops.MaxPool2d(kernel=(2, 2), stride=stride, padding=padding), x)

    def _mask(self) -> None:
        """Sums over a map, whose neuron gates the map: spike-driven attention."""
        x = self.any(rank=3)
        gate = self.put(ops.Gate(), self.fire(self.layer(x, stay=True)), x)
        mask = self.fire(self.put(ops.Sum(axes=(1, 2), keepdims=True), gate))
        whole = self.put(ops.Expand(shape=self.shape(x)), mask)
        self.put(ops.Gate(), x, whole)

    def _attention(self) -> None:
        """Queries, keys and values of tokens, and two products."""
        x = self._tokens()
        q, k, v = (self.fire(self.layer(x, stay=True)) for _ in range(3))
        scores = self.put(ops.SpikeMatmul(), q, self.put(ops.Permute(axes=(1, 0)), k))
        if self.rng.random() < 0.5:
            scores = self.put(ops.Expand(shape=self.shape(scores)), scores)
        self.fire(self.put(ops.SpikeMatmul(), scores, v))

    def _weighed(self) -> None:
        """Scores that weigh currents by powers of two: bipolar attention."""
        x = self._tokens()
        q, k = (self.fire(self.layer(x, stay=True)) for _ in range(2))
        scores = self.put(ops.SpikeMatmul(), q, self.put(ops.Permute(axes=(1, 0)), k))
        reach = int(self.rng.integers(6))
        op = ops.ShiftSum(window=reach + int(self.rng.integers(4)), reach=reach)
        self.fire(self.put(op, scores, self.layer(x, stay=True)))

    def _tokens(self) -> str:
        """A recent value, a map of which becomes rows of tokens."""
        x = self.any()
        if len(self.shape(x)) == 3:
            C, H, W = self.shape(x)
            x = self.put(ops.Permute(axes=(1, 0)), self.put(ops.Reshape(shape=(C, H * W)), x))
        return x

    def _shown(self) -> None:
        """The membrane of a neuron that is there, before its reset or after it."""
        found = [(n.op, n.inputs) for n in self.nodes if isinstance(n.op, ops.Neuron)]
        if found:
            neuron, inputs = found[self.rng.integers(len(found))]
            self.put(ops.Membrane(neuron=neuron, after_reset=bool(self.rng.integers(2))), *inputs)

    def _wiring(self) -> None:
        x = self.any()
        shape = self.shape(x)
        axis = int(self.rng.integers(len(shape)))
        start = int(self.rng.integers(shape[axis]))
        candidates: list[ops.Immediate | ops.Delay] = [
            ops.Delay(steps=int(self.rng.integers(1, 4))),
            ops.Permute(axes=tuple(int(a) for a in self.rng.permutation(len(shape)))),
            ops.Reshape(shape=(math.prod(shape[:-1]), shape[-1])),
            ops.Slice(axis=axis, start=start, stop=shape[axis]),
            ops.Concat(axis=axis),
            ops.Expand(shape=tuple(3 if n == 1 else n for n in shape)),
        ]
        op = candidates[self.rng.integers(len(candidates))]
        self.put(op, x, self.put(ops.Delay(steps=1), x)) if isinstance(
            op, ops.Concat
        ) else self.put(op, x)

    def _other(self) -> None:
        """What few targets know: staircases, rectified currents, maxima of currents."""
        current = self.layer(self.any())
        which = self.rng.integers(4)
        if which == 0:
            self.staircase(current)
        elif which == 1:
            self.fire(self.put(ops.Relu(), current))
        elif which == 2 and len(self.shape(current)) == 3:
            self.fire(self.put(ops.MaxPool2d(kernel=(2, 2), stride=(1, 1)), current))
        else:
            gates = self.staircase(current)
            self.fire(self.put(ops.Gate(), gates, current))

    def _general(self) -> None:
        """A neuron with constants of each step or channel."""
        self.general(self.layer(self.any()))

    def _head(self, x: str) -> str:
        shape = self.shape(x)
        if len(shape) == 3 and self.rng.random() < 0.5:
            x = self.put(ops.Sum(axes=(1, 2)), x)
        elif len(shape) > 1:
            x = self.put(ops.Reshape(shape=(math.prod(shape),)), x)
        head = self.layer(x, out=3)
        return self.put(ops.Readout(), head) if self.plain or self.rng.random() < 0.7 else head
