"""A graph in the making, node by node, within the limits for files that nobody trusts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from lapilli.export import limits
from lapilli.export.malformed import MalformedError
from lapilli.ir import ops
from lapilli.ir.builder import GraphBuilder
from lapilli.ir.tensor import IntArray


@dataclass(frozen=True, slots=True, eq=False)
class ImportedValue:
    """A value of the graph: real = integer * unit.

    `layers` are those whose synapses can be written with a finer unit to make this one's finer;
    none, if it holds spikes or the input. `late` says by how many steps whoever reads it takes it
    late, one number or one for each element; `shown` that a membrane is in it, for the answer.
    """

    name: str
    unit: Fraction
    layers: frozenset[str] = frozenset()
    late: IntArray | None = None
    shown: bool = False


class BoundedBuilder(GraphBuilder):
    """A graph in the making whose values stay within the limits."""

    def put(self, name: str, op: ops.Op, *inputs: str) -> str:
        """Add a node under exactly this name; return the name.

        Raises:
            MalformedError: the op does not take these inputs, or its value is too large.
        """
        try:
            super().put(name, op, *inputs)
        except ValueError as error:
            raise MalformedError(str(error)) from error
        if math.prod(self.types[name].shape) > limits.MOST_ELEMENTS:
            raise MalformedError(f"a value of shape {list(self.types[name].shape)}")
        return name
