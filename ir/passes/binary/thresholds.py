"""Neurons without memory: comparisons, AND, OR, bit planes and rectifiers.

Bit planes come by successive approximation, the most significant bit first: each is a neuron
that sees the value less what the bits above already said, and compares it with 2^b.
"""

from __future__ import annotations

import numpy as np

from lapilli.ir import ops
from lapilli.ir.passes.binary.building import Building
from lapilli.ir.tensor import IntArray, IntTensor
from lapilli.ir.types import IntRange


def reaches(level: IntArray | int) -> ops.Neuron:
    """Fires where its input is at least `level`, which must be positive; forgets at once.

    The threshold is 64 * vth + 1, which means the same under >= and under Loihi's v > 64 * vth.
    """
    vth = np.asarray(level, np.int64) - 1
    return ops.Neuron(
        threshold=IntTensor.of(np.atleast_1d((vth << ops.LOIHI_FRACTION_BITS) + 1)),
        dv=ops.DECAY_ONE,
        fraction_bits=ops.LOIHI_FRACTION_BITS,
    )


def compare(build: Building, name: str, x: str, level: IntArray | int) -> tuple[str, ops.Neuron]:
    """Input and neuron of x >= level, whatever the sign: what is not positive is shifted."""
    lowest = int(np.min(level))
    shift = max(0, 1 - lowest)
    return build.scaled(f"{name}.shift", x, 1, shift), reaches(np.asarray(level) + shift)


def rectified(
    build: Building, name: str, x: str, most: int, lowest: int = 0
) -> tuple[tuple[int, str], ...]:
    """Bit planes of max(x, 0), for x <= `most`: below zero no bit is reached, and none fires.

    From the bit `lowest` up: what is below is not asked.

    Returns:
        (weight, neuron node) of each plane, the most significant first.
    """
    planes: list[tuple[int, str]] = []
    rest = x
    for bit in reversed(range(lowest, most.bit_length())):
        plane = build.new(f"{name}.plane{bit}", reaches(1 << bit), rest)
        planes.append((1 << bit, plane))
        if bit > lowest:
            taken = build.scaled(f"{plane}.taken", plane, -(1 << bit))
            rest = build.total(f"{plane}.rest", [rest, taken])
    return tuple(planes)


def planes(build: Building, name: str, x: str, bounds: IntRange) -> tuple[tuple[int, str], ...]:
    """Bit planes of x - lo, for x in [lo, hi]."""
    above = build.scaled(f"{name}.above", x, 1, -bounds.lo)
    return rectified(build, name, above, bounds.hi - bounds.lo)


AND = reaches(2)
OR = reaches(1)
