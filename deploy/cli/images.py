"""Where images come from: the digits, data of any known format, pictures (docs/data.md)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import typer

from lapilli.deploy.cli.doctor import need
from lapilli.deploy.cli.frame import printable
from lapilli.deploy.cli.image_set import Images, input_type, size_text
from lapilli.deploy.cli.options import DIGITS
from lapilli.deploy.cli.own_sequences import own_sequence
from lapilli.deploy.cli.own_source import own_source
from lapilli.deploy.data.binning import Binning, remembered_binning
from lapilli.deploy.data.pictures import ImageError, open_picture
from lapilli.deploy.data.reading import Data, How, data_of
from lapilli.deploy.data.samples import Found, Rows
from lapilli.deploy.data.source import open_data, open_sequence
from lapilli.deploy.data.transforms import Transform, as_bytes, remembered_transform
from lapilli.ir.network import Network
from lapilli.ir.types import Kind

_MOST = 2 << 30  # bytes of images that one command holds


def training_images(source: str, how: How | None = None, count: int | None = None) -> Images:
    """Return images for calibration: the digits' training split, or data of the user's own.

    Raises:
        ImageError: neither.
    """
    asked = replace(how or How(), test=False)
    if source == DIGITS:
        return _digits(asked).first(count)
    return _own(source, asked, count, "--calibration-count")


def held_out_images(source: str, how: How | None = None, count: int | None = None) -> Images:
    """Return images for comparison: the digits' test split, or data of the user's own.

    Raises:
        ImageError: neither.
    """
    asked = how or How()
    if source == DIGITS:
        return _digits(asked).first(count)
    return _own(source, asked, count, "--count")


def images_for(
    network: Network, source: str, how: How | None = None, count: int | None = None
) -> Images:
    """Return images for comparison, read as the network's calibration was.

    Raises:
        ImageError: they are none, or the network takes no such images.
    """
    images = held_out_images(source, how_for(network, how), count)
    images.require_fit(network)
    return images


def held_out_data(source: str, how: How, count: int | None = None) -> Data:
    """Open what `held_out_images` reads; nothing but the first sample is read yet.

    Raises:
        ImageError: see `held_out_images`.
    """
    if source != DIGITS:
        return open_source(source, how, count)
    digits = _digits(how)
    rows = Rows(digits.pixels, DIGITS, digits.pixels.shape[1:])
    found = Found(format=DIGITS, samples=rows, labels=digits.labels)
    return data_of(DIGITS, found, replace(how, transform=Transform()))


def how_for(network: Network, how: How | None = None) -> How:
    """Return how data are read for a network: as its calibration was, where `how` says nothing.

    Raises:
        ImageError: the network's file says something else than sizes and a rule.
    """
    told = {} if network.recipe is None else network.recipe.images
    pixels = network.encoding is not None or network.input.takes_pixels
    channels = network.image[0] if pixels else None
    return replace(
        how or How(),
        numbers=not pixels,
        names=tuple(part.name for part in network.parts),
        channels=channels if channels in (1, 3) else None,
        classes=network.classes,
        usual_transform=remembered_transform(told),
        usual_binning=remembered_binning(told).or_else(Binning(frames=network.graph.T)),
    )


def pictures(
    paths: Sequence[Path], network: Network, how: How | None = None
) -> npt.NDArray[np.uint8]:
    """Read picture files as bytes (count, C, H, W), in the network's size and channels.

    Raises:
        ImageError: one is no picture that can be taken by a stated rule (`open_picture`), or of
            another size once it is resized and cropped; or `how` says how to bin events.
    """
    asked = how_for(network, how)
    if asked.binning.said:
        raise ImageError("pictures are no events; leave --frames, --bin-by and --sensor")
    transform = asked.transform
    if transform is None:
        transform = asked.usual_transform
        tell_remembered("pictures", str(transform), pictures=True)
    return np.stack([picture(path, network, transform) for path in paths])


def picture(
    path: Path, network: Network, transform: Transform | None = None
) -> npt.NDArray[np.uint8]:
    """Read one picture file as bytes (C, H, W); see `pictures`.

    Raises:
        ImageError: see `pictures`.
    """
    wanted, shape = input_type(network), network.image
    channels, height, width = shape if len(shape) == 3 else (0, 0, 0)
    pixels = network.input.takes_pixels and wanted.kind is Kind.GRADED
    pixels = pixels or network.encoding is not None
    if channels not in (1, 3) or not pixels:
        raise ImageError(
            f"{path}: the network takes {size_text(shape)} {wanted.kind.value}, which no "
            "picture holds; give frames, events or numbers by --source (docs/data.md)"
        )
    opened = open_picture(path, str(path), channels)
    array = as_bytes((transform or Transform()).apply(opened, str(path)))
    if array.shape[1:] != (height, width):
        raise ImageError(
            f"{path}: is {array.shape[2]} x {array.shape[1]} pixels, the network takes "
            f"{width} x {height}; give --resize, or resize it first"
        )
    return array


def tell_remembered(source: str, options: str, *, pictures: bool) -> None:
    """Say what nobody asked for on the command line, but the network's file."""
    if options:
        leave = "; --resize none leaves pictures as they are" if pictures else ""
        told = f"{source}: read with {options}, as the network's file says{leave}"
        typer.echo(printable(told), err=True)


