"""Where two runs first part, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from lapilli.deploy.comparison.surroundings import Surroundings, surroundings
from lapilli.ir import ops
from lapilli.ir.graph import Graph
from lapilli.ir.recording import Recording
from lapilli.ir.tensor import IntArray
from lapilli.simulators.digest import digests


@dataclass(frozen=True, slots=True)
class Fact:
    """One array that both runs recorded: (T, B, ...), or the last steps for an answer."""

    node: str
    kind: str  # "current", "membrane", "spikes", "logits" or "value"
    expected: IntArray
    got: IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """The first difference in (time step, topological order).

    Attributes:
        node: where it shows; kind: in what.
        t: time step; sample: of the images compared; index: of the neuron in its node.
        expected, got: the two values (digests, where a run keeps no currents).
        membranes: before reset, expected and got, in state units; None if not recorded.
        currents: likewise, in synaptic units.
        threshold: of the neuron, in state units.
        suspects: nodes between the last neurons that agree and this one: the fault is there.
        around: what both runs showed beside it, where it is a neuron.
    """

    node: str
    kind: str
    t: int
    sample: int
    index: tuple[int, ...]
    expected: int
    got: int
    membranes: tuple[int | None, int | None] = (None, None)
    currents: tuple[int | None, int | None] = (None, None)
    threshold: int | None = None
    suspects: tuple[str, ...] = ()
    around: Surroundings | None = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        where = (
            f"t={self.t}, node {self.node!r}, element {list(self.index)} of sample {self.sample}"
        )
        lines = [
            f"first divergence at {where}: {self.kind} is {self.got}, expected {self.expected}"
        ]
        if self.currents != (None, None):
            lines.append(f"  input current: expected {self.currents[0]}, got {self.currents[1]}")
        if self.membranes != (None, None):
            lines.append(
                f"  membrane before reset: expected {self.membranes[0]}, got {self.membranes[1]}"
                f" (threshold {self.threshold})"
            )
        lines.append(f"  cause: {self.cause}")
        return "\n".join(lines)

    @property
    def cause(self) -> str:
        """What the agreement of everything before it leaves as the reason."""
        differ = None not in self.membranes and self.membranes[0] != self.membranes[1]
        if self.kind == "input":
            return "the two sides prepare images differently: mean, std, exponent or range"
        if self.kind == "spikes" and not differ:
            return f"the same membrane fires or not: threshold or comparison of {self.node!r}"
        if self.kind in ("spikes", "membrane"):
            return f"the same current integrates differently: decay, bias or reset of {self.node!r}"
        return f"all neurons before agree; look at {', '.join(map(repr, self.suspects))}"


def facts(graph: Graph, expected: Recording, got: Recording) -> Iterator[Fact]:
    """Everything that both runs recorded, in topological order; causes before effects."""
    outputs = set(graph.outputs)
    for node in graph.nodes:
        name = node.name
        if isinstance(node.op, ops.Firing):
            if name in expected.currents and name in got.currents:
                yield Fact(name, "current", expected.currents[name], got.currents[name])
            elif name in expected.currents and name in got.current_digests:
                mine = digests(expected.currents[name])
                yield Fact(name, "current", mine, got.current_digests[name])
            if name in expected.membranes and name in got.membranes:
                yield Fact(name, "membrane", expected.membranes[name], got.membranes[name])
            yield Fact(name, "spikes", expected.values[name], got.values[name])
        elif isinstance(node.op, ops.Membrane):
            yield Fact(name, "membrane", expected.values[name], got.values[name])
        elif name in outputs:  # PyTorch gives the answer alone, not the sums on the way to it
            steps = min(len(expected.values[name]), len(got.values[name]))
            last = slice(-1 if isinstance(node.op, ops.Readout) else -steps, None)
            yield Fact(name, "logits", expected.values[name][last], got.values[name][last])
        elif name in expected.values and name in got.values and not isinstance(node.op, ops.Input):
            yield Fact(name, "value", expected.values[name], got.values[name])


def first_divergence(
    graph: Graph, expected: Recording, got: Recording, first_sample: int = 0
) -> Divergence | None:
    """Find it, or None if every fact agrees; `first_sample` is added to the sample's number."""
    best: tuple[int, Fact, tuple[int, ...]] | None = None
    for fact in facts(graph, expected, got):
        differs = np.argwhere(fact.expected != fact.got)
        if len(differs):
            at = tuple(int(i) for i in differs[0])
            t = graph.T - len(fact.expected) + at[0]
            if best is None or t < best[0]:
                best = (t, fact, at)
    if best is None:
        return None
    t, fact, at = best
    sample, index = at[1], at[2:]
    if fact.kind == "current" and not index:  # a digest: any element; the first that we know
        index = (0,) * len(graph.types[fact.node].shape)
    element = (t, sample, *index)
    op = graph[fact.node].op
    return Divergence(
        node=fact.node,
        kind=fact.kind,
        t=t,
        sample=first_sample + sample,
        index=index,
        expected=int(fact.expected[at]),
        got=int(fact.got[at]),
        membranes=(
            _element(expected.membranes.get(fact.node), element),
            _element(got.membranes.get(fact.node), element),
        ),
        currents=(
            _element(expected.currents.get(fact.node), element),
            _element(got.currents.get(fact.node), element),
        ),
        threshold=_threshold(op, index) if isinstance(op, ops.Neuron) else None,
        suspects=suspects(graph, fact.node),
        around=surroundings(expected, got, fact.node, t, sample, index)
        if isinstance(op, ops.Firing)
        else None,
    )


def first_input(
    own: Mapping[str, IntArray], given: Mapping[str, IntArray], first_sample: int = 0
) -> Divergence | None:
    """Find the first difference of two encoded images (T, B, C, H, W), or None."""
    (name,) = given
    differs = np.argwhere(own[name] != given[name])
    if not len(differs):
        return None
    t, sample, *index = (int(i) for i in differs[0])
    return Divergence(
        node=name,
        kind="input",
        t=t,
        sample=first_sample + sample,
        index=tuple(index),
        expected=int(own[name][t, sample][tuple(index)]),
        got=int(given[name][t, sample][tuple(index)]),
    )


def suspects(graph: Graph, node: str) -> tuple[str, ...]:
    """The nodes between `node` and the neurons and inputs that it hears, nearest first."""
    found: list[str] = [] if isinstance(graph[node].op, ops.Firing) else [node]
    waiting = list(graph[node].inputs)
    while waiting:
        name = waiting.pop(0)
        if name not in found and not isinstance(graph[name].op, ops.Firing | ops.Input):
            found.append(name)
            waiting += graph[name].inputs
    return tuple(found)


def _element(values: IntArray | None, at: tuple[int, ...]) -> int | None:
    return None if values is None else int(values[at])


def _threshold(op: ops.Neuron, index: tuple[int, ...]) -> int:
    if op.threshold.array.size == 1:
        return int(op.threshold.array.ravel()[0])
    whole = np.broadcast_to(op.threshold.array, np.array(index) + 1)
    return int(whole[index])
