"""Picture files as bytes; what 8 bits a pixel do not say is refused, or converted by a stated rule.

The rules, which docs/data.md explains:

* grey of 16 bits is taken as round(value / 257) if the picture uses the highest bit; else it may
  hold 10, 12 or 14 bits in 16, and nobody says which: refused;
* colours of 16 bits, 32-bit integers, floats, CMYK and the like, several pictures in one file:
  refused;
* an alpha channel is dropped where it is opaque everywhere; else refused;
* palettes are looked up; a picture of one bit is black and white;
* a picture that its EXIF tag turns is refused: programs differ in whether they turn it;
* colour becomes grey by Pillow's luminance, grey becomes three equal channels.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from lapilli.ir.errors import LapilliError

_ORIENTATION = 0x0112  # EXIF; 1 is upright
_BYTES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")  # Pillow's modes of 8 bits and fewer


class ImageError(LapilliError, ValueError):
    """An image file that cannot be read, or does not fit the network; says which rule."""


def open_picture(file: Path | IO[bytes], name: str, channels: int | None) -> Image.Image:
    """Read a picture as Pillow's image of mode L or RGB.

    Args:
        file: that Pillow reads.
        name: that messages give it.
        channels: 1 for grey, 3 for colour; None for what it is.

    Raises:
        ImageError: no picture, or one that no stated rule converts.
    """
    try:
        with Image.open(file) as image:
            stored = _stored(image)  # now: reading the pixels forgets it
            _require_one_upright(name, image)
            grey = _grey_of_16_bits(name, image, stored)
            if grey is None:
                _require_bytes(name, image, stored)
                found = image
            else:
                found = Image.fromarray(grey)
            is_grey = channels == 1 or (channels is None and found.mode in ("1", "L", "LA"))
            converted: Image.Image = found.convert("L" if is_grey else "RGB")
            return converted
    except ImageError:
        raise
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError,
            SyntaxError, ValueError, struct.error) as error:  # fmt: skip
        raise ImageError(f"{name}: not a picture that can be read ({error})") from error


def _require_one_upright(name: str, image: Image.Image) -> None:
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # a telephone's: the picture, then its previews
        raise ImageError(f"{name}: holds {frames} pictures; save the one that is meant")
    orientation = image.getexif().get(_ORIENTATION, 1)
    if orientation != 1:
        raise ImageError(
            f"{name}: is stored turned (EXIF orientation {orientation}), and programs differ in "
            "whether they turn it; save it upright"
        )


def _grey_of_16_bits(name: str, image: Image.Image, stored: str) -> npt.NDArray[np.uint8] | None:
    """Return the 8 bits of a grey picture of 16; None of any other picture."""
    mode = image.mode
    if not (mode.startswith("I;16") or (mode == "I" and "I;16" in stored)):
        return None
    values = np.asarray(image).astype(np.int64)
    most = int(values.max())
    if most < 1 << 15:
        raise ImageError(
            f"{name}: holds 16 bits, and no value above {most}: perhaps {most.bit_length()} bits "
            "in 16; convert it to 8 bits first"
        )
    return ((values + 128) // 257).astype(np.uint8)


def _require_bytes(name: str, image: Image.Image, stored: str) -> None:
    """Refuse what Pillow would clip, cut or mix with a background of its own."""
    if image.mode not in _BYTES:
        raise ImageError(
            f"{name}: is of mode {image.mode}; convert it to grey or RGB of 8 bits first"
        )
    if ";16" in stored:
        raise ImageError(
            f"{name}: holds 16 bits a colour, and Pillow reads 8 of them; convert it first"
        )
    transparent = image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info
    if transparent:
        alpha: Any = image.convert("RGBA").getchannel("A").getextrema()
        if alpha[0] < 255:
            raise ImageError(f"{name}: is transparent somewhere; put it on its background first")


def _stored(image: Image.Image) -> str:
    """Return how the file stores pixels, in Pillow's words, before they are read."""
    return " ".join(str(getattr(tile, "args", tile[-1])) for tile in getattr(image, "tile", ()))
