"""Images in memory, what is known of them, and whether a network takes them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lapilli.deploy.comparison.overlap import IGNORED
from lapilli.deploy.data.pictures import ImageError
from lapilli.ir import ops
from lapilli.ir.errors import InputError
from lapilli.ir.network import Network, Task
from lapilli.ir.recipe import Json
from lapilli.ir.types import Kind, TensorType

_FEW_EVENTS = 32  # pixels of a whole archive exceed this, counts of events hardly ever


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """Images and what is known of them.

    Attributes:
        pixels: bytes (count, C, H, W), or (count, T, C, H, W) with time; or numbers of any other
            shape.
        labels: (count,) numbers of classes, where they are known; or (count, H, W), one for each
            place.
        source: the name that messages give them.
        told: how they were read, for a recipe.
        names: what messages call each of them; empty where nothing does.
        classes: what the data call the classes, in the order of the labels' numbers; empty where
            they do not.
    """

    pixels: npt.NDArray[Any]
    labels: npt.NDArray[np.int64] | None = None
    source: str = "images"
    told: Mapping[str, Json] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()

    def first(self, count: int | None) -> Images:
        """Return the first `count`, or all."""
        labels = None if self.labels is None else self.labels[:count]
        return replace(self, pixels=self.pixels[:count], labels=labels, names=self.names[:count])

    def numbered_as(self, classes: Sequence[str]) -> Images:
        """Return them with labels that count in this order of names, where it has all of theirs."""
        if self.labels is None or not self.classes or not set(self.classes) <= set(classes):
            return self
        places = np.array([list(classes).index(name) for name in self.classes], np.int64)
        return replace(self, labels=places[self.labels], classes=tuple(classes))

    def facts(self) -> dict[str, Json]:
        """Return what a recipe keeps: how they were read, how many, and a digest of all pixels."""
        digest = hashlib.sha256(np.ascontiguousarray(self.pixels).data).hexdigest()
        return {**self.told, "count": len(self.pixels), "sha256": digest}

    def require_fit(self, network: Network) -> None:
        """Check that a network takes these images, and has a class for each label.

        Raises:
            ImageError: another size, number of channels or of steps; more events than the
                network's input counts; a label that is no class.
        """
        if network.parts:
            try:
                network.encode(self.pixels[:1])
            except InputError as error:
                raise ImageError(f"{self.source}: {error}") from error
            self.require_labels(network)
            return
        wanted, image = input_type(network), network.image
        shape = self.pixels.shape[1:]
        timed = len(shape) > len(image) and network.encoding is None
        if shape[timed:] != image:
            pixels = network.encoding is not None or network.input.takes_pixels
            advice = "; give --resize, or resize them first" if pixels else ""
            raise ImageError(
                f"{self.source}: images are {size_text(shape[-len(image) :])}, the network "
                f"takes {size_text(image)}{advice}"
            )
        if timed and shape[0] != (T := network.graph.T):
            raise ImageError(f"{self.source}: images of {shape[0]} steps, the network takes {T}")
        most = int(self.pixels.max())
        counts = wanted.kind is not Kind.GRADED and network.encoding is None and not network.ids
        if counts and most > wanted.range.hi:
            raise ImageError(
                f"{self.source}: counts of up to {most} events, and the network's input counts to "
                f"{wanted.range.hi}, as its calibration did; calibrate with such images too"
            )
        self.require_labels(network)

    def require_labels(self, network: Network) -> None:
        """Check that labels are of the network's kind, and each the number of one of its classes.

        Raises:
            ImageError: they are not.
        """
        if self.labels is None or network.task is Task.VALUES:
            return
        shape = network.answer_shape
        if self.labels.shape[1:] != shape[1:]:
            raise ImageError(
                f"{self.source}: labels of one image are {size_text(self.labels.shape[1:]) or 1}, "
                f"and the network gives a class to each of {size_text(shape[1:]) or 1}"
            )
        classes, wrong = network.class_count, self.labels >= network.class_count
        if network.task is Task.MAP:
            wrong &= self.labels != IGNORED
        if wrong.any():
            first = int(np.argwhere(wrong)[0][0])
            raise ImageError(
                f"{self.source}: label {self.labels[wrong][0]} of image {first} is no class; the "
                f"network has {classes}, numbered from 0"
            )

    def require_pixels(self) -> None:
        """Check that images with time, given as pixels, are not counts of events.

        Raises:
            ImageError: all are small integers, which pixel / 255 would make darkness.
        """
        most = int(self.pixels.max())
        if self.pixels.ndim == 5 and most < _FEW_EVENTS:
            raise ImageError(
                f"{self.source}: frames of no value above {most}: numbers of events? Then say "
                "--counts; if they are pixels of 0 to 255, these images show nothing"
            )


def input_type(network: Network) -> TensorType:
    """Return the type of the network's image (C, H, W), or of what else it takes."""
    names = network.graph.inputs
    op = network.graph[names[0]].op if len(names) == 1 else None
    pixels = network.input.takes_pixels and network.encoding is None
    if not isinstance(op, ops.Input) or (pixels and len(op.type.shape) != 3):
        shapes = [network.graph.types[name].shape for name in names]
        raise ImageError(f"the network's inputs are {shapes}, not one image (C, H, W)")
    return op.type


def size_text(shape: Sequence[int]) -> str:
    """Write a shape for people."""
    return " x ".join(map(str, shape))
