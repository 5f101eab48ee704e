"""Where images come from: the digits, data of any known format, pictures (docs/data.md)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import typer

from lapilli.deploy.cli.doctor import need
from lapilli.deploy.cli.files import DIGITS
from lapilli.deploy.cli.frame import printable
from lapilli.deploy.cli.image_set import Images, input_type, size_text
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
