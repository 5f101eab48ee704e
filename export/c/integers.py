"""The integer types of C: which of them holds a range, and how a number is written in it."""

from __future__ import annotations

from dataclasses import dataclass

from lapilli.ir.ops import DECAY_ONE
from lapilli.ir.types import IntRange


@dataclass(frozen=True, slots=True)
class Integer:
    """A type of <stdint.h>.

    Attributes:
        name: as C spells it.
        size: in bytes.
        arena: the signed type whose arrays hold it, too: C lets both read the same object.
        values: what it holds.
    """

    name: str
    size: int
    arena: str
    values: IntRange


def _type(bits: int, *, signed: bool = True) -> Integer:
    if signed:
        values = IntRange(-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    else:
        values = IntRange(0, (1 << bits) - 1)
    return Integer(f"{'' if signed else 'u'}int{bits}_t", bits // 8, f"int{bits}_t", values)


I8, I16, I32, I64 = _type(8), _type(16), _type(32), _type(64)
U8, U16, U32 = _type(8, signed=False), _type(16, signed=False), _type(32, signed=False)
STORED = (I8, U8, I16, I32, I64)  # narrowest first: what values, states and constants take


def holding(values: IntRange) -> Integer:
    """The narrowest type that holds a range.

    >>> holding(IntRange(0, 200)).name, holding(IntRange(-1, 200)).name
    ('uint8_t', 'int16_t')
    """
    return next(t for t in STORED if values.lo in t.values and values.hi in t.values)


def work(*values: IntRange) -> Integer:
    """The type in which sums and products of these ranges are computed: 32 bits, or 64."""
    return I32 if all(r.lo in I32.values and r.hi in I32.values for r in values) else I64


def literal(value: int) -> str:
    """Spell a number, so that its type holds it: C has no negative literals.

    >>> literal(-5), literal(-(1 << 63))
    ('-5', '(-INT64_C(9223372036854775807) - 1)')
    """
    if value == -(1 << 63):
        return f"(-INT64_C({-(value + 1)}) - 1)"
    if value == -(1 << 31):
        return f"(-INT32_C({-(value + 1)}) - 1)"
    if value in I16.values:
        return str(value)
    macro = "INT32_C" if value in I32.values else "INT64_C"
    return f"{macro}({value})" if value >= 0 else f"-{macro}({-value})"


def shifted(x: str, bits: int) -> str:
    """X times a power of two; rounded down where bits are negative. C shifts nothing negative."""
    if bits >= 0:
        return x if bits == 0 else f"{x} * {literal(1 << bits)}"
    return f"({x} >= 0 ? {x} >> {-bits} : -1 - ((-1 - {x}) >> {-bits}))"


def two_parts(place: str, kept: str) -> str:
    """A state times so many 4096ths, toward zero, where one product might not have 64 bits.

    C divides toward zero, so that the state's two parts have one sign.
    """
    high = f"(int64_t){place} / {DECAY_ONE} * {kept}"
    return f"({high} + (int64_t){place} % {DECAY_ONE} * {kept} / {DECAY_ONE})"
