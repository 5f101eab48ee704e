"""Resize and centre crop, as torchvision does them on Pillow's images.

torchvision's `Resize` and `CenterCrop` compute sizes and let Pillow do the rest; the same sizes
are computed here. A crop that does not fit is refused, where torchvision adds black.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from lapilli.deploy.data.pictures import ImageError
from lapilli.ir.recipe import Json

NOTHING = "none"  # said of --resize or --crop: the picture stays as it is
_KERNELS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "nearest": Image.Resampling.NEAREST,
}
_MOST = 1 << 27  # pixels of a resized picture
_SIZE = re.compile(r"([1-9]\d{0,4})(?:x([1-9]\d{0,4}))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Transform:
    """How a picture gets its size.

    Attributes:
        resize: (height, width); or (edge,), which the shorter edge gets; None leaves it.
        crop: (height, width) about the centre, after resizing; None leaves it.
        kernel: of the resize: bilinear, bicubic or nearest.
    """

    resize: tuple[int, ...] | None = None
    crop: tuple[int, int] | None = None
    kernel: str = "bilinear"

    @property
    def changes(self) -> bool:
        """Whether anything is asked for."""
        return self.resize is not None or self.crop is not None

    def apply(self, picture: Image.Image, name: str) -> Image.Image:
        """Resize and crop one picture.

        Raises:
            ImageError: it is smaller than the crop.
        """
        if self.resize is not None:
            height, width = resized(self.resize, picture.height, picture.width)
            if width * height > _MOST:
                raise ImageError(f"{name}: {width} x {height} pixels are too many to resize to")
            if (width, height) != picture.size:
                picture = picture.resize((width, height), _KERNELS[self.kernel])
        if self.crop is None:
            return picture
        height, width = self.crop
        if height > picture.height or width > picture.width:
            raise ImageError(
                f"{name}: is {picture.width} x {picture.height} pixels, less than a crop of "
                f"{width} x {height}; give a larger --resize"
            )
        top = round((picture.height - height) / 2)  # half to even, as torchvision rounds
        left = round((picture.width - width) / 2)
        return picture.crop((left, top, left + width, top + height))

    def __str__(self) -> str:
        """Say it as on a command line."""
        said = []
        if self.resize is not None:
            said.append(f"--resize {'x'.join(map(str, self.resize))}:{self.kernel}")
        if self.crop is not None:
            said.append(f"--crop {'x'.join(map(str, self.crop))}")
        return " ".join(said)

    def describe(self) -> dict[str, Json]:
        """Return what a recipe keeps."""
        told: dict[str, Json] = {}
        if self.resize is not None:
            told |= {"resize": list(self.resize), "kernel": self.kernel}
        if self.crop is not None:
            told["crop"] = list(self.crop)
        return told


def resized(resize: tuple[int, ...], height: int, width: int) -> tuple[int, int]:
    """Return the (height, width) of a resized picture.

    >>> resized((32,), 48, 100), resized((32,), 100, 48), resized((8, 9), 48, 100)
    ((32, 66), (66, 32), (8, 9))
    """
    if len(resize) == 2:
        return resize[0], resize[1]
    edge = resize[0]
    if width <= height:
        return int(edge * height / width), edge
    return edge, int(edge * width / height)


def transform_of(resize: str | None, crop: str | None) -> Transform | None:
    """Read what the command line says; None where it says nothing.

    Args:
        resize: "256" for the shorter edge, "HEIGHTxWIDTH"; then ":bicubic" for another kernel;
            "none" says that nothing is resized.
        crop: "224" for a square, or "HEIGHTxWIDTH", or "none".

    >>> transform_of("256:bicubic", "224")
    Transform(resize=(256,), crop=(224, 224), kernel='bicubic')

    Raises:
        ImageError: none of these.
    """
    if resize is None and crop is None:
        return None
    resize, crop = (None if said == NOTHING else said for said in (resize, crop))
    size, _, kernel = (resize or "").partition(":")
    kernel = kernel or "bilinear"
    if kernel not in _KERNELS:
        raise ImageError(f"--resize: {kernel!r} is none of {', '.join(_KERNELS)}")
    sides = None if crop is None else size_of("--crop", crop)
    return Transform(
        resize=None if resize is None else size_of("--resize", size),
        crop=None if sides is None else (sides[0], sides[-1]),
        kernel=kernel,
    )


def remembered_transform(told: Mapping[str, Json]) -> Transform:
    """Read what `Transform.describe` wrote.

    Raises:
        ImageError: something else stands there.
    """
    resize, crop = _text(told.get("resize")), _text(told.get("crop"))
    if resize is not None:
        resize = f"{resize}:{told.get('kernel')}"
    return transform_of(resize, crop) or Transform()


def _text(size: Json) -> str | None:
    """Write a size of a recipe as the command line has it, to be read by the same rules."""
    if size is None:
        return None
    return "x".join(map(str, size)) if isinstance(size, list) else repr(size)


def size_of(option: str, text: str) -> tuple[int, ...]:
    """Read one number, or HEIGHTxWIDTH.

    Raises:
        ImageError: neither.
    """
    read = _SIZE.fullmatch(text)
    if read is None:
        raise ImageError(f"{option}: {text!r} is no size; give 224, or HEIGHTxWIDTH")
    return tuple(int(part) for part in read.groups() if part is not None)


def as_picture(sample: npt.NDArray[np.uint8], name: str) -> Image.Image:
    """Make a picture of bytes (C, H, W), to resize it.

    Raises:
        ImageError: neither one channel nor three.
    """
    if sample.ndim != 3 or len(sample) not in (1, 3):
        raise ImageError(f"{name}: {sample.shape} is no picture: it cannot be resized or cropped")
    return Image.fromarray(sample[0] if len(sample) == 1 else sample.transpose(1, 2, 0).copy())


def as_bytes(picture: Image.Image) -> npt.NDArray[np.uint8]:
    """Return the bytes (C, H, W) of a picture of mode L or RGB."""
    array = np.array(picture, np.uint8)
    return array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))
