"""What a model of energy is: quantities that prices multiply, node by node."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

from lapilli.costs.shapes import Dense
from lapilli.costs.traffic import Traffic, Widths
from lapilli.ir.counts import Counts
from lapilli.ir.graph import Graph, Node


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """What was counted in a run, of all its images together.

    Attributes:
        graph: that ran; images: how many.
        counts, traffic: by node; dense: of synapses and products, for one step of one image.
        widths: of what nodes hold.
    """

    graph: Graph
    images: int
    counts: Mapping[str, Counts]
    traffic: Mapping[str, Traffic]
    dense: Mapping[str, Dense]
    widths: Mapping[str, Widths]

    @property
    def steps(self) -> int:
        """Steps of all images."""
        return self.graph.T * self.images


@dataclass(frozen=True, slots=True)
class Term:
    """So many of one operation in one node, in the whole run.

    Attributes:
        node: its name; key: of the price.
        quantity: how many; whole, unless a model estimates or interpolates.
        driven: whether there would be twice as many of twice as many events.
    """

    node: str
    key: str
    quantity: Fraction
    driven: bool


Terms: TypeAlias = Callable[[Measured], Iterator[Term]]
Quantized: TypeAlias = Callable[[Measured, Node], Iterator[Term]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """An equation.

    Attributes:
        name: on the command line and in tables of prices.
        keys: the operations that it prices.
        equation: for people.
        omits: what it does not count, a clause each.
        terms: the quantities of a run.
        quantized: those of one layer of a quantized dense network of the same shape, run once for
            each image; None where such a network is no matter of the model.
        table: of prices by which it is usually read.
        integers: the table for integers, by which a quantized dense network is compared.
    """

    name: str
    keys: tuple[str, ...]
    equation: str
    omits: tuple[str, ...]
    terms: Terms
    quantized: Quantized | None
    table: str
    integers: str
