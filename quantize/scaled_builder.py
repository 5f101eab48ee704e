"""A graph in the making whose values have scales, and two of them brought to one."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from lapilli.ir import ops
from lapilli.ir.builder import GraphBuilder
from lapilli.ir.tensor import IntTensor
from lapilli.ir.types import Kind

_MOST_TIMES = 64  # that a value is added to itself, to share the scale of another


@dataclass(frozen=True, slots=True)
class ScaledValue:
    """A node and its scale.

    Attributes:
        over: "mean" or "last", if that is still to be taken of its steps.
        finer: of a membrane, its bits below the unit that the plan knows.
    """

    node: str
    scale: Fraction
    over: Literal["steps", "mean", "last"] = "steps"
    finer: int = 0


class ScaledBuilder(GraphBuilder):
    """Nodes so far, and wiring of values that keeps their scale."""

    def emit(self, name: str, op: ops.Op, *inputs: str) -> str:
        """Add a node; a name that is taken gets the next free number.

        Raises:
            ValueError: the inputs do not fit the op.
        """
        return self.put(self.free(name), op, *inputs)

    def wired(self, name: str, op: ops.Op, x: ScaledValue) -> ScaledValue:
        """Add a node that moves or compares what it is given; the scale stays."""
        return replace(x, node=self.emit(name, op, x.node))

    def shaped(self, name: str, x: ScaledValue, shape: tuple[int, ...]) -> ScaledValue:
        """Reshape or repeat to `shape`, whichever it takes.

        Raises:
            ValueError: neither leads there.
        """
        has = self.types[x.node].shape
        if has == shape:
            return x
        if math.prod(has) != math.prod(shape):
            aligned = (1,) * (len(shape) - len(has)) + has
            x = self.shaped(name, x, aligned)
            return self.wired(name, ops.Expand(shape=shape), x)
        return self.wired(name, ops.Reshape(shape=shape), x)

    def pooled(
        self, name: str, pool: ops.MaxPool2d, x: ScaledValue, shape: tuple[int, ...]
    ) -> ScaledValue:
        """Pool the last two axes, all before them as channels; the result has `shape`.

        Raises:
            ValueError: the pool does not fit the map.
        """
        has = self.types[x.node].shape
        x = self.shaped(f"{name}.map", x, (math.prod(has[:-2]), *has[-2:]))
        return self.shaped(f"{name}.shape", self.wired(name, pool, x), shape)

    def multiplied(self, name: str, x: ScaledValue, scale: Fraction) -> ScaledValue:
        """Bring a value to a finer scale: add it to itself, or negate it by a synapse.

        Raises:
            ValueError: that would take too many sums.
        """
        times = x.scale / scale
        kind = self.types[x.node]
        if times < 0 and kind.kind is not Kind.GRADED:
            weight = IntTensor.of([[int(times)]])
            x = self.shaped(f"{name}.one", x, (*kind.shape, 1))
            made = ops.Linear(weight=weight, bias=IntTensor.of([0]))
            negative = ScaledValue(self.emit(f"{name}.negative", made, x.node), scale, x.over)
            return self.shaped(f"{name}.one", negative, kind.shape)
        if times < 0 or times > _MOST_TIMES:
            raise ValueError(f"adds values whose scales differ by {float(times):g}")
        if times == 1:
            return x
        x = self.shaped(f"{name}.one", x, (*kind.shape, 1))
        x = self.wired(f"{name}.copies", ops.Expand(shape=(*kind.shape, int(times))), x)
        total = ops.Sum(axes=(len(kind.shape),))
        return ScaledValue(self.emit(f"{name}.times", total, x.node), scale, x.over)


def compared(x: ScaledValue) -> ScaledValue:
    """Return a value whose order matters.

    Raises:
        ValueError: it is negated.
    """
    if x.scale <= 0:
        raise ValueError("compares a negated current; negate the weights instead")
    return x


def like(args: list[ScaledValue], node: str, scale: Fraction) -> ScaledValue:
    """Return the value of a node that combines others.

    Raises:
        ValueError: some of them have steps, others none.
    """
    if len({a.over for a in args}) > 1:
        raise ValueError("combines a mean over time with a value that has steps")
    return ScaledValue(node, scale, args[0].over)
