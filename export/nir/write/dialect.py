"""Define what a dialect of NIR makes. `canonical` and `portable` are two of them.

A dialect is a module: it has no state. The walk over the graph asks it for nodes and never
makes one itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from lapilli.export.nir.write.flavour import Flavour as Flavour
from lapilli.ir import ops
from lapilli.ir.bounds import fraction_loss
from lapilli.ir.tensor import IntArray
from lapilli.ir.types import IntRange


@dataclass(frozen=True, slots=True, eq=False)
class NirDraft:
    """A NIR graph in the making, and what its metadata say.

    Attributes:
        nodes, edges: of the NIR graph; nodes in topological order.
        names: NIR name -> the name it stands for; helpers are called `<node>.<role>`.
        layouts: name of each value that a NIR neuron shows -> where its elements are.
        output: the same of the graph's output, and whether the host accumulates it; of one in words
            what a unit of each is worth, and the layout has an axis more in front.
    """

    nodes: Mapping[str, Any]
    edges: tuple[tuple[str, str], ...]
    names: Mapping[str, str]
    layouts: Mapping[str, Any]
    output: Mapping[str, Any]


def in_order(draft: NirDraft) -> NirDraft:
    """Names whose alphabetical order, in which HDF5 returns them, is the topological one.

    They are also clear of the names that modules have for themselves, and of each other.
    """
    digits = len(str(len(draft.nodes)))
    new = {key: f"n{i:0{digits}}_{key}" for i, key in enumerate(draft.nodes)}
    return replace(
        draft,
        nodes={new[key]: node for key, node in draft.nodes.items()},
        edges=tuple((new[source], new[target]) for source, target in draft.edges),
        names={new[key]: name for key, name in draft.names.items()},
        layouts={n: {**shows, "node": new[shows["node"]]} for n, shows in draft.layouts.items()},
    )


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Neurons of one node, and the synapses that let through only the currents meant for it."""

    neuron: Any
    mask: Any = None


class Dialect(Protocol):
    """The vocabulary; `canonical` says what each word means.

    Attributes:
        EXACT: no partial sum and no state, in its finest steps, may reach this magnitude.
        FLOAT: the type that readers of the dialect compute in.
        FLATTENS: whether synapses from a whole map may have a `Flatten` before them.
    """

    EXACT: int
    FLOAT: str
    FLATTENS: bool

    def neuron_faults(self, op: ops.Neuron, T: int) -> list[str]: ...  # noqa: D102
    def neurons(self, op: ops.Neuron, threshold: IntArray, T: int) -> tuple[Part, ...]: ...  # noqa: D102
    def dressed(self, node: Any, shape: tuple[int, ...]) -> Any: ...  # noqa: D102


def lowest_steps(op: ops.Neuron, threshold: IntArray, T: int) -> IntArray:
    """The lowest membrane that fires, in its finest steps; thresholds in state units."""
    return -(-threshold >> (op.fraction_bits - finest_bits(op, T)))


def state_bound(op: ops.Neuron, threshold: IntArray, T: int, x: IntRange) -> int:
    """The largest whole number that a reader's floats must hold to step a membrane and compare it.

    In the membrane's finest steps. Euler's r x - v is coarser by the bit by which it is larger;
    where the membrane is forgotten at once, it is a difference of two currents. A threshold
    lies between two steps and takes a bit more, unless no membrane gets there.
    """
    membrane = x.magnitude * holds(op, T) << finest_bits(op, T)
    between = 2 * int(lowest_steps(op, threshold, T).max()) - 1
    return max(membrane, x.hi - x.lo, min(2 * membrane, between))


def finest_bits(op: ops.Neuron, T: int) -> int:
    """Bits below a synaptic unit that a membrane can need over T steps."""
    return fraction_loss(op.dv) * (T - 1)


def holds(op: ops.Neuron, T: int) -> int:
    """A membrane is at most so many times its largest current."""
    if op.dv == 0:
        return T
    return 1 if op.dv == ops.DECAY_ONE else 2
