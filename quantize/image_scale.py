"""How images become integers: what calibration finds."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from lapilli.ir.errors import QuantizeError
from lapilli.ir.network import InputQuantizer
from lapilli.ir.types import IntRange, Kind, TensorType
from lapilli.quantize.options import QuantizeOptions


def input_quantizer(calibration: Tensor, options: QuantizeOptions) -> InputQuantizer:
    """Choose the scale of the images.

    Args:
        calibration: (count, C, H, W) or (count, T, C, H, W), normalised, or numbers of events.
        options: `counts`, `mean`, `std` and `input_bits` are read.

    Raises:
        QuantizeError: they are no images, or not what the options say.
    """
    mean, std = options.get("mean"), options.get("std")
    if options.get("counts"):
        return _event_quantizer(calibration, mean, std)
    channels = calibration.shape[-3]
    bits = options.get("input_bits", 8)
    return _pixel_quantizer(calibration, bits, mean or [0.0] * channels, std or [1.0] * channels)


def image_scale(source: InputQuantizer) -> Fraction:
    """Real value of one unit of a quantized image."""
    return Fraction(1, 2) ** source.exponent


def exact(given: Sequence[float]) -> tuple[Fraction, ...]:
    """Take numbers as they are written: 0.3 is 3/10."""
    return tuple(Fraction(str(v)) for v in given)


def image_type(source: InputQuantizer, shape: Sequence[int], counts: bool) -> TensorType:
    """The type of one step of an image (C, H, W)."""
    kind = Kind.COUNTS if counts else Kind.GRADED
    return TensorType(tuple(shape), IntRange(source.lo, source.hi), kind)


def quantized_images(
    source: InputQuantizer, images: Tensor
) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Normalised images, or numbers of events, on the grid of `source`: int64, same shape."""
    scaled = images.double().numpy() * 2.0**source.exponent
    return np.clip(np.rint(scaled), source.lo, source.hi).astype(np.int64)


def _event_quantizer(
    calibration: Tensor, mean: Sequence[float] | None, std: Sequence[float] | None
) -> InputQuantizer:
    """Q is the number of events: 0 to the largest seen."""
    if mean is not None or std is not None:
        raise QuantizeError("image", "numbers of events are not normalised; leave mean and std out")
    most = float(calibration.max())
    whole = torch.equal(calibration, calibration.round()) and float(calibration.min()) >= 0
    if not whole or not 0 < most < 256:
        raise QuantizeError("image", "numbers of events must be whole, from 0 to 255")
    channels = calibration.shape[-3]
    return InputQuantizer(
        mean=(Fraction(0),) * channels,
        std=(Fraction(1, 255),) * channels,  # undoes the division of a byte by 255
        exponent=0,
        lo=0,
        hi=int(most),
    )


def _pixel_quantizer(
    calibration: Tensor, bits: int, mean: Sequence[float], std: Sequence[float]
) -> InputQuantizer:
    """The finest power of two that holds the largest calibration pixel."""
    largest = float(calibration.abs().max())
    channels = calibration.shape[-3]
    fits = len(mean) == len(std) == channels and np.isfinite([*mean, *std]).all()
    if not (fits and min(std) > 0):
        raise QuantizeError("image", f"needs one mean and one positive std for {channels} channels")
    top = (1 << (bits - 1)) - 1
    exponent = int(np.floor(np.log2(top / largest)))
    return InputQuantizer(
        mean=exact(mean),
        std=exact(std),
        exponent=exponent,
        lo=-top,
        hi=top,
    )
