"""Scales m * 2**-e for each output channel: those by which rounded weights lie nearest, or given.

All scales of a group of units are multiples of one power of two, and few significant bits keep
every product with an integer exact in float64: five here, so that neighbours lie 3 to 6 % apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
_STEPS = 16  # scales from one power of two to the next: 16, 17 ... 31 sixteenths of it
_FINER = 24  # that are tried below the one that holds the largest weight
_WIDEST = 11  # powers of two between scales of channels, so that factors have 16 bits
_SPAN = 9  # powers of two between the largest weights of channels; with _FINER, 16 bits of a factor


@dataclass(frozen=True, slots=True)
class ChannelScales:
    """Output scales of a group of units.

    Attributes:
        unit: of which every channel's scale is a multiple: a power of two, times what is odd in
            the scale of the units' inputs.
        factors: output channel -> its scale in units.
        exponents: unit of the plan -> its weights are multiples of 2**exponent.
    """

    unit: Fraction
    factors: tuple[int, ...]
    exponents: Mapping[str, int]


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Weights of one unit of a group.

    Attributes:
        weight: (channels, inputs), real.
        gain: real output of a weight of 1 at an input of 1, in units of the group's scale.
        bits: of a weight.
    """

    weight: FloatArray
    gain: float
    bits: int

    @property
    def most(self) -> int:
        """The largest integer weight."""
        return (1 << (self.bits - 1)) - 1

    def tops(self) -> FloatArray:
        """Output scale for each channel that holds its largest weight; 0 if all are 0."""
        return np.asarray(np.abs(self.weight).max(axis=1) / self.most * self.gain)

    def errors(self, scales: FloatArray) -> FloatArray:
        """Squared error of each channel's outputs by these output scales."""
        each = (scales / self.gain)[:, None]
        rounded = np.rint(self.weight / each).clip(-self.most, self.most)
        error: FloatArray = np.square(self.weight - rounded * each).sum(axis=1) * self.gain**2
        return error


def channel_scales(
    members: Mapping[str, Rows], *, together: int = 1, quarters: int = 0
) -> ChannelScales:
    """Choose a scale for each channel, and for each unit a power of two in it.

    Args:
        members: the units of a group; each has as many channels.
        together: so many neighbouring channels get one scale.
        quarters: of a doubling, by which all scales are coarser than those chosen.
    """
    exponents = _exponents(members)
    shifts = {name: float(2 ** exponents[name]) for name in members}
    starts = np.arange(0, len(next(iter(members.values())).weight), together)
    each = [rows.tops() / shifts[name] for name, rows in members.items()]
    tops = np.maximum.reduceat(np.max(each, axis=0), starts)
    if not tops.any():
        tops = np.ones_like(tops)
    largest = _above(np.where(tops > 0, tops, tops.max()))
    largest = largest.clip(largest.max() - _STEPS * _SPAN)
    tried = largest - np.arange(_FINER + 1)[:, None]  # (scales, groups of channels)
    errors = [_error(members, shifts, _value(some), starts) for some in tried]
    best = largest - np.argmin(errors, axis=0) + quarters * _STEPS // 4
    return _assembled(best, together, len(next(iter(members.values())).weight), exponents)


def nearest_scales(
    wanted: Mapping[str, FloatArray], channels: int, *, together: int = 1
) -> ChannelScales:
    """Find the scales nearest to those that are wanted, in parts of them.

    Members of a group share the scale of a channel but for a power of two of each: it is the
    geometric mean of what they want.

    Args:
        wanted: unit of a group -> positive output scales, one for each group of channels.
        channels: that each unit has.
        together: so many neighbouring channels have one scale.
    """
    logs = {name: np.log2(scales) for name, scales in wanted.items()}
    middle = {name: float(np.median(each)) for name, each in logs.items()}
    exponents = {name: round(value - min(middle.values())) for name, value in middle.items()}
    mean = np.mean([each - exponents[name] for name, each in logs.items()], axis=0)
    whole = np.floor(mean)
    numbers = np.rint((whole + np.exp2(mean - whole) - 1) * _STEPS).astype(np.int64)
    highest = int(numbers.max()) // _STEPS
    numbers = numbers.clip((highest - _WIDEST) * _STEPS)
    return _assembled(numbers, together, channels, exponents)


def _assembled(
    numbers: npt.NDArray[np.int64], together: int, channels: int, exponents: Mapping[str, int]
) -> ChannelScales:
    """Scales by their numbers, as multiples of the largest power of two that divides them all."""
    wide = np.repeat(numbers, together)[:channels]
    lowest = int(wide.min()) // _STEPS
    factors = [(_STEPS + int(n) % _STEPS) << (int(n) // _STEPS - lowest) for n in wide]
    shared = int(np.bitwise_or.reduce(factors))
    shared &= -shared
    unit = Fraction(2) ** lowest / _STEPS * shared
    return ChannelScales(unit, tuple(m // shared for m in factors), exponents)


def _exponents(members: Mapping[str, Rows]) -> dict[str, int]:
    """How many times coarser each unit is than the finest, in the middle of its channels."""
    tops = {name: rows.tops() for name, rows in members.items()}
    alive = np.logical_and.reduce([top > 0 for top in tops.values()])
    if not alive.any():
        return dict.fromkeys(members, 0)
    middle = {name: float(np.median(np.log2(top[alive]))) for name, top in tops.items()}
    finest = min(middle.values())
    return {name: round(value - finest) for name, value in middle.items()}


def _error(
    members: Mapping[str, Rows],
    shifts: Mapping[str, float],
    scales: FloatArray,
    starts: Sequence[int] | npt.NDArray[np.int64],
) -> FloatArray:
    first = next(iter(members.values()))
    counts = np.diff([*starts, len(first.weight)])
    wide = np.repeat(scales, counts)
    total = sum(rows.errors(wide * shifts[name]) for name, rows in members.items())
    return np.asarray(np.add.reduceat(np.asarray(total), starts))


def _value(number: npt.NDArray[np.int64]) -> FloatArray:
    """The scale of that number, in their order: (16 + n mod 16) / 16 * 2**(n div 16)."""
    return np.asarray(np.ldexp((_STEPS + number % _STEPS) / _STEPS, number // _STEPS))


def _above(scales: FloatArray) -> npt.NDArray[np.int64]:
    """Number of the smallest scale that is not below these."""
    fraction, exponent = np.frexp(scales)  # 0.5 <= fraction < 1
    step = np.ceil(fraction * 2 * _STEPS).astype(np.int64) - _STEPS
    return np.asarray((exponent.astype(np.int64) - 1) * _STEPS + step)
