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
from dataclasses import dataclass, field

import numpy as np

from lapilli.ir import ops
from lapilli.ir.graph import Graph, Node
from lapilli.ir.infer import infer
from lapilli.ir.semantics import State, evaluate, integrate, membrane
from lapilli.ir.tensor import IntArray, IntTensor
from lapilli.ir.types import IntRange, Kind, TensorType
from lapilli.simulators.conformance import Case

_BATCH = 3
_MOST = 1 << 20  # of a value: registers and messages of every target have room
_KINDS = (
    (Kind.SPIKES, 0, 1), (Kind.SPIKES, -1, 1), (Kind.COUNTS, 0, 3), (Kind.GRADED, -7, 7),
)  # fmt: skip


def random_case(seed: int) -> Case:
    """A graph of up to some forty nodes and inputs for it, three samples; even seeds are plain.

    Every node that fires does so at some step of some sample, and not at all of them.
    """
    for attempt in range(100):
        growing = _Growing(np.random.default_rng([seed, attempt]), plain=seed % 2 == 0)
        with suppress(_DeadError):
            growing.grow()
            graph = growing.finish()
            inputs = {name: growing.values[name] for name in graph.inputs}
            return Case(f"random-{seed}", "whatever there is", graph, inputs)
    raise AssertionError(f"seed {seed} gives no graph that is alive")


class _DeadError(Exception):
    """Internal: nothing fires, or no spikes are left to grow on."""


