"""How images become integers: what calibration finds."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from lapilli.ir.encoding import Encoding
from lapilli.ir.errors import QuantizeError
from lapilli.ir.network import InputQuantizer
from lapilli.ir.types import IntRange, Kind, TensorType
from lapilli.model.capture.signature import holds_images
from lapilli.quantize.options import QuantizeOptions, layout_of

_AT_A_TIME = 1024  # images
_FLOAT32 = 1 + 2.0**-20  # images were normalised in float32: 2 may have become a little more


def input_quantizer(
    calibration: Tensor, options: QuantizeOptions, encoding: Encoding | None = None
) -> InputQuantizer:
    """Choose the scale of the images.

    Args:
        calibration: (count, C, H, W) or (count, T, C, H, W), normalised, or numbers of events; or
            numbers of the shape that the layout says.
        options: `layout`, `counts`, `mean`, `std` and `input_bits` are read.
        encoding: that the calibration went through.

    Raises:
        QuantizeError: they are no images, or not what the options say.
    """
    mean, std = options.get("mean"), options.get("std")
    if encoding is not None:
        return _encoded_quantizer(calibration, options, encoding)
    if options.get("ids"):
        return InputQuantizer(mean=(), std=(), exponent=0, lo=0, hi=1)
    images = holds_images(layout_of(options))
    if not images and (mean is not None or std is not None):
        raise QuantizeError(
            "image", "mean and std are of pixels, and this layout holds none; leave them out"
        )
    channels = calibration.shape[-3] if images else 0
    if options.get("counts"):
        return _event_quantizer(calibration, channels, mean, std)
    bits = options.get("input_bits", 8)
    if not images:
        return _finest(calibration, bits, (), ())
    return _pixel_quantizer(
        calibration, channels, bits, mean or [0.0] * channels, std or [1.0] * channels
    )


def image_scale(source: InputQuantizer) -> Fraction:
    """Real value of one unit of a quantized image."""
    return Fraction(1, 2) ** source.exponent


def exact(given: Sequence[float]) -> tuple[Fraction, ...]:
    """Take numbers as they are written: 0.3 is 3/10."""
    return tuple(Fraction(str(v)) for v in given)


def image_type(
    source: InputQuantizer, shape: Sequence[int], *, counts: bool, spikes: bool = False
) -> TensorType:
    """The type of one step of an image (C, H, W), or of what else has this shape."""
    if spikes:
        return TensorType.spikes(*shape)
    kind = Kind.COUNTS if counts else Kind.GRADED
    return TensorType(tuple(shape), IntRange(source.lo, source.hi), kind)


def quantized_images(
    source: InputQuantizer, images: Tensor
) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Normalised images, or numbers of events, on the grid of `source`: int64, same shape."""
    scaled = images.double().numpy() * 2.0**source.exponent
    return np.clip(np.rint(scaled), source.lo, source.hi).astype(np.int64)


def _encoded_quantizer(
    calibration: Tensor, options: QuantizeOptions, encoding: Encoding
) -> InputQuantizer:
    """Spikes stay what they are; what a phase or a first spike is worth lies on the finest grid."""
    bits, channels = options.get("input_bits", 8), encoding.image[0]
    if encoding.moves:
        means, stds = options.get("mean"), options.get("std")
        return _pixel_quantizer(
            calibration, channels, bits, means or [0.0] * channels, stds or [1.0] * channels
        )
    exponent = {"phase": min(encoding.steps, 8) - 1, "ttfs": bits - 1}.get(encoding.kind, 0)
    return InputQuantizer(mean=(), std=(), exponent=exponent, lo=0, hi=1 << exponent)


def _event_quantizer(
    calibration: Tensor,
    channels: int,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> InputQuantizer:
    """Q is the number of events: 0 to the largest seen."""
    if mean is not None or std is not None:
        raise QuantizeError("image", "numbers of events are not normalised; leave mean and std out")
    most = float(calibration.max())
    whole = torch.equal(calibration, calibration.round()) and float(calibration.min()) >= 0
    if not whole or not 0 < most < 256:
        raise QuantizeError("image", "numbers of events must be whole, from 0 to 255")
    return InputQuantizer(
        mean=(Fraction(0),) * channels,
        std=(Fraction(1, 255),) * channels,  # undoes the division of a byte by 255
        exponent=0,
        lo=0,
        hi=int(most),
    )


def _pixel_quantizer(
    calibration: Tensor, channels: int, bits: int, mean: Sequence[float], std: Sequence[float]
) -> InputQuantizer:
    """Pixels of these means and deviations."""
    fits = len(mean) == len(std) == channels and np.isfinite([*mean, *std]).all()
    if not (fits and min(std) > 0):
        raise QuantizeError("image", f"needs one mean and one positive std for {channels} channels")
    return _finest(calibration, bits, exact(mean), exact(std))


def _finest(
    calibration: Tensor, bits: int, mean: tuple[Fraction, ...], std: tuple[Fraction, ...]
) -> InputQuantizer:
    """The finest power of two that holds the largest number of the calibration.

    Pixels normalised by plain numbers often end at a power of two, and want one integer more than
    there is. The next finer power cuts that off; no number then moves further than rounding to the
    coarser moves some, and it is taken where all together move less.
    """
    top = (1 << (bits - 1)) - 1
    largest = float(calibration.abs().max())
    exponent = int(np.floor(np.log2(top / largest)))
    holds, finer = (
        InputQuantizer(mean=mean, std=std, exponent=e, lo=-top, hi=top)
        for e in (exponent, exponent + 1)
    )
    nearly = largest * 2.0**finer.exponent <= (top + 1) * _FLOAT32
    nearer = nearly and _moved(finer, calibration) < _moved(holds, calibration)
    return finer if nearer else holds


def _moved(source: InputQuantizer, calibration: Tensor) -> float:
    """By how much a grid moves images, in squares."""
    unit, moved = 0.5**source.exponent, 0.0
    for some in calibration.split(_AT_A_TIME):
        error = quantized_images(source, some) * unit - some.double().numpy()
        moved += float(np.square(error).sum())
    return moved
