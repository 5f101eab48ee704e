"""Where images come from: the built-in digits, `.npz` archives, picture files (docs/images.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lapilli.deploy.cli.archives import read_archive
from lapilli.deploy.cli.doctor import need
from lapilli.deploy.cli.files import DIGITS as DIGITS
from lapilli.deploy.cli.pictures import ImageError as ImageError
from lapilli.deploy.cli.pictures import read_picture
from lapilli.ir import ops
from lapilli.ir.network import Network
from lapilli.ir.types import Kind, TensorType

_FEW_EVENTS = 32  # pixels of a whole archive exceed this, counts of events hardly ever


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """Images and what is known of them.

    Attributes:
        pixels: bytes (count, C, H, W), or (count, T, C, H, W) with time.
        labels: (count,) numbers of classes, where they are known.
        source: the name that messages give them.
    """

    pixels: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64] | None = None
    source: str = "images"

    def first(self, count: int | None) -> Images:
        """Return the first `count`, or all."""
        labels = None if self.labels is None else self.labels[:count]
        return Images(self.pixels[:count], labels, self.source)

    def require_fit(self, network: Network) -> None:
        """Check that a network takes these images, and has a class for each label.

        Raises:
            ImageError: another size, number of channels or of steps; more events than the
                network's input counts; a label that is no class.
        """
        wanted = _input(network)
        shape = self.pixels.shape[1:]
        if shape[-3:] != wanted.shape:
            raise ImageError(
                f"{self.source}: images are {_size(shape[-3:])}, the network takes "
                f"{_size(wanted.shape)}; resize them first"
            )
        if len(shape) == 4 and shape[0] != (T := network.graph.T):
            raise ImageError(f"{self.source}: images of {shape[0]} steps, the network takes {T}")
        most = int(self.pixels.max())
        if wanted.kind is not Kind.GRADED and most > wanted.range.hi:
            raise ImageError(
                f"{self.source}: counts of up to {most} events, and the network's input counts to "
                f"{wanted.range.hi}, as its calibration did; calibrate with such images too"
            )
        self.require_classes(network.graph.types[network.graph.outputs[0]].shape[-1])

    def require_classes(self, count: int) -> None:
        """Check that every label is the number of one of `count` classes.

        Raises:
            ImageError: one is not.
        """
        if self.labels is not None and (wrong := np.flatnonzero(self.labels >= count)).size:
            first = int(wrong[0])
            raise ImageError(
                f"{self.source}: label {self.labels[first]} of image {first} is no class; the "
                f"network has {count}, numbered from 0"
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


def training_images(source: str) -> Images:
    """Return images for calibration: the digits' training split, or an archive of the user's own.

    Raises:
        ImageError: neither.
    """
    return _digits(test=False) if source == DIGITS else _archive(source)


def test_images(source: str) -> Images:
    """Return images for comparison: the digits' test split, or an archive of the user's own.

    Raises:
        ImageError: neither.
    """
    return _digits(test=True) if source == DIGITS else _archive(source)


def pictures(paths: Sequence[Path], network: Network) -> npt.NDArray[np.uint8]:
    """Read picture files as bytes (count, C, H, W), in the network's size and channels.

    Raises:
        ImageError: one is no picture that can be taken as it is (`read_picture`), or of
            another size.
    """
    return np.stack([picture(path, network) for path in paths])


def picture(path: Path, network: Network) -> npt.NDArray[np.uint8]:
    """Read one picture file as bytes (C, H, W); see `pictures`.

    Raises:
        ImageError: see `pictures`.
    """
    wanted = _input(network)
    channels, height, width = wanted.shape
    if channels not in (1, 3) or wanted.kind is not Kind.GRADED:
        raise ImageError(
            f"{path}: the network takes {_size(wanted.shape)} {wanted.kind.value}, which no "
            "picture holds; give an .npz archive to compare or golden"
        )
    array = read_picture(path, channels)
    if array.shape[1:] != (height, width):
        raise ImageError(
            f"{path}: is {array.shape[2]} x {array.shape[1]} pixels, the network takes "
            f"{width} x {height}; resize it first"
        )
    return array


def _input(network: Network) -> TensorType:
    """Return the type of the network's image (C, H, W)."""
    names = network.graph.inputs
    op = network.graph[names[0]].op if len(names) == 1 else None
    if not isinstance(op, ops.Input) or len(op.type.shape) != 3:
        shapes = [network.graph.types[name].shape for name in names]
        raise ImageError(f"the network's inputs are {shapes}, not one image (C, H, W)")
    return op.type


def _size(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _digits(*, test: bool) -> Images:
    need("sklearn")
    from lapilli.model.digits import load_digits

    split = load_digits()[int(test)]
    return Images(split.images, split.labels, DIGITS)


def _archive(source: str) -> Images:
    pixels, labels = read_archive(Path(source))
    return Images(pixels, labels, source)
