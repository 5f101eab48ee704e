"""How wide a target holds which numbers, how much room it has, and who says so."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from lapilli.ir.types import IntRange


class Register(enum.Enum):
    """What holds a number; the value is what messages and pages call it."""

    WEIGHT = "weights"  # without the powers of two that those of a synapse share
    VALUE = "value"  # of a node, at any step
    SUM = "partial sums"  # of a node, in any order of addition
    INPUT = "input of one step"  # of a neuron, behind its shift
    STATE = "state"  # u and v of a neuron
    THRESHOLD = "threshold"
    BIAS = "bias"  # of a neuron


class Grade(enum.Enum):
    """How far a number can be trusted."""

    OWN_CODE = "its own code"  # of what is described: read, and run here
    MODEL_CODE = "code that models it"  # published, and not by the chip itself
    STANDARD = "standard"
    SECOND_HAND = "second hand"  # papers that use the chip, articles about it
    UNKNOWN = "unknown"  # no public figure was found


class Sign(enum.Enum):
    """Where the sign of a number is; the value is what stands behind the bits on a page."""

    INSIDE = ""  # one of the bits
    APART = " and a sign"
    NONE = ", unsigned"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """How wide a number may be. Both signs reach equally far.

    Attributes:
        bits: of the register.
        source: paper, table or file.
        grade: how far that can be trusted.
        sign: whether it is one of the bits.
        below: lowest bits of the number that the register does not hold.
    """

    bits: int
    source: str
    grade: Grade
    sign: Sign = Sign.INSIDE
    below: int = 0

    @property
    def largest(self) -> int:
        """Largest magnitude of the number.

        >>> Limit(bits=24, source="", grade=Grade.STANDARD).largest == 2**23 - 1
        True
        """
        return (1 << (self.bits - (self.sign is Sign.INSIDE) + self.below)) - 1

    def needed(self, values: IntRange) -> int:
        """Bits that a register for these values needs, counted as in `bits`."""
        if self.sign is not Sign.INSIDE:
            return max(1, values.magnitude.bit_length() - self.below)
        needed = _signed_bits(values) - self.below
        return needed if self.holds(values) else max(needed, self.bits + 1)

    def holds(self, values: IntRange) -> bool:
        """Whether the register holds these values."""
        return values.magnitude <= self.largest

    def __str__(self) -> str:
        return f"{self.bits}{self.sign.value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """A register of which nobody says how wide it is: nothing is refused, and that is told."""

    source: str = "no public figure found"
    grade: Grade = Grade.UNKNOWN

    def needed(self, values: IntRange) -> int:
        """Bits that a register for these values needs, its sign among them."""
        return _signed_bits(values)

    def holds(self, values: IntRange) -> bool | None:
        """Nobody knows."""
        return None

    def __str__(self) -> str:
        return "unknown"


class Resource(enum.Enum):
    """What a core has so much of; the value is what pages call it."""

    NEURONS = "neurons"
    AXONS_IN = "input axons"  # sources that it hears
    AXONS_OUT = "output axons"  # pairs of a neuron of its own and a core that hears it
    SYNAPSES = "bits of synapses"  # weights, each as often as the core stores it


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A number of a chip, from `low` to `high` where sources differ; both None if unknown."""

    low: int | None
    high: int | None
    source: str
    grade: Grade

    @classmethod
    def known(cls, value: int, source: str, grade: Grade, high: int | None = None) -> Figure:
        """Return one number, or a range."""
        return cls(low=value, high=value if high is None else high, source=source, grade=grade)

    @classmethod
    def unknown(cls) -> Figure:
        """Return what nobody says."""
        return cls(low=None, high=None, source="no public figure found", grade=Grade.UNKNOWN)

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return "unknown"
        return f"{self.low:,}" if self.low == self.high else f"{self.low:,} to {self.high:,}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cores:
    """Of a chip whose cores are alike.

    Attributes:
        count: cores of a chip.
        each: what a core has, by resource; all of them are named.
        systems: chips of what can be had, by name, the smallest first.
    """

    count: Figure
    each: Mapping[Resource, Figure]
    systems: Mapping[str, Figure]


def _signed_bits(values: IntRange) -> int:
    return (values | IntRange(-1, 0)).bits


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a graph may be meant for.

    Attributes:
        name: on the command line and in files.
        about: a sentence.
        limits: by register; what has none is limited by what it is made of.
        weight_bits, input_bits: most that `quantize` makes of a weight, and of a pixel.
        gives_up: whether states and weights give up bits so that all fits, or it is refused.
        stock: weights give up bits before a neuron takes a state that stock neurons do not have.
        cores: how much room there is; None of what has no cores.
    """

    name: str
    about: str
    limits: Mapping[Register, Limit | Unknown]
    weight_bits: int = 8
    input_bits: int = 16
    gives_up: bool = True
    stock: bool = False
    cores: Cores | None = None

    @property
    def state_bits(self) -> int:
        """Bits of a state, its sign among them."""
        limit = self.limits[Register.STATE]
        if isinstance(limit, Unknown):
            raise TypeError(f"nobody says how wide a state of {self.name} is")
        return limit.bits
