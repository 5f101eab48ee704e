"""How right a map of classes is: the mean over classes of intersection over union."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

import numpy as np

from lapilli.ir.tensor import IntArray

IGNORED = 255  # of a place of which nobody says the class


def mean_overlap(maps: Iterable[IntArray], labels: Iterable[IntArray], classes: int) -> Fraction:
    """Mean IoU of all places of all images together, of the classes that occur.

    A class occurs where a label or an answer names it. Places labelled `IGNORED` count nowhere.

    >>> mean_overlap([np.array([[0, 1]])], [np.array([[0, 0]])], 3)
    Fraction(1, 4)
    """
    counts = np.zeros((classes, classes), np.int64)  # of places, by label and answer
    for answer, label in zip(maps, labels, strict=True):
        known = label != IGNORED
        place = label[known] * classes + answer[known]
        counts += np.bincount(place, minlength=classes**2).reshape(classes, classes)
    both = np.diagonal(counts)
    either = counts.sum(0) + counts.sum(1) - both
    shares = [Fraction(int(b), int(e)) for b, e in zip(both, either, strict=True) if e]
    return sum(shares, Fraction(0)) / len(shares) if shares else Fraction(0)
