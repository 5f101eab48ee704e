"""Images through an encoding, as the module takes them: before anything is calibrated."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lapilli.ir.encoding import Encoding
from lapilli.ir.errors import InputError, QuantizeError
from lapilli.model.capture.signature import Signature, check_layout
from lapilli.quantize.options import QuantizeOptions, layout_of


def encoded(calibration: Tensor, options: QuantizeOptions) -> tuple[Tensor, Encoding | None]:
    """What a module sees of images that are to be encoded; images themselves without an encoding.

    Args:
        calibration: bytes (count, C, H, W) where `options` name an encoding.
        options: `encoding`, `layout`, `mean` and `std` are read.

    Raises:
        QuantizeError: no bytes, an encoding that is none, a layout that it does not fit.
    """
    text = options.get("encoding")
    if text is None:
        return calibration, None
    if getattr(calibration, "dtype", None) is not torch.uint8:
        raise QuantizeError("image", "with an encoding, calibration are bytes (count, C, H, W)")
    try:
        encoding = Encoding.of(text, tuple(calibration.shape[1:]))
    except InputError as error:
        raise QuantizeError("image", str(error)) from error
    check_layout(layout := layout_of(options))
    wanted = Signature(layout=layout).canonical
    if "T" not in wanted or len(wanted) != 2 + len(encoding.shape):
        axes = ", ".join(map(str, encoding.shape))
        raise QuantizeError(
            "image", f"encoding {text} gives steps of ({axes}), which layout {layout} does not hold"
        )
    if options.get("counts") or (options.get("mean") and not encoding.moves):
        raise QuantizeError("image", f"encoding {text} is not normalised: leave mean, std, counts")
    mean, std = options.get("mean"), options.get("std")
    return encoded_images(encoding, calibration.numpy(), mean, std), encoding


def encoded_images(
    encoding: Encoding,
    pixels: np.ndarray,
    mean: object = None,
    std: object = None,
) -> Tensor:
    """Bytes (count, C, H, W) as the module sees them, (count, T, ...), float32.

    `mean` and `std` normalise the pixels of a sequence, one for each channel.
    """
    if not encoding.moves:
        return torch.from_numpy(encoding.values(pixels)).float()
    encoding.check(pixels)
    real = torch.from_numpy(np.ascontiguousarray(pixels)).float() / 255
    if mean is not None:
        means, stds = (torch.tensor(v).reshape(-1, 1, 1) for v in (mean, std))
        real = (real - means) / stds
    return torch.from_numpy(encoding.moved(real.numpy()))
