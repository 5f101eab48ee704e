"""Graph to compartments and synapses, or every reason why not.

Synapses of nengo-loihi's emulator have no delays: what comes by a shorter way is repeated by
neurons without memory, one for each step. Its spikes carry no number: an input is played as the
bits of its values, and each step late that some neuron needs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from lapilli.ir import ops
from lapilli.ir.bounds import neuron_bounds
from lapilli.ir.errors import Unsupported, UnsupportedError
from lapilli.ir.graph import Graph
from lapilli.ir.loihi import state_fault, with_fraction_bits
from lapilli.ir.passes.binary import origin, to_binary_neurons
from lapilli.ir.passes.binary.thresholds import OR
from lapilli.ir.targets.loihi1 import INPUT
from lapilli.ir.tensor import IntArray
from lapilli.ir.types import BINARY, IntRange, Kind, TensorType
from lapilli.simulators.nengo_loihi.compartments import (
    Compartments,
    constants,
    forgets,
    made,
    unsupported,
)
from lapilli.simulators.nengo_loihi.network import NAME, LoihiNetwork, Played
from lapilli.simulators.stock.behind import last_neurons
from lapilli.simulators.stock.currents import LinearCurrent, currents

_ONE = "(constant)"  # a neuron that its bias makes fire at every step


def to_compartments(graph: Graph, max_neurons: int) -> LoihiNetwork:
    """The network of a graph, not yet built in nengo-loihi.

    Raises:
        UnsupportedError: every node that compartments cannot be, each with each reason; or more
            than `max_neurons`.
    """
    binary = to_binary_neurons(graph, max_neurons)
    if not binary.neurons:
        nothing = Unsupported("the whole", "no neuron: nothing of it would run on Loihi")
        raise UnsupportedError(NAME, (nothing,))
    return _Mapping(binary, graph, last_neurons(binary, graph.recorded)).network()


class _Mapping:
    def __init__(self, graph: Graph, original: Graph, recorded: tuple[str, ...]) -> None:
        self.graph, self.original, self.recorded = graph, original, recorded
        self.driven = dict(currents(graph))
        self.ops: dict[str, ops.Neuron] = {}
        for name in graph.neurons:
            op = graph[name].op
            if isinstance(op, ops.Neuron):
                bits = max(ops.LOIHI_FRACTION_BITS, op.fraction_bits)
                self.ops[name] = with_fraction_bits(op, graph.T, bits) or op
        self.shapes = {name: graph.types[name].shape for name in self.ops}
        self.registers: dict[str, IntArray] = {}
        self.rests: dict[str, IntArray] = {}  # what a constant neuron adds at every step
        self.reasons: dict[Unsupported, None] = {}  # each once: copies of a neuron share theirs

    def network(self) -> LoihiNetwork:
        for name in self.ops:
            self._check(name)
        if self.reasons:
            raise UnsupportedError(NAME, tuple(self.reasons))
        levels = self._levels()
        relays = self._relay(levels)
        steps = self.graph.T + max(levels[name] for name in self.recorded)
        windows = {n: (levels[n] + 1, levels[n] + self.graph.T) for n in self.ops}
        if any(rest.any() for rest in self.rests.values()):
            self._add(_ONE, OR, np.ones(1, np.int64))
            windows[_ONE] = (1, steps)
        sizes = {name: len(register) for name, register in self.registers.items()}
        starts = np.cumsum([0, *sizes.values()]).tolist()
        places = dict(zip(sizes, starts, strict=False))
        played, weights = self._weights(levels, places, starts[-1])
        parts = [
            made(op, self.shapes[name], self.registers[name], windows[name])
            for name, op in self.ops.items()
        ]
        return LoihiNetwork(
            graph=self.graph,
            compartments=Compartments.joined(parts),
            weights=weights,
            played=played,
            places=places,
            levels=levels,
            recorded=self.recorded,
            relays=sum(sizes[name] for name in relays),
        )

    def _unsupported(self, name: str, reason: str) -> None:
        self.reasons[Unsupported(origin(name, {n.name for n in self.original.nodes}), reason)] = (
            None
        )

    def _check(self, name: str) -> None:
        """Registers, the sum of each step and the state over a sample, of one neuron node."""
        if name not in self.driven:
            self._unsupported(name, "listens to a read-out; no compartment adds up time")
            return
        found = unsupported(name, self.ops[name])
        for each in found:
            self._unsupported(name, each.reason)
        if found:
            return
        self._move(name)
        op, current = self.ops[name], self.driven[name]
        try:
            register, rest = constants(op, self.shapes[name], current.constant)
        except OverflowError as error:
            self._unsupported(name, str(error))
            return
        self.registers[name], self.rests[name] = register, rest
        least, most = self._bounds(name)
        whole = IntRange(int(least.min()), int(most.max()))
        less = rest - current.constant  # of what arrives by synapses, beside the bias register
        added = IntRange(int((least + less).min()), int((most + less).max()))
        added |= IntRange(int(rest.min()), int(rest.max()))  # before and after a sample
        added = added.shifted(ops.LOIHI_FRACTION_BITS)
        if not INPUT.holds(added):
            self._unsupported(
                name,
                f"its input of one step can reach [{added.lo}, {added.hi}] and needs "
                f"{INPUT.needed(added)} bits and a sign; synapses add up in {INPUT}",
            )
        if forgets(op):
            return
        kind = TensorType(self.shapes[name], whole, Kind.GRADED)
        bounds = neuron_bounds(name, op, kind, self.graph.T)
        if fault := state_fault(bounds):
            self._unsupported(name, fault)

    def _move(self, name: str) -> None:
        """Move fraction bits beyond Loihi's own 6 into the weights."""
        op, current = self.ops[name], self.driven[name]
        more = 1 << (op.fraction_bits - ops.LOIHI_FRACTION_BITS)
        self.ops[name] = replace(op, fraction_bits=ops.LOIHI_FRACTION_BITS)
        weights = {source: w * more for source, w in current.weights.items()}
        self.driven[name] = LinearCurrent(weights, current.constant * more)

    def _bounds(self, name: str) -> tuple[IntArray, IntArray]:
        """Of each element, the least and the most that drives it in one step, constants included.

        The original's interval of a node is often tighter, where its current is still the same.
        """
        current = self.driven[name]
        least = most = current.constant
        for source, w in current.weights.items():
            given = self.graph.types[source].range if source in self.graph.inputs else BINARY
            above, below = w.maximum(0).sum(axis=1), w.minimum(0).sum(axis=1)
            least = least + above * given.lo + below * given.hi
            most = most + above * given.hi + below * given.lo
        node = self.original.by_name.get(name)
        if node is not None and isinstance(node.op, ops.Neuron):
            mine = self.graph[name].op
            if mine == replace(node.op, reset=ops.Reset.TO_ZERO, reset_by=0):
                more = max(0, node.op.fraction_bits - ops.LOIHI_FRACTION_BITS)
                proven = self.original.types[node.inputs[0]].range.shifted(more)
                least, most = np.maximum(least, proven.lo), np.minimum(most, proven.hi)
        return least, most

    def _levels(self) -> dict[str, int]:
        levels = dict.fromkeys(self.graph.inputs, 0)
        for name in self.graph.neurons:
            weights = {s: w for s, w in self.driven[name].weights.items() if w.count_nonzero()}
            self.driven[name] = replace(self.driven[name], weights=weights)
            levels[name] = 1 + max((levels[s] for s in weights), default=0)
        return levels

    def _relay(self, levels: dict[str, int]) -> set[str]:
        """Let neurons repeat each spike until it is wanted; return their names."""
        from scipy.sparse import eye_array

        relays: set[str] = set()
        for name in self.graph.neurons:
            weights = {}
            for source, w in self.driven[name].weights.items():
                at = source
                while at not in self.graph.inputs and levels[at] < levels[name] - 1:
                    late = levels[at] + 1
                    relay = f"{source} (relay at {late})"
                    if relay not in relays:
                        size = w.shape[1]
                        self._add(relay, OR, np.zeros(size, np.int64))
                        one = eye_array(size, dtype=np.int64, format="csr")
                        self.driven[relay] = replace(self.driven[relay], weights={at: one})
                        levels[relay] = late
                        relays.add(relay)
                    at = relay
                weights[at] = w
            self.driven[name] = replace(self.driven[name], weights=weights)
        return relays

    def _add(self, name: str, op: ops.Neuron, constant: IntArray) -> None:
        """A node of ours, in one row."""
        self.ops[name], self.shapes[name] = op, constant.shape
        self.driven[name] = LinearCurrent({}, constant)
        self.registers[name], self.rests[name] = constants(op, constant.shape, constant)

    def _weights(
        self, levels: Mapping[str, int], places: Mapping[str, int], count: int
    ) -> tuple[tuple[Played, ...], Any]:
        """What is played, and every synapse: (compartments, sources)."""
        from scipy.sparse import csr_array

        played: dict[tuple[str, int], Played] = {}
        parts: list[tuple[IntArray, IntArray, IntArray]] = []
        spikes = 0
        for name, current in self.driven.items():
            for source, w in current.weights.items():
                triples = w.tocoo()
                to, of, weight = triples.row + places[name], triples.col, triples.data
                if source not in self.graph.inputs:
                    parts.append((to, of + places[source], weight))
                    continue
                size, key = w.shape[1], (source, levels[name] - 1)
                factors = _planes(self.graph.types[source].range)
                if key not in played:
                    played[key] = Played(*key, len(factors), spikes)
                    spikes += len(factors) * size
                first = count + played[key].start
                parts += [(to, of + first + b * size, weight * f) for b, f in enumerate(factors)]
            rest = self.rests[name]
            if (more := np.flatnonzero(rest)).size:
                parts.append((more + places[name], np.full_like(more, places[_ONE]), rest[more]))
        nothing = (np.zeros(0, np.int64),) * 3
        to, of, weight = (np.concatenate(column) for column in zip(nothing, *parts, strict=True))
        shape = (count, count + spikes)
        return tuple(played.values()), csr_array((weight, (to, of)), shape=shape, dtype=np.int64)


def _planes(values: IntRange) -> list[int]:
    """What each bit of a value counts: two's complement where it can be negative."""
    factors = [1 << bit for bit in range(values.bits)]
    return [*factors[:-1], -factors[-1]] if values.lo < 0 else factors


def planes_of(values: IntArray, bounds: IntRange) -> IntArray:
    """Bits of values, (..., elements) -> (..., planes, elements), as `_planes` counts them."""
    bits = np.arange(bounds.bits)[:, None]
    return (values[..., None, :] >> bits) & 1
