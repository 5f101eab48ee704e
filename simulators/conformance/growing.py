"""A graph in the making together with the values of its nodes, so that what fires is alive."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from lapilli.ir import ops
from lapilli.ir.graph import Node
from lapilli.ir.infer import infer
from lapilli.ir.semantics import State, evaluate, integrate, membrane
from lapilli.ir.tensor import IntArray, IntTensor
from lapilli.ir.types import Kind, TensorType

MOST = 1 << 20  # of a value: registers and messages of every target have room


class NothingFiresError(Exception):
    """Internal: nothing fires, or no spikes are left to grow on."""


@dataclass
class Growing:
    """Nodes, their types and their values for a batch of random samples.

    Attributes:
        plain: keep to what most targets know: binary spikes, hard resets, simple decays.
        values: node name -> (T, B, *shape).
    """

    rng: np.random.Generator
    plain: bool
    T: int = 0
    nodes: list[Node] = field(default_factory=list)
    types: dict[str, TensorType] = field(default_factory=dict)
    values: dict[str, IntArray] = field(default_factory=dict)

    def any(self, rank: int | None = None) -> str:
        """A recent value of spikes or counts, of this rank if there is one."""
        fit = [n for n, t in self.types.items() if len(t.shape) > 1
               and (t.is_binary if self.plain else t.kind is not Kind.GRADED)]  # fmt: skip
        fit = [n for n in fit if rank is None or len(self.shape(n)) == rank] or fit
        if not fit:
            raise NothingFiresError
        return fit[-1 - int(self.rng.integers(min(3, len(fit))))]

    def layer(self, x: str, *, stay: bool = False, out: int | None = None) -> str:
        """A convolution of a map, or a linear map of the last axis; `stay` keeps the shape."""
        shape, graded = self.shape(x), self.types[x].kind is Kind.GRADED
        if len(shape) != 3 or (not self.plain and self.rng.random() < 0.2):
            width = shape[-1] if stay else out or int(self.rng.integers(2, 6))
            w, b = self._weights(width, shape[-1]), self._ints(width)
            return self.put(ops.Linear(weight=w, bias=b, graded=graded), x)
        side = 1 if stay and self.rng.random() < 0.5 else 3
        groups = shape[0] if self.rng.random() < 0.2 else 1
        channels = shape[0] if stay or groups > 1 else int(self.rng.integers(2, 6))
        stride = 1 if stay or self.rng.random() < 0.7 else 2
        conv = ops.Conv2d(
            weight=self._weights(channels, shape[0] // groups, side, side),
            bias=self._ints(channels),
            stride=(stride, stride),
            padding=(side // 2, side // 2),
            groups=groups,
            graded=graded,
        )
        return self.put(conv, x)

    def fire(self, x: str) -> str:
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
        shape = (self.shape(x)[0], *(1,) * (len(self.shape(x)) - 1)) if per_neuron else (1,)
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

    def general(self, x: str) -> str:
        """A general neuron with levels from its own membranes; its input, if none can be alive."""
        rng, T = self.rng, self.T
        steps = T if rng.random() < 0.5 else 1
        inner = (self.shape(x)[0], *(1,) * (len(self.shape(x)) - 1)) if rng.random() < 0.4 else (1,)

        def constant(low: int, high: int, *between: int) -> IntTensor:
            return IntTensor.of(rng.integers(low, high, (steps, *between, *inner)))

        def decays() -> IntTensor:
            return IntTensor.of(rng.choice([0, 1, 1365, 2048, 4096], (steps, *inner)))

        free = ops.GeneralNeuron(
            taps=constant(-2, 9, int(rng.integers(1, min(3, T) + 1))),
            threshold=IntTensor.of([[[1]]]),
            dv=decays(),
            du=IntTensor.of([[ops.DECAY_ONE]]) if rng.random() < 0.7 else decays(),
            bias=constant(-6, 7) if rng.random() < 0.4 else IntTensor.of([[0]]),
            reset=ops.Reset.NONE,
            shift=int(rng.integers(3)),
            fraction_bits=3,
            floored=(floored := bool(rng.random() < 0.4)),
            floor=-int(rng.integers(40)) * floored,
        )
        seen = self._integrated(free, self.values[x])[1]
        high = seen[seen > 0]
        if not high.size:
            return x
        theta = max(1, int(np.quantile(high, rng.uniform(0.2, 0.8))))
        levels = theta * np.arange(1, 1 + rng.integers(1, 4)).reshape(1, -1, *(1,) * len(inner))
        moved = levels + rng.integers(0, 1 + theta // 4, (steps, 1, *inner))
        op = replace(
            free,
            threshold=IntTensor.of(moved),
            reset=list(ops.Reset)[rng.integers(3)],
            reset_by=constant(0, theta + 1),
        )
        return self._alive(op, x, self._integrated(op, self.values[x])[0])

    def staircase(self, x: str) -> str:
        """Thresholds out of what x shows; x itself, if they cannot be alive."""
        seen = np.unique(self.values[x])
        levels = int(self.rng.integers(1, 5))
        steps = sorted(int(v) for v in self.rng.choice(seen, min(levels, len(seen)), replace=False))
        op = ops.Staircase(thresholds=IntTensor.of(steps))
        return self._alive(op, x, self._each_step(op, (self.values[x],)))

    def _alive(self, op: ops.Firing, x: str, events: IntArray) -> str:
        some, most = np.abs(events).max(), np.abs(events).min()
        if some == 0 or most == some:
            return x
        return self.put(op, x)

    def put(self, op: ops.Stateless | ops.Stateful, *inputs: str) -> str:
        """Add a node; its first input, if the op does not fit or its values grow too large."""
        try:
            made = infer(op, tuple(self.types[i] for i in inputs), self.T)
        except ValueError:
            return inputs[0]
        if made.range.magnitude >= MOST or math.prod(made.shape) > 512:
            return inputs[0]
        given = tuple(self.values[i] for i in inputs)
        match op:
            case ops.Neuron() | ops.GeneralNeuron():
                value = self._integrated(op, given[0])[0]
            case ops.Membrane(neuron=neuron):
                value = self._integrated(neuron, given[0], op)[1]
            case ops.Readout():
                value = given[0].cumsum(axis=0)
            case _:
                value = self._each_step(op, given)
        return self.keep(f"n{len(self.nodes)}", op, inputs, value)

    def keep(self, name: str, op: ops.Op, inputs: tuple[str, ...], value: IntArray) -> str:
        """Add a node whose value (T, B, *shape) is known."""
        self.types[name] = infer(op, tuple(self.types[i] for i in inputs), self.T)
        self.nodes.append(Node(name, op, inputs))
        self.values[name] = value
        return name

    def _integrated(
        self, op: ops.Integrating, x: IntArray, shown: ops.Membrane | None = None
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

    def shape(self, name: str) -> tuple[int, ...]:
        """Of one step of one sample."""
        return self.types[name].shape

    def _weights(self, *shape: int) -> IntTensor:
        """Weights as of a residual stream, now and then: multiples of a power of two."""
        return IntTensor(self._ints(*shape).array << int(self.rng.choice([0, 0, 0, 2, 5])))

    def _ints(self, *shape: int) -> IntTensor:
        return IntTensor.of(self.rng.integers(-8, 9, shape))
