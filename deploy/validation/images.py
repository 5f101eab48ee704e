"""The images that a validation takes, read a few at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lapilli.deploy.comparison.compare import Pixels
from lapilli.deploy.data.reading import Data, Readable

_SPOTS = 16  # images whose pixels say that a set is the one that was begun with


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageSet:
    """Labelled images; none is held.

    Attributes:
        data: which reads them.
        count: how many of them, from the first.
        labels: of those (count,), or None.
        skip_unreadable: go on without images that cannot be read.
        require_fit: raises for pixels that the network does not take.
    """

    data: Data
    count: int
    labels: npt.NDArray[np.int64] | None
    skip_unreadable: bool
    require_fit: Callable[[Pixels], None]

    def read(self, numbers: Sequence[int]) -> Readable:
        """Read images by number.

        Raises:
            ImageError: one cannot be read and none may be left out; or the network takes no such.
        """
        if self.skip_unreadable:
            read = self.data.read_readable(numbers)
        else:
            pixels = self.data.read(numbers)
            read = Readable(indices=np.array(numbers, np.int64), pixels=pixels, unreadable=())
        if len(read.indices):
            self.require_fit(read.pixels)
        return read

    def describe(self) -> dict[str, Any]:
        """Say which set it is: how it is read, all labels, and pixels of 16 images of it.

        Raises:
            ImageError: see `read`.
        """
        spots = np.unique(np.linspace(0, self.count - 1, min(_SPOTS, self.count)).astype(int))
        read = self.read(spots.tolist())
        pixels = hashlib.sha256(np.ascontiguousarray(read.pixels).data).hexdigest()
        labels = None
        if self.labels is not None:
            labels = hashlib.sha256(self.labels.astype("<i8").tobytes()).hexdigest()
        return {**self.data.describe(), "labels": labels, "pixels of 16 images": pixels}
