"""Where images come from: the digits, data of any known format, pictures (docs/data.md)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import typer

from lapilli.deploy.cli.doctor import need
from lapilli.deploy.cli.files import DIGITS as DIGITS
from lapilli.deploy.cli.frame import printable
from lapilli.deploy.cli.own_sequences import own_sequence
from lapilli.deploy.cli.own_source import own_source
from lapilli.deploy.data.pictures import ImageError as ImageError
from lapilli.deploy.data.pictures import open_picture
from lapilli.deploy.data.source import Data, How, open_data, open_sequence
from lapilli.deploy.data.transforms import Transform, as_bytes
from lapilli.ir import ops
from lapilli.ir.network import Network
from lapilli.ir.recipe import Json
from lapilli.ir.types import Kind, TensorType

_FEW_EVENTS = 32  # pixels of a whole archive exceed this, counts of events hardly ever
_MOST = 2 << 30  # bytes of images that one command holds


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """Images and what is known of them.

    Attributes:
        pixels: bytes (count, C, H, W), or (count, T, C, H, W) with time.
        labels: (count,) numbers of classes, where they are known.
        source: the name that messages give them.
        told: how they were read, for a recipe.
    """

    pixels: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64] | None = None
    source: str = "images"
    told: Mapping[str, Json] = field(default_factory=dict)

    def first(self, count: int | None) -> Images:
        """Return the first `count`, or all."""
        labels = None if self.labels is None else self.labels[:count]
        return Images(self.pixels[:count], labels, self.source, self.told)

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
                f"{_size(wanted.shape)}; give --resize, or resize them first"
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


def training_images(source: str, how: How | None = None, count: int | None = None) -> Images:
    """Return images for calibration: the digits' training split, or data of the user's own.

    Raises:
        ImageError: neither.
    """
    asked = replace(how or How(), test=False)
    if source == DIGITS:
        return _digits(test=False).first(count)
    return _own(source, asked, count, "--calibration-count")


def held_out_images(source: str, how: How | None = None, count: int | None = None) -> Images:
    """Return images for comparison: the digits' test split, or data of the user's own.

    Raises:
        ImageError: neither.
    """
    if source == DIGITS:
        return _digits(test=True).first(count)
    return _own(source, how or How(), count, "--count")


def how_for(network: Network, how: How | None = None) -> How:
    """Return how data are read for a network: in its channels, T and names of classes."""
    asked = how or How()
    binning = replace(asked.binning, frames=asked.binning.frames or network.graph.T)
    channels = _input(network).shape[0]
    known = channels if channels in (1, 3) else None
    return replace(asked, channels=known, classes=network.classes, binning=binning)


def pictures(
    paths: Sequence[Path], network: Network, transform: Transform | None = None
) -> npt.NDArray[np.uint8]:
    """Read picture files as bytes (count, C, H, W), in the network's size and channels.

    Raises:
        ImageError: one is no picture that can be taken by a stated rule (`open_picture`), or of
            another size after what `transform` does.
    """
    return np.stack([picture(path, network, transform) for path in paths])


def picture(
    path: Path, network: Network, transform: Transform | None = None
) -> npt.NDArray[np.uint8]:
    """Read one picture file as bytes (C, H, W); see `pictures`.

    Raises:
        ImageError: see `pictures`.
    """
    wanted = _input(network)
    channels, height, width = wanted.shape
    if channels not in (1, 3) or wanted.kind is not Kind.GRADED:
        raise ImageError(
            f"{path}: the network takes {_size(wanted.shape)} {wanted.kind.value}, which no "
            "picture holds; give frames or events to compare or golden (docs/data.md)"
        )
    opened = open_picture(path, str(path), channels)
    array = as_bytes((transform or Transform()).apply(opened, str(path)))
    if array.shape[1:] != (height, width):
        raise ImageError(
            f"{path}: is {array.shape[2]} x {array.shape[1]} pixels, the network takes "
            f"{width} x {height}; give --resize, or resize it first"
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


def _own(source: str, how: How, count: int | None, option: str) -> Images:
    """Read data of the user's own; all of them, or the first `count`, which `option` gives."""
    data = open_source(source, how)
    wanted = len(data) if count is None else min(count, len(data))
    if (size := wanted * math.prod(data.shape)) > _MOST:
        raise ImageError(
            f"{source}: {wanted:,} images would take {size / 2**30:.1f} GiB here; give {option}"
        )
    if not how.skip_unreadable:
        labels = None if data.labels is None else data.labels[:wanted]
        return Images(data.read(range(wanted)), labels, source, data.describe())
    got = data.read_readable(range(wanted))
    if not len(got.pixels):
        raise ImageError(f"{source}: none of {wanted:,} images can be read: {got.unreadable[0]}")
    for sentence in got.unreadable:
        typer.echo(printable(f"left out: {sentence}"), err=True)
    if got.unreadable:
        typer.echo(f"{len(got.unreadable):,} of {wanted:,} images are left out", err=True)
    labels = None if data.labels is None else data.labels[got.indices]
    return Images(got.pixels, labels, source, data.describe())


def open_source(source: str, how: How) -> Data:
    """Open data by the name that a command line gives; FILE.py:NAME runs that file's code.

    Raises:
        ImageError: of no known format, or damaged.
        ModuleFileError: code that does not import.
    """
    if (named := own_source(source)) is None:
        if not Path(source).exists():
            raise ImageError(
                f"{source}: expected {DIGITS!r}, or a file or folder of data (docs/data.md); "
                "there is none of this name"
            )
        return open_data(source, how)
    return open_sequence(own_sequence(named), source, how)
