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

    def __init__(self, items: Any, source: str, count: int, *, numbers: bool) -> None:
        self._items, self._source, self._count = items, source, count
        self._numbers = numbers
        self._failed: dict[int, ImageError] = {}  # while labels were asked for

    def __len__(self) -> int:
        """Return how many items are looked at."""
        return self._count

    def name(self, index: int) -> str:
        """Return the source and the number of the item."""
        return f"item {index} of {self._source}"

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
        if index in self._failed:
            raise self._failed[index]
        image, _ = self.item(index)
        if isinstance(image, Image.Image):
            if image.mode not in ("L", "RGB"):
                raise ImageError(f"{self.name(index)}: is of mode {image.mode}, not L or RGB")
            return image
        array = np.asarray(image)
        if self._numbers and array.ndim and array.dtype.kind in "biuf":
            return array
        if array.dtype != np.uint8 or array.ndim not in (3, 4):
            raise ImageError(
                f"{self.name(index)}: is {array.dtype} {array.shape}, not a picture or uint8 "
                "(C, H, W), or (T, C, H, W) with time; leave out ToTensor and Normalize"
            )
        return array

    def labels(self, *, skip: bool) -> list[Any] | None:
        """Ask every item for its label; None where the first that can be read has none.

        An item that fails has no label; with `skip` it fails again when its image is asked for.

        Raises:
            ImageError: one fails, without `skip`; or lacks a label, and others do not.
        """
        given: list[Any] = []
        for index in range(self._count):
            try:
                label = self.item(index)[1]
            except ImageError as error:
                if not skip:
                    raise
                self._failed[index] = error
                continue
            if label is None and len(self._failed) == index:
                return None
            if label is None:
                raise ImageError(f"{self.name(index)}: has no label, and others do")
            given.append(label)
        for index in self._failed:
            given.insert(index, given[0] if given else 0)
        return given


def sequence(
    items: Any,
    source: str,
    classes: Sequence[str],
    count: int | None,
    *,
    skip: bool,
    numbers: bool = False,
) -> Found:
    """Take the items of a sequence; labels of `targets` if it has them, else of every item.

    Args:
        items: whose `__len__` and `__getitem__` are called.
        source: the name that messages give it.
        classes: names, by which labels may be words.
        count: only the first items; None takes all.
        skip: whether items that fail are left out later, instead of stopping now.
        numbers: whether items are arrays of any shape, and no images.

    Raises:
        ImageError: it is no sequence, or its items are no images.
    """
    if not hasattr(items, "__len__") or not hasattr(items, "__getitem__"):
        raise ImageError(f"{source}: {type(items).__name__} lacks __len__ or __getitem__")
    try:
        total = len(items)
    except Exception as error:  # their code may raise anything
        raise ImageError(f"{source}: __len__ fails: {type(error).__name__}: {error}") from error
    chosen = total if count is None else min(count, total)
    samples = _Items(items, source, chosen, numbers=numbers)
    known = tuple(classes) or tuple(str(c) for c in getattr(items, "classes", ()))
    if not len(samples):
        raise ImageError(f"{source}: is empty")
    targets = getattr(items, "targets", None)
    given = samples.labels(skip=skip) if targets is None else targets
    if given is None:
        return Found(format="sequence", samples=samples, classes=known, final=numbers)
    try:
        array = np.asarray(given)
    except Exception as error:  # tensors of a device, ragged lists
        raise ImageError(f"{source}: labels are no list of numbers or words ({error})") from error
    if array.ndim == 3 and array.dtype.kind in "iu" and len(array) in (total, len(samples)):
        maps = array[: len(samples)].astype(np.int64)
        return Found(format="sequence", samples=samples, labels=maps, classes=known, final=numbers)
    if array.ndim != 1 or (targets is not None and len(array) != total):
        raise ImageError(f"{source}: labels are {array.shape}, for {total} items; one each, (N,)")
    labels, names = numbered(source, array[: len(samples)].tolist(), known)
    return Found(format="sequence", samples=samples, labels=labels, classes=names, final=numbers)
