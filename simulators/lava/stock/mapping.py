"""Graph to stock network, or every reason why not.

Each neuron fires as many steps after the input as there are synapses in its longest way back;
what comes by a shorter one waits in the delay of its synapse, or in neurons that relay it.
Neurons of the same registers are one population, whatever node they stand for: Lava pays for
each process. Graded input arrives as graded spikes, which Loihi 2 has.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from lapilli.ir import ops
from lapilli.ir.bounds import neuron_bounds
from lapilli.ir.errors import Unsupported, UnsupportedError
from lapilli.ir.graph import Graph
from lapilli.ir.loihi import state_fault, with_fraction_bits
from lapilli.ir.passes.binary import origin, to_binary_neurons
from lapilli.ir.passes.binary.thresholds import OR
from lapilli.ir.tensor import IntArray
from lapilli.ir.types import BINARY, IntRange, Kind, TensorType
from lapilli.simulators.lava.stock.axons import axons
from lapilli.simulators.lava.stock.network import MOST_DELAY, StockNetwork
from lapilli.simulators.lava.stock.populations import gathered, input_place
from lapilli.simulators.lava.stock.registers import (
    at_zero,
    biases,
    registers_of,
    thresholds,
    unsupported,
)
from lapilli.simulators.stock.behind import last_neurons
from lapilli.simulators.stock.currents import LinearCurrent, currents

NAME = "lava-stock"
_ONE = "(constant)"  # a neuron that its bias makes fire at every step


def to_stock(graph: Graph, max_neurons: int) -> StockNetwork:
    """The network of a graph, not yet built in Lava.

    Raises:
        UnsupportedError: every node that stock processes cannot be, each with each reason; or
            more than `max_neurons`.
    """
    binary = to_binary_neurons(graph, max_neurons)
    if not binary.neurons:
        nothing = Unsupported("the whole", "no neuron: nothing of it would run on Lava")
        raise UnsupportedError(NAME, (nothing,))
    return _Mapping(binary, graph, last_neurons(binary, graph.recorded)).network()


class _Mapping:
    def __init__(self, graph: Graph, original: Graph, recorded: tuple[str, ...]) -> None:
        self.graph, self.recorded = graph, recorded
        self.original = {node.name: node for node in original.nodes}
        self.proven = original.types
        self.driven = dict(currents(graph))
        self.ops: dict[str, ops.Neuron] = {}
        for node in graph.nodes:
            if isinstance(node.op, ops.Neuron):
                bits = max(ops.LOIHI_FRACTION_BITS, node.op.fraction_bits)
                self.ops[node.name] = with_fraction_bits(node.op, graph.T, bits) or node.op
        self.ranges = {name: graph.types[name].range for name in graph.inputs}
        self.reasons: dict[Unsupported, None] = {}  # each once: copies of a neuron share theirs
        self.current_bits = 1

    def network(self) -> StockNetwork:
        for name in self.ops:
            self._check(name)
        self._require_supported()
        for name in self.graph.neurons:
            self._shift(name)
        levels = self._with_relays(self._levels())
        self._require_supported()
        found = self._biases(levels)
        T = self.graph.T
        registers = {name: registers_of(op, levels[name], T) for name, op in self.ops.items()}
        vth = {name: thresholds(op, self._shape(name)) for name, op in self.ops.items()}
        populations, places = gathered(registers, vth, found)
        played = {n: math.prod(self.graph.types[n].shape) for n in self.graph.inputs}
        places |= {n: input_place(i, size) for i, (n, size) in enumerate(played.items())}
        sizes = [*(p.size for p in populations), *reversed(played.values())]  # of -1, -2, ... too
        return StockNetwork(
            graph=self.graph,
            populations=populations,
            axons=axons(sizes, places, levels, self.driven),
            places={name: places[name] for name in self.graph.neurons},
            levels={name: levels[name] for name in self.graph.neurons},
            recorded=self.recorded,
            current_bits=self.current_bits,
        )

    def _unsupported(self, name: str, reason: str) -> None:
        self.reasons[Unsupported(origin(name, set(self.original)), reason)] = None

    def _require_supported(self) -> None:
        if self.reasons:
            raise UnsupportedError(NAME, tuple(self.reasons))

    def _check(self, name: str) -> None:
        """Registers, and the state over a sample, of one neuron node."""
        op = self.ops[name]
        if name not in self.driven:
            self._unsupported(
                name, "listens to a read-out; there is no stock process that adds up time"
            )
            return
        for found in unsupported(name, op):
            self._unsupported(name, found.reason)
        current = self._proven(name) or self._current_bounds(self.driven[name])
        more = max(0, op.fraction_bits - ops.LOIHI_FRACTION_BITS)
        sent = current.shifted(more)
        self.current_bits = max(self.current_bits, (sent | IntRange(-1, 0)).bits)
        kind = TensorType(self.graph.types[name].shape, current, Kind.GRADED)
        bounds = neuron_bounds(name, op, kind, self.graph.T)
        if fault := state_fault(bounds):
            self._unsupported(name, fault)
        try:
            biases(_moved(op), self.driven[name].constant << more, self._shape(name))
        except OverflowError as error:
            self._unsupported(name, str(error))

    def _proven(self, name: str) -> IntRange | None:
        """The original's interval, often tighter, of a current that is still the same."""
        node = self.original.get(name)
        if node is None or not isinstance(node.op, ops.Neuron):
            return None
        plain = replace(node.op, reset=ops.Reset.TO_ZERO, reset_by=0)
        return self.proven[node.inputs[0]].range if self.graph[name].op == plain else None

    def _shift(self, name: str) -> None:
        """Move fraction bits beyond Lava's own 6 into the weights."""
        op, current = self.ops[name], self.driven[name]
        more = 1 << (op.fraction_bits - ops.LOIHI_FRACTION_BITS)
        self.ops[name] = _moved(op)
        weights = {source: w * more for source, w in current.weights.items()}
        self.driven[name] = LinearCurrent(weights, current.constant * more)

    def _current_bounds(self, current: LinearCurrent) -> IntRange:
        """Bound a current, whatever fires."""
        least = most = current.constant
        for source, w in current.weights.items():
            given = self.ranges.get(source, BINARY)
            above, below = w.maximum(0).sum(axis=1), w.minimum(0).sum(axis=1)
            least = least + above * given.lo + below * given.hi
            most = most + above * given.hi + below * given.lo
        return IntRange(int(np.min(least)), int(np.max(most)))

    def _levels(self) -> dict[str, int]:
        levels = dict.fromkeys(self.graph.inputs, 0)
        for name in self.graph.neurons:
            sources = [s for s, w in self.driven[name].weights.items() if w.count_nonzero()]
            levels[name] = 1 + max((levels[s] for s in sources), default=0)
        return levels

    def _with_relays(self, levels: dict[str, int]) -> dict[str, int]:
        """Neurons that repeat a spike where no delay of a synapse is long enough."""
        from scipy.sparse import eye_array

        for name in self.graph.neurons:
            weights = dict(self.driven[name].weights)
            for source, w in self.driven[name].weights.items():
                at, given = source, self.ranges.get(source, BINARY)
                while levels[name] - 1 - levels[at] > MOST_DELAY and w.count_nonzero():
                    if not (given.lo in BINARY and given.hi in BINARY):
                        late = levels[name] - 1
                        self._unsupported(
                            name,
                            f"reads graded {source!r} {late} steps late; delays end at "
                            f"{MOST_DELAY}, and only spikes can be relayed",
                        )
                        break
                    relay = f"{source} (relay at {levels[at] + MOST_DELAY + 1})"
                    if relay not in levels:
                        size = w.shape[1]
                        one = eye_array(size, dtype=np.int64, format="csr")
                        self.driven[relay] = LinearCurrent({at: one}, np.zeros(size, np.int64))
                        self.ops[relay] = OR
                        levels[relay] = levels[at] + MOST_DELAY + 1
                    at = relay
                if at != source:
                    weights[at] = weights.pop(source)
            self.driven[name] = LinearCurrent(weights, self.driven[name].constant)
        return levels

    def _biases(self, levels: dict[str, int]) -> dict[str, tuple[IntArray, IntArray]]:
        """Mantissas and exponents of every node's neurons.

        A constant that no register holds is the weight of a neuron that fires at every step.
        """
        from scipy.sparse import csr_array

        found = {}
        for name, current in list(self.driven.items()):
            constant, shape = current.constant, self._shape(name)
            mantissa, exponent, rest = biases(self.ops[name], constant, shape)
            found[name] = mantissa, exponent
            if rest.any():
                weights = {**current.weights, _ONE: csr_array(rest[:, None])}
                self.driven[name] = LinearCurrent(weights, current.constant)
        one = LinearCurrent({}, np.ones(1, np.int64))
        if any(_ONE in current.weights for current in self.driven.values()):
            self.ops[_ONE], self.driven[_ONE], levels[_ONE] = OR, one, 0
            found[_ONE] = biases(OR, one.constant, (1,))[:2]
        return found

    def _shape(self, name: str) -> tuple[int, ...]:
        if name in self.graph.types:
            return self.graph.types[name].shape
        return self.driven[name].constant.shape  # ours, in one row


def _moved(op: ops.Neuron) -> ops.Neuron:
    """With Lava's own fraction bits: the others are in the weights."""
    return at_zero(replace(op, fraction_bits=ops.LOIHI_FRACTION_BITS))
