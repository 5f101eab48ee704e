"""How integers are spread, counted as they come; the bins fit whatever came."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_MOST_BINS = 33  # so that weights of up to 6 bits have a bin for each value


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of integers. Bin k holds those from (first + k) << shift up to the next bin.

    Attributes:
        shift: binary logarithm of how many integers a bin holds.
        first: number of the first bin.
        counts: of each bin; the outer two are not 0.
    """

    shift: int
    first: int
    counts: tuple[int, ...]

    @property
    def total(self) -> int:
        """Of all bins."""
        return sum(self.counts)

    @property
    def lowest(self) -> int:
        """Where the first bin begins."""
        return self.first << self.shift

    @property
    def beyond(self) -> int:
        """Where a bin behind the last would begin."""
        return (self.first + len(self.counts)) << self.shift

    def widened(self, by: int) -> Histogram:
        """The same counts in bins that are 2**by times as wide."""
        counts: dict[int, int] = {}
        for k, count in enumerate(self.counts):
            wide = (self.first + k) >> by
            counts[wide] = counts.get(wide, 0) + count
        return Histogram(self.shift + by, min(counts), tuple(counts.values()))


def histogram(values: npt.NDArray[np.int64], shift: int = 0) -> Histogram | None:
    """Count integers of any shape in the narrowest bins of at least 2**shift that are few enough.

    >>> histogram(np.array([-1, 0, 0, 2]))
    Histogram(shift=0, first=-1, counts=(1, 2, 0, 1))
    """
    if not values.size:
        return None
    low, high = int(values.min()), int(values.max())
    shift = max(shift, _shift(low, high))
    counts = np.bincount(((values >> shift) - (low >> shift)).ravel())
    return Histogram(shift, low >> shift, tuple(counts.tolist()))


def joined(one: Histogram | None, other: Histogram | None) -> Histogram | None:
    """Count together what was counted apart; as if all had been counted at once."""
    if one is None or other is None:
        return other if one is None else one
    shift = max(one.shift, other.shift)
    one, other = one.widened(shift - one.shift), other.widened(shift - other.shift)
    first = min(one.first, other.first)
    bins = max(h.first + len(h.counts) for h in (one, other)) - first
    counts = np.zeros(bins, np.int64)
    for h in (one, other):
        counts[h.first - first : h.first - first + len(h.counts)] += np.array(h.counts)
    both = Histogram(shift, first, tuple(counts.tolist()))
    while len(both.counts) > _MOST_BINS:
        both = both.widened(1)
    return both


def _shift(low: int, high: int) -> int:
    shift = 0
    while (high >> shift) - (low >> shift) >= _MOST_BINS:
        shift += 1
    return shift