def tell_order(data: Data, classes: Sequence[str], count: int | None) -> None:
    """Say of class folders what a few samples are, and how names that no class has are numbered.

    Args:
        data: that are opened.
        classes: names of the network's; empty where nobody says them.
        count: how many samples are asked for; None for all.
    """
    if not data.found.mixed:
        return
    if count is not None and count < len(data):
        told = f"{data.source}: {count:,} of {len(data):,} samples, from the classes in turn"
        typer.echo(printable(told), err=True)
    others = [name for name in data.classes if name not in classes]
    if others and list(classes) != list(map(str, range(len(classes)))):
        told = (
            f"{data.source}: {others[0]!r} is the name of no class of the network; "
            "folders are numbered in the order of their names"
        )
        typer.echo(printable(told), err=True)


def _digits(how: How) -> Images:
    need("sklearn")
    from lapilli.model.digits import load_digits

    if how.numbers:
        raise ImageError(
            f"{DIGITS} are images, and the model takes none: give inputs of its own (docs/data.md)"
        )
    if how.binning.said or (how.transform is not None and how.transform.changes):
        raise ImageError(
            f"{DIGITS} are pictures of 8 x 8 that stay as they are; leave --resize, --crop, "
            "--frames, --bin-by and --sensor, or name data of your own"
        )
    split = load_digits()[int(how.test)]
    return Images(split.images, split.labels, DIGITS)


def _own(source: str, how: How, count: int | None, option: str) -> Images:
    """Read data of the user's own; all of them, or the first `count`, which `option` gives."""
    data = open_source(source, how, count)
    tell_remembered(source, data.remembered, pictures=not data.found.binned)
    tell_order(data, how.classes, count)
    if data.found.binned and how.binning.or_else(how.usual_binning).by is None:
        told = f"{source}: frames hold equal numbers of events; --bin-by time gives equal times"
        typer.echo(printable(told), err=True)
    wanted = len(data) if count is None else min(count, len(data))
    if (size := wanted * math.prod(data.shape)) > _MOST:
        raise ImageError(
            f"{source}: {wanted:,} images would take {size / 2**30:.1f} GiB here; give {option}"
        )
    if not how.skip_unreadable:
        return _images(data, range(wanted), data.read(range(wanted)))
    got = data.read_readable(range(wanted))
    if not len(got.pixels):
        raise ImageError(f"{source}: none of {wanted:,} images can be read: {got.unreadable[0]}")
    for sentence in got.unreadable:
        typer.echo(printable(f"left out: {sentence}"), err=True)
    if got.unreadable:
        typer.echo(f"{len(got.unreadable):,} of {wanted:,} images are left out", err=True)
    return _images(data, got.indices.tolist(), got.pixels)


def _images(data: Data, indices: Sequence[int], pixels: npt.NDArray[Any]) -> Images:
    labels = None if data.labels is None else data.labels[list(indices)]
    names = tuple(data.name(index) for index in indices)
    return Images(pixels, labels, data.source, data.describe(), names, data.classes)


def open_source(source: str, how: How, count: int | None = None) -> Data:
    """Open data by the name that a command line gives; FILE.py:NAME runs that file's code.

    Args:
        source: a file, a folder, or code.
        how: they are read.
        count: how many items of a sequence are asked for at all; None asks for all.

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
    return open_sequence(own_sequence(named), source, how, count)
