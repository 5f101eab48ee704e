"""Where on a scale a number stands, which ticks it has, and how they are written."""

from __future__ import annotations

import math
from dataclasses import dataclass

_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_MOST = 1e6  # parts of the larger end below which a range is no range


@dataclass(frozen=True, slots=True)
class Scale:
    """From numbers to pixels.

    Attributes:
        low, high: ends, different; start, end: pixels of these.
        logarithmic: whether equal steps are equal factors; then low is above 0.
    """

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """Return the pixel of a number."""
        if self.logarithmic:
            part = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            part = (value - self.low) / (self.high - self.low)
        return self.start + part * (self.end - self.start)

    def ticks(self, most: int = 6) -> list[float]:
        """Return round numbers between the ends, about so many."""
        if self.logarithmic:
            lowest, highest = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
            every = max(1, -(-(highest - lowest + 1) // most))
            return [10.0**n for n in range(lowest, highest + 1, every)]
        step = _step((self.high - self.low) / most)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [n * step for n in range(first, last + 1)]


def linear(low: float, high: float, start: float, end: float) -> Scale:
    """Return a linear scale; of equal ends, a little around them."""
    if high - low <= max(abs(low), abs(high)) / _MOST or high == low:
        low, high = low - 0.5, high + 0.5
    return Scale(low, high, start, end)


def logarithmic(low: float, high: float, start: float, end: float) -> Scale:
    """Return a logarithmic scale from one power of ten to another."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    return Scale(10.0**first, 10.0 ** max(last, first + 1), start, end, logarithmic=True)


def short(value: float) -> str:
    """Write a number with at most four digits, as ticks and labels do.

    >>> short(1500), short(0.25), short(-8388608), short(0)
    ('1.5 k', '0.25', '-8.389 M', '0')
    """
    for factor, prefix in _PREFIXES:
        if abs(value) >= factor:
            return f"{value / factor:.4g} {prefix}"
    return f"{value:.4g}"


def _step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * (1 - 1e-9))
