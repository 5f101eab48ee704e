"""What flows on an edge: an integer tensor with a proven range and a kind."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from typing_extensions import Self

if TYPE_CHECKING:
    from lapilli.ir.channel_ranges import ChannelRanges


@dataclass(frozen=True, slots=True)
class IntRange:
    """The closed interval [lo, hi] that holds every element, at every time step.

    >>> IntRange(0, 1) + IntRange(-3, 5)
    IntRange(lo=-3, hi=6)
    >>> IntRange(-128, 127).bits
    8
    """

    lo: int
    hi: int

    def __post_init__(self) -> None:
        if self.lo > self.hi:
            raise ValueError(f"empty range [{self.lo}, {self.hi}]")

    @property
    def bits(self) -> int:
        """Width of the narrowest two's-complement (or, if lo >= 0, unsigned) integer."""
        if self.lo >= 0:
            return max(1, self.hi.bit_length())
        return max(self.hi, -self.lo - 1).bit_length() + 1

    @property
    def magnitude(self) -> int:
        """Largest absolute value."""
        return max(abs(self.lo), abs(self.hi))

    def __add__(self, other: IntRange) -> IntRange:
        return IntRange(self.lo + other.lo, self.hi + other.hi)

    def __or__(self, other: IntRange) -> IntRange:
        """Smallest range that holds both."""
        return IntRange(min(self.lo, other.lo), max(self.hi, other.hi))

    def __contains__(self, value: int) -> bool:
        return self.lo <= value <= self.hi

    def __mul__(self, other: IntRange) -> IntRange:
        """Range of a product of two independent values."""
        corners = [a * b for a in (self.lo, self.hi) for b in (other.lo, other.hi)]
        return IntRange(min(corners), max(corners))

    def shifted(self, bits: int) -> IntRange:
        """Range of x << bits, or of x >> -bits, rounded down, where bits are negative."""
        if bits >= 0:
            return IntRange(self.lo << bits, self.hi << bits)
        return IntRange(self.lo >> -bits, self.hi >> -bits)

    def times(self, count: int) -> IntRange:
        """Range of a sum of `count` such values."""
        return IntRange(self.lo * count, self.hi * count)


BINARY = IntRange(0, 1)
TERNARY = IntRange(-1, 1)


class Kind(enum.Enum):
    """What an edge carries, and so what a synapse must do with it.

    SPIKES: subset of {-1, 0, 1}; a synapse adds or subtracts its weight.
    COUNTS: a sum of spike values, never negative; as many events as the count.
    GRADED: any bounded integer; only synapses marked `graded` take it.
    """

    SPIKES = "spikes"
    COUNTS = "counts"
    GRADED = "graded"


@dataclass(frozen=True, slots=True)
class TensorType:
    """Shape, range and kind of one time step of one sample.

    Time and batch are never part of `shape`. `channels` says more of single elements than `range`,
    which is the smallest that holds them all; None if nothing more is known. It follows from
    the operands, and does not make two types different.
    """

    shape: tuple[int, ...]
    range: IntRange
    kind: Kind
    channels: ChannelRanges | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.channels is not None and self.channels.whole != self.range:
            raise ValueError(f"channels reach {self.channels.whole}, all together {self.range}")
        if self.range.magnitude >> 63:
            needs = f"[{self.range.lo}, {self.range.hi}] needs {self.range.bits} bits"
            raise ValueError(f"{needs} and leaves 64-bit integers")
        inside = {Kind.SPIKES: TERNARY, Kind.COUNTS: IntRange(0, max(0, self.range.hi))}
        allowed = inside.get(self.kind)
        if allowed and not (self.range.lo in allowed and self.range.hi in allowed):
            raise ValueError(f"[{self.range.lo}, {self.range.hi}] cannot be {self.kind.value}")

    @classmethod
    def spikes(cls, *shape: int) -> Self:
        """Binary spikes of this shape."""
        return cls(shape, BINARY, Kind.SPIKES)

    @property
    def is_binary(self) -> bool:
        """Whether the values are spikes in {0, 1}."""
        return self.kind is Kind.SPIKES and self.range.lo >= 0

    def __str__(self) -> str:
        kind = "spikes" if self.is_binary else f"{self.kind.value}[{self.range.lo},{self.range.hi}]"
        return f"{kind}{list(self.shape)}".replace(" ", "")
