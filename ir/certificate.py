"""What can be proved about a graph's numbers before it runs, and whether a target holds them.

For each neuron: the interval of its current and membrane over a whole sample, and whether
a decay can ever truncate. With the ranges of all other values it follows what each register of
a target must hold (`needs`), and whether it does (`check_target`). A `Network` that says what it
was made for asks when it is made: so does whoever loads, runs, compares or exports one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from lapilli.ir import ops
from lapilli.ir.bounds import NeuronBounds, input_range, neuron_bounds
from lapilli.ir.errors import RangeError
from lapilli.ir.graph import Graph, Node
from lapilli.ir.partial_sums import partial_sum
from lapilli.ir.recipe import Json
from lapilli.ir.targets.table import NAMES, named
from lapilli.ir.targets.target import Limit, Register, Target, Unknown
from lapilli.ir.types import IntRange

_REMEDY = "quantize it to fewer bits (weight_bits, input_bits), or for another target"


@dataclass(frozen=True, slots=True)
class Need:
    """What one register must hold for a node, proved, and how wide it is."""

    node: str
    register: Register
    values: IntRange
    limit: Limit | Unknown

    @property
    def bits(self) -> int:
        """Bits needed, counted as the limit counts them."""
        return self.limit.needed(self.values)

    @property
    def holds(self) -> bool | None:
        """Whether the register holds it; None if nobody knows how wide it is."""
        return self.limit.holds(self.values)

    def problem(self, target: Target) -> str:
        """Say what does not fit."""
        return (
            f"its {self.register.value} can reach [{self.values.lo}, {self.values.hi}] and needs "
            f"{self.bits} bits; registers of {target.name} have {self.limit}"
        )


def certify(graph: Graph) -> tuple[NeuronBounds, ...]:
    """Bounds of every neuron and of every membrane that is read, in topological order."""
    return tuple(
        neuron_bounds(node.name, op, graph.types[node.inputs[0]], graph.T)
        for node in graph.nodes
        if (op := _integrates(node)) is not None
    )


def needs(graph: Graph, target: Target) -> tuple[Need, ...]:
    """What every node needs of the registers that a target has, in topological order."""
    return tuple(need for node in graph.nodes for need in node_needs(graph, node, target))


def node_needs(graph: Graph, node: Node, target: Target) -> Iterator[Need]:
    """What one node needs of the registers that a target has."""
    found = {Register.VALUE: graph.types[node.name].range}
    if isinstance(node.op, ops.Weighted) and Register.WEIGHT in target.limits:
        found[Register.WEIGHT] = node.op.weight.range.shifted(-node.op.weight.exponent)
    if Register.SUM in target.limits:  # takes a look at every weight
        most = partial_sum(graph, node)
        found[Register.SUM] = IntRange(-most, most)
    yield from _of(node.name, found, target)
    if (op := _integrates(node)) is not None:
        bounds = neuron_bounds(node.name, op, graph.types[node.inputs[0]], graph.T)
        yield from neuron_needs(op, bounds, target)


def neuron_needs(op: ops.Integrating, bounds: NeuronBounds, target: Target) -> Iterator[Need]:
    """What a neuron, of which this was proved, needs of the registers that a target has."""
    found = {
        Register.INPUT: input_range(op, bounds.current),
        Register.STATE: bounds.u | bounds.v | bounds.after,
        Register.THRESHOLD: op.threshold.range,
        Register.BIAS: op.bias.range,
    }
    yield from _of(bounds.name, found, target)


def _of(node: str, found: dict[Register, IntRange], target: Target) -> Iterator[Need]:
    for register, values in found.items():
        if limit := target.limits.get(register):
            yield Need(node, register, values, limit)


def _integrates(node: Node) -> ops.Integrating | None:
    if isinstance(node.op, ops.Membrane):
        return node.op.neuron
    return node.op if isinstance(node.op, ops.Integrating) else None


def first_beyond(found: Iterable[Need]) -> Need | None:
    """The first that is known not to fit."""
    return next((need for need in found if need.holds is False), None)


def widest(found: Iterable[Need]) -> dict[Register, Need]:
    """Of each register, what needs most of it."""
    most: dict[Register, Need] = {}
    for need in found:
        if need.register not in most or need.bits > most[need.register].bits:
            most[need.register] = need
    return most


def summary(graph: Graph, target: Target) -> dict[str, Json]:
    """Of each register by name, the most bits that a node needs: what a recipe holds."""
    return {r.value: need.bits for r, need in widest(needs(graph, target)).items()}


def check_promised(graph: Graph, target: str, certificate: Mapping[str, Json]) -> None:
    """Refuse a graph that is not what its recipe promises.

    Args:
        graph: proved anew.
        target: that it was made for, by name; empty if nothing is promised.
        certificate: bits of each of its registers.

    Raises:
        RangeError: a target that nobody knows, a number that it does not hold, or one that needs
            more bits than the certificate says.
    """
    if not target:
        return
    if target not in NAMES:
        raise RangeError(graph.outputs[0], f"was made for {target!r}, which is no target here")
    found = needs(graph, named(target))
    _require(found, named(target))
    for register, need in widest(found).items():
        if not isinstance(most := certificate.get(register.value), int) or need.bits > most:
            raise RangeError(
                need.node,
                f"its {register.value} needs {need.bits} bits; its certificate says {most}",
            )


def check_target(graph: Graph, target: Target) -> None:
    """Refuse a graph of which a number could leave what a target holds.

    Raises:
        RangeError: the node, the bits it needs and the bits there are.
    """
    _require(needs(graph, target), target)


def _require(found: Iterable[Need], target: Target) -> None:
    if beyond := first_beyond(found):
        raise RangeError(beyond.node, f"{beyond.problem(target)}; {_REMEDY}")
