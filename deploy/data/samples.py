"""What every format of data gives: samples that are read one at a time, and their labels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from lapilli.deploy.data.pictures import ImageError
from lapilli.ir.recipe import Json

Sample = npt.NDArray[Any] | Image.Image
Labels = npt.NDArray[np.int64]
TRAINING, TEST = ("train", "training"), ("test", "val", "valid", "validation")  # names of halves
_NUMBER = re.compile(r"-?[0-9]+")
_REAL = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[-+]?[0-9]+)?", re.IGNORECASE)


class Samples(Protocol):
    """Samples by number; nothing is read before it is asked for."""

    def __len__(self) -> int:
        """Return how many there are."""
        ...

    def name(self, index: int) -> str:
        """Return what messages call this sample."""
        ...

    def read(self, index: int) -> Sample:
        """Read one: a picture of mode L or RGB, bytes (C, H, W) or (T, C, H, W), or numbers.

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
        labels: (count,) numbers of classes, where they are known; or (count, H, W), one for each
            place.
        classes: their names, in the order of the numbers; empty where nothing says them.
        rules: what the format decided, for the recipe.
        final: samples that no resize may touch: they have time.
        binned: whether the samples were events, which the command line may say how to bin.
        mixed: whether classes, which lie one after the other, were made to take turns.
    """

    format: str
    samples: Samples
    labels: Labels | None = None
    classes: tuple[str, ...] = ()
    rules: dict[str, Json] | None = None
    final: bool = False
    binned: bool = False
    mixed: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Samples that lie in one array, in memory or in a file that is mapped.

    Attributes:
        array: uint8, or numbers of what is no image; one sample a row.
        source: the name that messages give it.
        shape: of a sample, where the rows are flat.
    """

    array: npt.NDArray[Any]
    source: str
    shape: tuple[int, ...]

    def __len__(self) -> int:
        """Return how many rows there are."""
        return len(self.array)

    def name(self, index: int) -> str:
        """Return the source and the number of the row."""
        return f"image {index} of {self.source}"

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
        ImageError: one is neither, or negative, or of no class; or words are numbers, and the
            names of other classes.
    """
    for index, label in enumerate(given):
        if isinstance(label, bool) or not isinstance(label, int | np.integer | str | bytes):
            raise ImageError(
                f"{source}: label {label!r} of sample {index} is no whole number, and no word"
            )
    words = [v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in given]
    names = tuple(classes) or tuple(sorted(set(words)))
    places = {name: i for i, name in enumerate(names)}
    if all(_NUMBER.fullmatch(word) for word in words):
        if any(w[0] == "-" or len(w) > 9 for w in words):
            raise ImageError(f"{source}: a label is negative, or huge; classes count from 0")
        for word in sorted({v for v in given if isinstance(v, str)} & set(classes)):
            if places[word] != int(word):
                raise ImageError(
                    f"{source}: label {word!r} is the name of class {places[word]}, and class "
                    f"{word} has another name; give the numbers as numbers, in .npz"
                )
        return np.array([int(w) for w in words], np.int64), tuple(classes)
    if all(_REAL.fullmatch(word) for word in words):
        raise ImageError(f"{source}: labels such as {words[0]!r} are no whole numbers")
    for index, word in enumerate(words):
        if word not in places:
            raise ImageError(
                f"{source}: label {word!r} of sample {index} is no class; "
                f"there are {', '.join(names[:10])}{', ...' if len(names) > 10 else ''}"
            )
    return np.array([places[w] for w in words], np.int64), names
