"""Convert a graph to NIR node by node, and collect what NIR cannot represent.

An operation that needs no node of its own gets none: wiring moves book-keeping, and a sum
is two edges into whatever uses it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import nir
import numpy as np
from typing_extensions import assert_never

from lapilli.export.nir.write.builder import NirBuilder
from lapilli.export.nir.write.dialect import Dialect, NirDraft
from lapilli.export.nir.write.joins import add, join
from lapilli.export.nir.write.neurons import fire, hold, integrate
from lapilli.export.nir.write.offsets import offsets_of, placed_beside
from lapilli.export.nir.write.placement import NotRepresentableError, Placed, describe
from lapilli.export.nir.write.synapses import add_up, convolve, linear, read_out
from lapilli.ir import ops
from lapilli.ir.errors import Unsupported, UnsupportedError
from lapilli.ir.graph import Graph, Node
from lapilli.ir.types import IntRange


class Lowering:
    """Emit NIR nodes for one graph, node by node, and collect what must be refused.

    Args:
        graph: to convert.
        dialect: which makes the nodes.
        most: weights of all nodes together.
        sums: where all partial sums of its values lie, in whatever order they are taken.
        refused: reasons known already.
    """

    def __init__(
        self,
        graph: Graph,
        dialect: Dialect,
        most: int,
        sums: Mapping[str, IntRange],
        refused: Sequence[Unsupported] = (),
    ) -> None:
        self.graph = graph
        self.file = NirBuilder(graph, dialect, most, sums)
        self._placed: dict[str, Placed | None] = {}  # None: unknown, after a refusal
        self._reasons = list(refused)
        self._read_out = _only_read_out(graph)
        self._offsets = offsets_of(graph)  # of which nothing is made but where they are added
        self._units: tuple[int, ...] = (1,)  # of what the output is made of

    def visit(self, node: Node) -> None:
        """Emit a node, or note why not; a refusal hides no later one."""
        faults = self._faults(node)
        heard = (self._offsets[i].heard if i in self._offsets else i for i in node.inputs)
        inputs = [p for i in heard if (p := self._placed[i]) is not None]
        self._placed[node.name] = None
        if node.name in self._offsets:
            return
        if not faults and len(inputs) == len(node.inputs):
            try:
                placed = self._emit(node, inputs)
                if len(self._units) == 1:  # words of a read-out are as long as fits
                    self.file.check_exact(self.file.sums[node.name].magnitude)
                self._placed[node.name] = placed
            except NotRepresentableError as refused:
                faults = [str(refused)]
        self._reasons += [Unsupported(node.name, fault) for fault in faults]

    def finish(self) -> NirDraft:
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
        if len(value.sources) > 1:  # importers do not add up what arrives at an output
            value = self.file.same(f"{name}.same", value)
        output: dict[str, Any] = {
            "name": name,
            "layout": describe(value),
            "accumulate": isinstance(self.graph[name].op, ops.Readout),
        }
        if len(self._units) > 1:
            output["units"] = list(self._units)
        self.file.put("output", nir.Output(np.array(value.shape)), value, value.shape)
        return NirDraft(
            self.file.nodes, tuple(self.file.edges), self.file.names, self.file.layouts, output
        )

    def _faults(self, node: Node) -> list[str]:
        """What is wrong with a node, wherever its inputs live."""
        op = node.op
        faults = (
            self.file.dialect.neuron_faults(op, self.graph.T) if isinstance(op, ops.Neuron) else []
        )
        if any(isinstance(self.graph[i].op, ops.Readout) for i in node.inputs):
            faults.append("uses a read-out, which only the host accumulates")
        return faults

    def _emit(self, node: Node, inputs: list[Placed]) -> Placed:
        op, name = node.op, node.name
        match op:
            case ops.Input(type=t):
                key = self.file.name(name)
                self.file.nodes[key] = nir.Input(np.array(t.shape))
                return Placed.whole(key, t.shape)
            case ops.Reshape() | ops.Permute() | ops.Expand() | ops.Slice() | ops.Delay():
                return inputs[0].wired(op)
            case ops.Readout():
                return inputs[0]
            case ops.Linear() if name in self._read_out:
                placed, self._units = read_out(self.file, node, op, inputs[0])
                return placed
            case ops.Linear():
                return linear(self.file, name, op, inputs[0])
            case ops.Conv2d():
                return convolve(self.file, name, op, inputs[0])
            case ops.Add():
                return add(self.file, name, *self._summands(node, inputs))
            case ops.Sum():
                return add_up(self.file, name, op, inputs[0])
            case ops.Concat():
                return join(self.file, name, op, inputs)
            case ops.Neuron():
                return fire(self.file, node, op, inputs[0])
            case ops.GeneralNeuron():
                return hold(self.file, node, inputs[0])
            case ops.Membrane():
                return integrate(self.file, node, op, inputs[0])
            case (
                ops.SpikeMatmul()
                | ops.ShiftSum()
                | ops.Gate()
                | ops.MaxPool2d()
                | ops.Staircase()
                | ops.Relu()
            ):
                raise TypeError(f"{type(op).__name__} is lowered before NIR sees it")
            case _:
                assert_never(op)

    def _summands(self, node: Node, inputs: list[Placed]) -> tuple[Placed, Placed]:
        """Both operands of a sum; constants are put where the other one lies."""
        a, b = inputs
        first, second = (self._offsets.get(i) for i in node.inputs)
        if first is not None:
            a = placed_beside(self.file, f"{node.name}.offsets", first, a, b)
        if second is not None:
            b = placed_beside(self.file, f"{node.name}.offsets", second, b, a)
        return a, b


def _only_read_out(graph: Graph) -> set[str]:
    """Names of the nodes that nothing reads but the host."""
    inside = {
        i for node in graph.nodes if not isinstance(node.op, ops.Readout) for i in node.inputs
    }
    shown = {*graph.outputs, *(i for o in graph.outputs for i in graph[o].inputs)}
    return shown - inside
