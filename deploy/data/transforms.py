"""Resize and centre crop, as torchvision does them on Pillow's images.

torchvision's `Resize` and `CenterCrop` compute sizes and let Pillow do the rest; the same sizes
are computed here. A crop that does not fit is refused, where torchvision adds black.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from lapilli.deploy.data.pictures import ImageError
from lapilli.ir.recipe import Json

_KERNELS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "nearest": Image.Resampling.NEAREST,
}
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


def transform_of(resize: str | None, crop: str | None) -> Transform:
    """Read what the command line says.

    Args:
        resize: "256" for the shorter edge, "HEIGHTxWIDTH"; then ":bicubic" for another kernel.
        crop: "224" for a square, or "HEIGHTxWIDTH".

    >>> transform_of("256:bicubic", "224")
    Transform(resize=(256,), crop=(224, 224), kernel='bicubic')

    Raises:
        ImageError: neither.
    """
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
