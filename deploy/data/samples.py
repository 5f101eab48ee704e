"""What every format of data gives: samples that are read one at a time, and their labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from lapilli.deploy.data.pictures import ImageError
from lapilli.ir.recipe import Json

Sample = npt.NDArray[np.uint8] | Image.Image
Labels = npt.NDArray[np.int64]


class Samples(Protocol):
    """Samples by number; nothing is read before it is asked for."""

    def __len__(self) -> int:
        """Return how many there are."""
        ...

    def name(self, index: int) -> str:
        """Return what messages call this sample."""
        ...

    def size(self, index: int) -> int:
        """Return its bytes as stored, which tell two versions of a set apart."""
        ...

    def read(self, index: int) -> Sample:
        """Read one: a picture of mode L or RGB, or bytes (C, H, W) or (T, C, H, W).

        Raises:
            ImageError: it cannot be read.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """What a format makes of a source.

    Attributes:
        format: its name, for people and for the recipe.
        samples: see `Samples`.
        labels: (count,) numbers of classes, where they are known.
        classes: their names, in the order of the numbers; empty where nothing says them.
        rules: what the format decided, for the recipe.
        final: samples that no resize may touch: counts of events.
    """

    format: str
    samples: Samples
    labels: Labels | None = None
    classes: tuple[str, ...] = ()
    rules: dict[str, Json] | None = None
    final: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Samples that lie in one array, in memory or in a file that is mapped.

    Attributes:
        array: uint8, one sample a row.
        source: the name that messages give it.
        shape: of a sample, where the rows are flat.
    """

    array: npt.NDArray[np.uint8]
    source: str
    shape: tuple[int, ...]

    def __len__(self) -> int:
        """Return how many rows there are."""
        return len(self.array)

    def name(self, index: int) -> str:
        """Return the source and the number of the row."""
        return f"image {index} of {self.source}"

    def size(self, index: int) -> int:
        """Return the bytes of a row."""
        return int(self.array[index].nbytes)

    def read(self, index: int) -> Sample:
        """Copy one row, in the shape of a sample."""
        return np.array(self.array[index]).reshape(self.shape)


def numbered(
    source: str, given: Sequence[object] | npt.NDArray[Any], classes: Sequence[str]
) -> tuple[Labels, tuple[str, ...]]:
    """Make numbers of labels, and name the classes; words need, or become, names.

    Args:
        source: the name that messages give the data.
        given: a label for each sample: whole numbers, or words.
        classes: names in the order of their numbers; empty where nobody says them.

    Returns:
        Numbers from 0, and names: those given; else the words, sorted; else none.

    Raises:
        ImageError: numbers and words are mixed, one is negative, or no class has this name.
    """
    words = [v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in given]
    if all(w.isdecimal() or (w[:1] == "-" and w[1:].isdecimal()) for w in words):
        if any(w[0] == "-" or len(w) > 9 for w in words):
            raise ImageError(f"{source}: a label is negative, or huge; classes count from 0")
        return np.array([int(w) for w in words], np.int64), tuple(classes)
    names = tuple(classes) or tuple(sorted(set(words)))
    places = {name: i for i, name in enumerate(names)}
    for index, word in enumerate(words):
        if word not in places:
            raise ImageError(
                f"{source}: label {word!r} of sample {index} is no class; "
                f"there are {', '.join(names[:10])}{', ...' if len(names) > 10 else ''}"
            )
    return np.array([places[w] for w in words], np.int64), names
