"""A stage: one function of C, which computes the value of a node, or of two in one go."""

from __future__ import annotations

from dataclasses import dataclass, field

from lapilli.export.c.constants import Constant
from lapilli.export.c.integers import Integer
from lapilli.export.c.views import View
from lapilli.ir.graph import Node


@dataclass(frozen=True, slots=True)
class Memory:
    """An array that a stage is given.

    Attributes:
        name: of the parameter.
        type: of its elements.
        count: of elements.
        row: of a state: the elements that a whole sample needs at a time; 0 if it needs none,
            because they are in a variable.
    """

    name: str
    type: Integer
    count: int
    row: int = 0


@dataclass(frozen=True, slots=True)
class Operand:
    """A value that a stage reads: where it lies, and the parameter that points there."""

    name: str
    view: View
    type: Integer
    step: str  # elements from one time step to the next: a number, or a parameter of an input's


@dataclass(frozen=True, slots=True)
class Stage:
    """One function.

    Attributes:
        name: an identifier.
        nodes: whose values are computed; that of the last is kept, of the others nothing.
        operands: in the order of its parameters.
        value: where the value lies in its buffer, as the last node's shape is.
        type: of the value's elements.
        states: what is kept from step to step.
        scratch: what it works on.
        constants: numbers in flash.
        body: lines of C.
        timed: whether it must know how many steps are behind.
    """

    name: str
    nodes: tuple[Node, ...]
    operands: tuple[Operand, ...]
    value: View
    type: Integer
    states: tuple[Memory, ...] = ()
    scratch: tuple[Memory, ...] = ()
    constants: tuple[Constant, ...] = ()
    body: tuple[str, ...] = field(default=(), repr=False)
    timed: bool = False

    @property
    def node(self) -> Node:
        """The node whose value is kept."""
        return self.nodes[-1]
