"""The graph: an immutable, topologically ordered, well-typed tuple of nodes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from lapilli.ir import ops
from lapilli.ir.canonical import canonical
from lapilli.ir.errors import GraphError
from lapilli.ir.infer import infer
from lapilli.ir.types import TensorType


@dataclass(frozen=True, slots=True)
class Node:
    """One application of an op. It has one value, known by the node's name."""

    name: str
    op: ops.Op
    inputs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Graph:
    """A graph that exists is well-formed and well-typed: construction checks it.

    Attributes:
        nodes: in an order in which every input precedes its use.
        outputs: names of the values the graph returns.
        T: time steps of a sample; every sample starts from rest.
        types: proven type of every value, by name (derived).
        by_name: the nodes by their names (derived).

    Raises:
        GraphError: duplicate name, unknown input, or an ill-typed op; names the node.
    """

    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    T: int
    types: Mapping[str, TensorType] = field(init=False, repr=False, compare=False)
    by_name: Mapping[str, Node] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.T < 1:
            raise GraphError("T", f"a sample of {self.T} time steps")
        types: dict[str, TensorType] = {}
        for node in self.nodes:
            if node.name in types:
                raise GraphError(node.name, "name is used twice")
            if missing := [i for i in node.inputs if i not in types]:
                raise GraphError(node.name, f"input {missing[0]!r} is not defined before it")
            try:
                types[node.name] = infer(node.op, tuple(types[i] for i in node.inputs), self.T)
            except ValueError as error:
                raise GraphError(node.name, str(error)) from error
        if missing := [o for o in self.outputs if o not in types]:
            raise GraphError(missing[0], "is an output but not a node")
        object.__setattr__(self, "types", MappingProxyType(types))
        by_name = {node.name: node for node in self.nodes}
        object.__setattr__(self, "by_name", MappingProxyType(by_name))

    def __getitem__(self, name: str) -> Node:
        """The node of this name, in constant time.

        Raises:
            KeyError: there is none.
        """
        return self.by_name[name]

    def ancestors(
        self, names: Iterable[str], stop: Callable[[Node], bool] = lambda _: False
    ) -> frozenset[str]:
        """Names of all that `names` depend on, themselves included.

        Args:
            names: of nodes; where to begin.
            stop: at these nodes the walk ends: they are in the answer, their operands are not.
        """
        found = set(names)
        for node in reversed(self.nodes):
            if node.name in found and not stop(node):
                found.update(node.inputs)
        return frozenset(found)

    def without_dead(self, keep: Iterable[str] = ()) -> Graph:
        """The graph without nodes that neither an output nor `keep` depends on; inputs stay."""
        needed = self.ancestors((*self.outputs, *keep))
        nodes = tuple(n for n in self.nodes if n.name in needed or isinstance(n.op, ops.Input))
        return Graph(nodes, self.outputs, self.T)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the values that a run must be given."""
        return tuple(n.name for n in self.nodes if isinstance(n.op, ops.Input))

    @property
    def neurons(self) -> tuple[str, ...]:
        """Names of the neuron nodes, which have a membrane, in topological order."""
        return tuple(n.name for n in self.nodes if isinstance(n.op, ops.Integrating))

    @property
    def firing(self) -> tuple[str, ...]:
        """Names of the nodes that fire, with a membrane or without, in topological order."""
        return tuple(n.name for n in self.nodes if isinstance(n.op, ops.Firing))

    @property
    def membranes(self) -> tuple[str, ...]:
        """Names of the nodes that show a membrane to the read-out, in topological order."""
        return tuple(n.name for n in self.nodes if isinstance(n.op, ops.Membrane))

    @property
    def recorded(self) -> tuple[str, ...]:
        """What every simulator records: all that fires, membranes that are read, outputs."""
        return tuple(dict.fromkeys((*self.firing, *self.membranes, *self.outputs)))

    @property
    def digest(self) -> str:
        """Sha-256 of the graph's content: equal graphs, equal digests, on every machine.

        See `lapilli.ir.canonical`: a later version, whose ops have more attributes, finds the same.
        """
        lines = [f"{node.name!r} {node.inputs!r} {canonical(node.op)}" for node in self.nodes]
        text = "\n".join([*lines, repr(self.outputs), str(self.T)])
        return hashlib.sha256(text.encode()).hexdigest()

    def _repr_html_(self) -> str:
        """Show a notebook the nodes, with what is proved of their values."""
        from lapilli.pictures.tables import table  # Lava's worker has no pictures

        rows = [
            (node.name, type(node.op).__name__, ", ".join(node.inputs), self.types[node.name])
            for node in self.nodes
        ]
        caption = f"graph {self.digest[:12]}, {len(self.nodes):,} nodes, T = {self.T}"
        return table(("node", "op", "of", "value"), rows, caption=caption)
