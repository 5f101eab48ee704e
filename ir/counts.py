"""What one node did in a run, in whole numbers: what counters agree upon and prices multiply.

Two count so and share no line: `lapilli.costs.counting` from a recording by closed forms, and the
simulator `event-driven` one delivered event after the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Of one node, over all steps and samples of a run. What a field does not name is not in it.

    An event is a spike of either sign, or a unit of a count; a graded value is none. What events
    cause is counted where they arrive, at the synapses that exist: not in the padding.

    Attributes:
        events: received by what computes (wiring passes them on for nothing), both operands'.
        accumulates: additions of a weight, a row's element or a one, caused by an event.
        multiplies: products of a weight and a graded value that is not zero, each added up; of an
            input and a general neuron's tap, unless that is 0 or a power of two.
        coincidences: of a product's operands: events of the one that met a value of the other
            that is not zero. Of two binary operands the ANDs that were true.
        additions: made at every step, whatever was sent: biases that are not zero, sums of
            currents and of taps, the read-out's.
        compares: with thresholds, or a floor, and of a maximum's values.
        shifts: of a value by a power of two that data decide (`ShiftSum`).
        updates: of a neuron, of its decays, its sum, its compares and its reset.
        sent: events by what fires and by inputs; of a graded value, one for each that is not zero.
    """

    events: int = 0
    accumulates: int = 0
    multiplies: int = 0
    coincidences: int = 0
    additions: int = 0
    compares: int = 0
    shifts: int = 0
    updates: int = 0
    sent: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(**{name: getattr(self, name) + getattr(other, name) for name in FIELDS})

    def times(self, factor: int) -> Counts:
        """So many runs that did the same."""
        return Counts(**{name: getattr(self, name) * factor for name in FIELDS})


FIELDS = tuple(field.name for field in fields(Counts))


def total(counts: Iterable[Counts]) -> Counts:
    """Sum of several nodes' counts."""
    return sum(counts, Counts())
