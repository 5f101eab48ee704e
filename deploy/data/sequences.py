"""Anything with `__len__` and `__getitem__`, such as a Dataset of PyTorch's: its code runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from lapilli.deploy.data.pictures import ImageError
from lapilli.deploy.data.samples import Found, Sample, numbered


class _Items:
    """Images of a sequence whose items are an image, or an image and a label."""

    def __init__(self, items: Any, source: str) -> None:
        self._items, self._source = items, source

    def __len__(self) -> int:
        """Return how many items there are."""
        return len(self._items)

    def name(self, index: int) -> str:
        """Return the source and the number of the item."""
        return f"item {index} of {self._source}"

    def size(self, index: int) -> int:
        """Return 0: nothing is stored that could be measured."""
        return 0

    def item(self, index: int) -> tuple[Any, Any]:
        """Return what the sequence gives, with None where it has no label.

        Raises:
            ImageError: its code fails.
        """
        try:
            item = self._items[index]
        except Exception as error:  # their code may raise anything
            raise ImageError(
                f"{self.name(index)}: fails: {type(error).__name__}: {error}"
            ) from error
        if isinstance(item, tuple | list) and len(item) == 2:
            return item[0], item[1]
        return item, None

    def read(self, index: int) -> Sample:
        """Take the image of one item."""
        image, _ = self.item(index)
        if isinstance(image, Image.Image):
            if image.mode not in ("L", "RGB"):
                raise ImageError(f"{self.name(index)}: is of mode {image.mode}, not L or RGB")
            return image
        array = np.asarray(image)
        if array.dtype != np.uint8 or array.ndim not in (3, 4):
            raise ImageError(
                f"{self.name(index)}: is {array.dtype} {array.shape}, not a picture or uint8 "
                "(C, H, W), or (T, C, H, W) with time; leave out ToTensor and Normalize"
            )
        return array


def sequence(items: object, source: str, classes: Sequence[str]) -> Found:
    """Take the items of a sequence; labels of `targets` if it has them, else of every item.

    Args:
        items: whose `__len__` and `__getitem__` are called.
        source: the name that messages give it.
        classes: names, by which labels may be words.

    Raises:
        ImageError: it is no sequence, or its items are no images.
    """
    if not hasattr(items, "__len__") or not hasattr(items, "__getitem__"):
        raise ImageError(f"{source}: {type(items).__name__} lacks __len__ or __getitem__")
    samples = _Items(items, source)
    if not len(samples):
        raise ImageError(f"{source}: is empty")
    given: list[Any] | None = None
    if samples.item(0)[1] is not None:
        targets = getattr(items, "targets", None)
        own = targets if targets is not None else [samples.item(i)[1] for i in range(len(samples))]
        given = np.asarray(own).tolist()
        if len(given) != len(samples):
            raise ImageError(f"{source}: {len(given)} targets of {len(samples)} items")
    known = tuple(classes) or tuple(str(c) for c in getattr(items, "classes", ()))
    if given is None:
        return Found(format="sequence", samples=samples, classes=known)
    labels, names = numbered(source, given, known)
    return Found(format="sequence", samples=samples, labels=labels, classes=names)
