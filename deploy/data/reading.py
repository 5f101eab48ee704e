"""Data of one source, read when they are asked for, and how they are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from lapilli.deploy.data.binning import Binning
from lapilli.deploy.data.pictures import ImageError
from lapilli.deploy.data.samples import Found, Labels, Sample
from lapilli.deploy.data.transforms import Transform, as_bytes, as_picture
from lapilli.ir.recipe import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """How data are read; the same for every format.

    Attributes:
        transform: resize and crop of pictures, as the caller says; None is not said.
        binning: of events, as the caller says.
        usual_transform, usual_binning: a network's own, where the caller does not say.
        channels: 1 or 3, which pictures are converted to; None keeps what they are.
        classes: names of a network's classes, by which labels may be words.
        test: which half of a set that comes in two.
        skip_unreadable: go on without samples that cannot be read, instead of stopping.
        numbers: samples are no images; arrays of any shape are taken as they are.
        names: of several inputs, which an archive holds under these names.
    """

    transform: Transform | None = None
    binning: Binning = field(default_factory=Binning)
    usual_transform: Transform = field(default_factory=Transform)
    usual_binning: Binning = field(default_factory=Binning)
    channels: int | None = None
    classes: tuple[str, ...] = ()
    test: bool = True
    skip_unreadable: bool = False
    numbers: bool = False
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Readable:
    """What could be read of the samples that were asked for.

    Attributes:
        indices: of those.
        pixels: uint8 (n, C, H, W), or (n, T, C, H, W); or numbers of another shape.
        unreadable: a sentence for each of the others.
    """

    indices: Labels
    pixels: npt.NDArray[Any]
    unreadable: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Data:
    """Samples with labels, read when they are asked for; pixels are never held.

    Attributes:
        source: the name that messages give them.
        found: what the format gave.
        transform: resize and crop of every sample.
        shape: of one sample: (C, H, W), or (T, C, H, W); any other of what is no image.
        dtype: of its values; bytes of an image.
        remembered: what the network says of reading, and nobody else, as on a command line;
            empty where it says nothing.
    """

    source: str
    found: Found
    transform: Transform
    shape: tuple[int, ...]
    dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype(np.uint8))
    remembered: str = ""

    def __len__(self) -> int:
        """Return how many samples there are."""
        return len(self.found.samples)

    @property
    def labels(self) -> Labels | None:
        """Numbers of classes (count,), or None."""
        return self.found.labels

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes in the order of their numbers; empty if nothing says them."""
        return self.found.classes

    def name(self, index: int) -> str:
        """Return what messages call a sample."""
        return self.found.samples.name(index)

    def read(self, indices: Sequence[int] | Labels) -> npt.NDArray[Any]:
        """Read samples as uint8 (n, C, H, W), or (n, T, C, H, W), or as numbers (n, ...).

        Raises:
            ImageError: names the first that cannot be read, or has another shape than the first
                of the set.
        """
        out = np.empty((len(indices), *self.shape), self.dtype)
        for row, index in enumerate(indices):
            out[row] = self._fitting(int(index), self.found.samples.read(int(index)))
        return out

    def read_readable(self, indices: Sequence[int] | Labels) -> Readable:
        """Read what can be read, and name the rest.

        Raises:
            ImageError: one can be read, and has another shape than the first of the set.
        """
        kept, pixels, lost = [], [], []
        for index in indices:
            try:
                sample = self.found.samples.read(int(index))
            except ImageError as error:
                lost.append(str(error))
                continue
            pixels.append(self._fitting(int(index), sample))
            kept.append(int(index))
        stacked = np.stack(pixels) if pixels else np.empty((0, *self.shape), self.dtype)
        return Readable(indices=np.array(kept, np.int64), pixels=stacked, unreadable=tuple(lost))

    def _fitting(self, index: int, sample: Sample) -> npt.NDArray[Any]:
        array = transformed(sample, self.transform, self.name(index))
        if array.shape != self.shape:
            raise ImageError(
                f"{self.name(index)}: is {_size(array.shape)}, and "
                f"others are {_size(self.shape)}; give --resize HEIGHTxWIDTH"
            )
        return array

    def describe(self) -> dict[str, Json]:
        """Return format and every transform, for a recipe; never a path."""
        return {
            "format": self.found.format,
            "shape": list(self.shape),
            **({"order": "classes in turn"} if self.found.mixed else {}),
            **(self.found.rules or {}),
            **self.transform.describe(),
        }


def data_of(source: str, found: Found, how: How) -> Data:
    """Say how the samples that were found are read, and of which shape the first is.

    Raises:
        ImageError: there is none; or none, or with `how.skip_unreadable` not a single one, can be
            read; or the caller says what this format cannot take.
    """
    if not len(found.samples):
        raise ImageError(f"{source}: is empty")
    if how.transform is not None and how.transform.changes and found.final:
        raise ImageError(f"{source}: frames are not resized or cropped; leave --resize and --crop")
    if how.binning.said and not found.binned:
        raise ImageError(f"{source}: holds no events; leave --frames, --bin-by and --sensor")
    usual = Transform() if found.final else how.usual_transform
    transform = usual if how.transform is None else how.transform
    remembered = str(usual) if how.transform is None else ""
    if found.binned:
        remembered = str(how.usual_binning.but_for(how.binning))
    first: ImageError | None = None
    for index in range(len(found.samples) if how.skip_unreadable else 1):
        try:
            sample = found.samples.read(index)
        except ImageError as error:
            first = first or error
            continue
        first_read = transformed(sample, transform, found.samples.name(index))
        return Data(
            source=source,
            found=found,
            transform=transform,
            shape=first_read.shape,
            dtype=first_read.dtype,
            remembered=remembered,
        )
    if how.skip_unreadable:
        raise ImageError(f"{source}: none of {len(found.samples):,} can be read: {first}")
    raise first or ImageError(f"{source}: is empty")


def transformed(sample: Sample, transform: Transform, name: str) -> npt.NDArray[Any]:
    """Resize and crop one sample, and return its bytes, or its numbers.

    Raises:
        ImageError: it is no picture, or too small for the crop.
    """
    if isinstance(sample, np.ndarray):
        if not transform.changes:
            return sample
        sample = as_picture(sample, name)
    return as_bytes(transform.apply(sample, name))


def _size(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
