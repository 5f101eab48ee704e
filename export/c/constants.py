"""Numbers that stand in flash: arrays of C, and weights packed at their bits."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from lapilli.export.c.integers import I8, I16, I32, U8, Integer, holding, literal
from lapilli.ir.tensor import IntArray
from lapilli.ir.types import IntRange

_MOST_PACKED = 24  # bits of a number that a window of 32 holds wherever it begins in a byte


@dataclass(frozen=True, slots=True, eq=False)
class Constant:
    """An array in flash.

    Attributes:
        name: in C.
        node: that it belongs to.
        what: it is, in words.
        values: in the order in which they lie.
        bits: of each, packed into bytes, the lowest first; 0 where they are plain integers.
    """

    name: str
    node: str
    what: str
    values: IntArray = field(repr=False)
    bits: int = 0

    @property
    def type(self) -> Integer:
        """Of the array's elements."""
        return U8 if self.bits else holding(_range(self.values))

    @property
    def stored(self) -> list[int]:
        """The elements of the array."""
        return packed(self.values, self.bits) if self.bits else self.values.ravel().tolist()

    @property
    def bytes(self) -> int:
        """What it takes of flash."""
        if not self.bits:
            return self.values.size * self.type.size
        return -(-self.values.size * self.bits // 8) + _window(self.bits) - 1

    @property
    def unpacked(self) -> Integer:
        """The type that one of them has once it is unpacked."""
        if not self.bits:
            return self.type
        return next(t for t in (I8, I16, I32) if 8 * t.size >= self.bits)


def weights(name: str, node: str, what: str, values: IntArray) -> Constant:
    """Weights at the bits that they need; in plain bytes where those are as many."""
    bits = (_range(values) | IntRange(-1, 0)).bits
    plain = bits > _MOST_PACKED or bits == 8 * holding(_range(values) | IntRange(-1, 0)).size
    return Constant(name, node, what, values, 0 if plain else bits)


def packed(values: IntArray, bits: int) -> list[int]:
    """Two's complement of `bits` bits each, the first number in the lowest bits of the first byte.

    Behind the last byte stand as many zeros as a reader of whole windows looks at.

    >>> packed(np.array([1, -1, 2]), 4)
    [241, 2, 0]
    """
    places = np.arange(bits, dtype=np.int64)
    each = (values.ravel()[:, None] >> places & 1).astype(np.uint8)
    whole = np.packbits(each.ravel(), bitorder="little")
    return [*whole.tolist(), *[0] * (_window(bits) - 1)]


def _window(bits: int) -> int:
    """Bytes that hold a number wherever in the first of them it begins."""
    return -(-(bits + 7) // 8)


def unpacker(constant: Constant) -> list[str]:
    """The function that unpacks numbers of as many bits as these: one for each number of bits."""
    bits, row = constant.bits, constant.unpacked.name
    window = " | ".join(f"(uint32_t)from[{i}] << {8 * i}" for i in range(_window(bits)))
    return [
        f"/* Unpacks {bits} bits each: numbers first .. first + count - 1 of an array. */",
        f"static void unpack_{bits}(const uint8_t *from, uint32_t first, int32_t count, "
        f"{row} *restrict to)",
        "{",
        f"    uint32_t bit = first * {bits}u;",
        "    int32_t i;",
        f"    for (i = 0; i < count; i++, bit += {bits}u) {{",
        "        uint32_t word;",
        "        const uint8_t *at = from + (bit >> 3);",
        f"        word = {window.replace('from', 'at')};",
        f"        word = word >> (bit & 7u) & {(1 << bits) - 1}u;",
        f"        to[i] = ({row})((int32_t)(word ^ {1 << (bits - 1)}u) - {1 << (bits - 1)});",
        "    }",
        "}",
        "",
    ]


def declared(constant: Constant) -> list[str]:
    """The array as C declares it."""
    return array(constant.name, constant.type, constant.stored)


def array(name: str, ctype: Integer, numbers: list[int]) -> list[str]:
    """Declare an array of numbers that do not change."""
    width = {1: 24, 2: 16}.get(ctype.size, 8)
    spelled = list(map(str if ctype.size == 1 else literal, numbers))
    rows = (f"    {', '.join(spelled[i : i + width])}," for i in range(0, len(spelled), width))
    return [f"static const {ctype.name} {name}[{len(numbers)}] = {{", *rows, "};"]


def _range(values: IntArray) -> IntRange:
    return IntRange(int(values.min()), int(values.max()))