@dataclass
class _Growing:
    rng: np.random.Generator
    plain: bool
    T: int = 0
    nodes: list[Node] = field(default_factory=list)
    types: dict[str, TensorType] = field(default_factory=dict)
    values: dict[str, IntArray] = field(default_factory=dict)  # (T, B, *shape)

    def grow(self) -> None:
        self.T = int(self.rng.integers(2, 7))
        self._input()
        if not self.plain and self.rng.random() < 0.3:
            self._input()
        blocks = [self._synapses, self._residual, self._pool, self._mask, self._synapses]
        if not self.plain:
            blocks += [self._attention, self._wiring, self._wiring, self._other, self._other]
            blocks += [self._weighed, self._shown]
        for _ in range(self.rng.integers(2, 7)):
            blocks[self.rng.integers(len(blocks))]()

    def finish(self) -> Graph:
        """End in a head; a plain graph keeps only what leads to it."""
        last = self._head(self._any())
        graph = self._whole(last)
        if not graph.firing:
            raise _DeadError
        return graph

    def _whole(self, last: str) -> Graph:
        if self.plain:
            return Graph(tuple(self.nodes), (last,), self.T).without_dead()
        read = {i for node in self.nodes for i in node.inputs}
        return Graph(tuple(self.nodes), tuple(n for n in self.types if n not in read), self.T)

    # ---- blocks ---------------------------------------------------------------------------

    def _input(self) -> None:
        kind, low, high = _KINDS[self.rng.choice([0, 3] if self.plain else [0, 1, 2, 3])]
        sizes = [int(n) for n in self.rng.integers(2, 5, 3)]
        shape = (sizes[0], 4, 4) if self.rng.random() < 0.7 else tuple(sizes[:2])
        shape = (*sizes[:1], 4, 4) if self.plain else shape
        given = self.rng.integers(low, high + 1, (self.T, _BATCH, *shape)).astype(np.int64)
        name = f"x{len(self.nodes)}"
        self._keep(name, ops.Input(type=TensorType(shape, IntRange(low, high), kind)), (), given)
        if kind is Kind.GRADED:
            self._fire(self._layer(name))

    def _synapses(self) -> None:
        self._fire(self._layer(self._any()))

    def _residual(self) -> None:
        """Two layers of one value, added before a neuron; now and then with the value itself."""
        x = self._any()
        a = self._layer(x, stay=True)
        b = self._layer(self._fire(a), stay=True) if self.rng.random() < 0.5 else x
        self._fire(self._put(ops.Add(), a, b))

    def _pool(self) -> None:
        x = self._any(rank=3)
        padding = (int(self.rng.integers(2)), int(self.rng.integers(2)))
        stride = (int(self.rng.integers(1, 3)), int(self.rng.integers(1, 3)))
        self._put(ops.MaxPool2d(kernel=(2, 2), stride=stride, padding=padding), x)

    def _mask(self) -> None:
        """Sums over a map, whose neuron gates the map: spike-driven attention."""
        x = self._any(rank=3)
        gate = self._put(ops.Gate(), self._fire(self._layer(x, stay=True)), x)
        mask = self._fire(self._put(ops.Sum(axes=(1, 2), keepdims=True), gate))
        whole = self._put(ops.Expand(shape=self._shape(x)), mask)
        self._put(ops.Gate(), x, whole)

    def _attention(self) -> None:
        """Queries, keys and values of tokens, and two products."""
        x = self._tokens()
        q, k, v = (self._fire(self._layer(x, stay=True)) for _ in range(3))
        scores = self._put(ops.SpikeMatmul(), q, self._put(ops.Permute(axes=(1, 0)), k))
        if self.rng.random() < 0.5:
            scores = self._put(ops.Expand(shape=self._shape(scores)), scores)
        self._fire(self._put(ops.SpikeMatmul(), scores, v))

    def _weighed(self) -> None:
        """Scores that weigh currents by powers of two: bipolar attention."""
        x = self._tokens()
        q, k = (self._fire(self._layer(x, stay=True)) for _ in range(2))
        scores = self._put(ops.SpikeMatmul(), q, self._put(ops.Permute(axes=(1, 0)), k))
        reach = int(self.rng.integers(6))
        op = ops.ShiftSum(window=reach + int(self.rng.integers(4)), reach=reach)
        self._fire(self._put(op, scores, self._layer(x, stay=True)))

    def _tokens(self) -> str:
        """A recent value, a map of which becomes rows of tokens."""
        x = self._any()
        if len(self._shape(x)) == 3:
            C, H, W = self._shape(x)
            x = self._put(ops.Permute(axes=(1, 0)), self._put(ops.Reshape(shape=(C, H * W)), x))
        return x

    def _shown(self) -> None:
        """The membrane of a neuron that is there, before its reset or after it."""
        found = [(n.op, n.inputs) for n in self.nodes if isinstance(n.op, ops.Neuron)]
        if found:
            neuron, inputs = found[self.rng.integers(len(found))]
            self._put(ops.Membrane(neuron=neuron, after_reset=bool(self.rng.integers(2))), *inputs)

    def _wiring(self) -> None:
        x = self._any()
        shape = self._shape(x)
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
        self._put(op, x, self._put(ops.Delay(steps=1), x)) if isinstance(
            op, ops.Concat
        ) else self._put(op, x)

    def _other(self) -> None:
        """What few targets know: staircases, rectified currents, maxima of currents."""
        current = self._layer(self._any())
        which = self.rng.integers(4)
        if which == 0:
            self._staircase(current)
        elif which == 1:
            self._fire(self._put(ops.Relu(), current))
        elif which == 2 and len(self._shape(current)) == 3:
            self._fire(self._put(ops.MaxPool2d(kernel=(2, 2), stride=(1, 1)), current))
        else:
            gates = self._staircase(current)
            self._fire(self._put(ops.Gate(), gates, current))

    def _head(self, x: str) -> str:
        shape = self._shape(x)
        if len(shape) == 3 and self.rng.random() < 0.5:
            x = self._put(ops.Sum(axes=(1, 2)), x)
        elif len(shape) > 1:
            x = self._put(ops.Reshape(shape=(math.prod(shape),)), x)
        head = self._layer(x, out=3)
        return self._put(ops.Readout(), head) if self.plain or self.rng.random() < 0.7 else head

    # ---- nodes ----------------------------------------------------------------------------

    def _any(self, rank: int | None = None) -> str:
        """A recent value of spikes or counts, of this rank if there is one."""
        fit = [n for n, t in self.types.items() if len(t.shape) > 1
               and (t.is_binary if self.plain else t.kind is not Kind.GRADED)]  # fmt: skip
        fit = [n for n in fit if rank is None or len(self._shape(n)) == rank] or fit
        if not fit:
            raise _DeadError
        return fit[-1 - int(self.rng.integers(min(3, len(fit))))]

    def _layer(self, x: str, *, stay: bool = False, out: int | None = None) -> str:
        """A convolution of a map, or a linear map of the last axis; `stay` keeps the shape."""
        shape, graded = self._shape(x), self.types[x].kind is Kind.GRADED
        if len(shape) != 3 or (not self.plain and self.rng.random() < 0.2):
            width = shape[-1] if stay else out or int(self.rng.integers(2, 6))
            w, b = self._ints(width, shape[-1]), self._ints(width)
            return self._put(ops.Linear(weight=w, bias=b, graded=graded), x)
        side = 1 if stay and self.rng.random() < 0.5 else 3
        groups = shape[0] if self.rng.random() < 0.2 else 1
        channels = shape[0] if stay or groups > 1 else int(self.rng.integers(2, 6))
        stride = 1 if stay or self.rng.random() < 0.7 else 2
        conv = ops.Conv2d(
            weight=self._ints(channels, shape[0] // groups, side, side),
            bias=self._ints(channels),
            stride=(stride, stride),
            padding=(side // 2, side // 2),
            groups=groups,
            graded=graded,
        )
        return self._put(conv, x)

    def _fire(self, x: str) -> str:
        """A neuron with a threshold from its own membranes; its input, if it cannot be alive."""
        rng = self.rng
        decays = (
            [0, ops.DECAY_ONE // 2, ops.DECAY_ONE] if self.plain else [0, 1, 1365, 2048, 4095, 4096]
        )
        bias = 0 if self.plain or rng.random() < 0.6 else int(rng.integers(-40, 41))
        free = ops.Neuron(
            threshold=IntTensor.of([1]),
            dv=int(rng.choice(decays)),
            du=ops.DECAY_ONE if self.plain or rng.random() < 0.6 else int(rng.choice(decays[1:])),
            bias=IntTensor.of([bias]),
            reset=ops.Reset.NONE,
            fraction_bits=6 if self.plain or rng.random() < 0.6 else int(rng.integers(7)),
            ternary=not self.plain and bool(rng.random() < 0.2),
        )  # fmt: skip
        seen = self._integrated(free, self.values[x])[1]
        high = seen[seen > 0]
        if not high.size:
            return x
        theta = max(1, int(np.quantile(high, rng.uniform(0.2, 0.8))))
        if rng.random() < 0.5 and free.fraction_bits == 6:
            theta = max(1, theta // 64 * 64 + int(rng.integers(2)))  # Loihi's tie, and one off it
        per_neuron = rng.random() < 0.2
        shape = (self._shape(x)[0], *(1,) * (len(self._shape(x)) - 1)) if per_neuron else (1,)
        moved = (
            theta + rng.integers(0, 1 + theta // 4, shape) if per_neuron else np.full(shape, theta)
        )
        reset = ops.Reset.TO_ZERO if self.plain else list(ops.Reset)[rng.integers(3)]
        op = ops.Neuron(
            threshold=IntTensor.of(moved),
            dv=free.dv,
            du=free.du,
            bias=free.bias,
            reset=reset,
            reset_by=theta if reset is ops.Reset.BY_SUBTRACTION else 0,
            fraction_bits=free.fraction_bits,
            ternary=free.ternary,
        )
        return self._alive(op, x, self._integrated(op, self.values[x])[0])

    def _staircase(self, x: str) -> str:
        seen = np.unique(self.values[x])
        levels = int(self.rng.integers(1, 5))
        steps = sorted(int(v) for v in self.rng.choice(seen, min(levels, len(seen)), replace=False))
        op = ops.Staircase(thresholds=IntTensor.of(steps))
        return self._alive(op, x, self._each_step(op, (self.values[x],)))

    def _alive(self, op: ops.Firing, x: str, events: IntArray) -> str:
        some, most = np.abs(events).max(), np.abs(events).min()
        if some == 0 or most == some:
            return x
        return self._put(op, x)

    def _put(self, op: ops.Stateless | ops.Stateful, *inputs: str) -> str:
        """Add a node; its first input, if the op does not fit or its values grow too large."""
        try:
            made = infer(op, tuple(self.types[i] for i in inputs), self.T)
        except ValueError:
            return inputs[0]
        if made.range.magnitude >= _MOST or math.prod(made.shape) > 512:
            return inputs[0]
        given = tuple(self.values[i] for i in inputs)
        match op:
            case ops.Neuron():
                value = self._integrated(op, given[0])[0]
            case ops.Membrane(neuron=neuron):
                value = self._integrated(neuron, given[0], op)[1]
            case ops.Readout():
                value = given[0].cumsum(axis=0)
            case _:
                value = self._each_step(op, given)
        return self._keep(f"n{len(self.nodes)}", op, inputs, value)

    def _keep(self, name: str, op: ops.Op, inputs: tuple[str, ...], value: IntArray) -> str:
        self.types[name] = infer(op, tuple(self.types[i] for i in inputs), self.T)
        self.nodes.append(Node(name, op, inputs))
        self.values[name] = value
        return name

    def _integrated(
        self, op: ops.Neuron, x: IntArray, shown: ops.Membrane | None = None
    ) -> tuple[IntArray, IntArray]:
        """Spikes and membranes over all steps: those before the reset, or those that are shown."""
        state, spikes, membranes = State.zeros(x.shape[1:]), [], []
        for step in x:
            fired = integrate(op, step, state)
            state = fired.state
            spikes.append(fired.spikes)
            membranes.append(membrane(shown, fired) if shown else fired.membrane)
        return np.stack(spikes), np.stack(membranes)

    def _each_step(self, op: ops.Stateless, given: tuple[IntArray, ...]) -> IntArray:
        return np.stack([evaluate(op, tuple(v[t] for v in given)) for t in range(self.T)])

    def _shape(self, name: str) -> tuple[int, ...]:
        return self.types[name].shape

    def _ints(self, *shape: int) -> IntTensor:
        return IntTensor.of(self.rng.integers(-8, 9, shape))
