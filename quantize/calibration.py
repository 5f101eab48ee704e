"""Whether a calibration can decide anything: refused, or warned of, before all else."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lapilli.ir.errors import QuantizeError
from lapilli.ir.recipe import Note, NoteKind
from lapilli.model.capture.signature import Signature, check_layout, holds_images
from lapilli.quantize.options import QuantizeOptions, layout_of

_OVERSHOOT = 0.25  # of the range of pixels: more than resizing adds at edges
_SHIFTED = 1.0  # standard deviations between what normalised images average and 0


def check_calibration(calibration: Tensor, options: QuantizeOptions) -> None:
    """Refuse images from which no scale can be chosen.

    Args:
        calibration: (count, C, H, W), or (count, T, C, H, W) for a layout with time; or what
            other axes the layout has.
        options: `layout` is read.

    Raises:
        QuantizeError: no tensor of real numbers, another shape, no image, NaN or infinity, or one
            number everywhere.
    """
    if not isinstance(calibration, Tensor):
        raise QuantizeError("image", f"calibration is no tensor: {type(calibration).__name__}")
    if calibration.is_complex() or calibration.dtype is torch.bool:
        raise QuantizeError("image", f"calibration must hold real numbers, got {calibration.dtype}")
    check_layout(layout := layout_of(options))
    given = Signature(layout=layout).canonical
    if calibration.ndim != len(layout) or not calibration.numel():
        axes = ", ".join(["count", *given[1:]])
        raise QuantizeError("image", f"calibration must be ({axes}), got {calibration.shape}")
    for number, image in enumerate(calibration):
        if not torch.isfinite(image).all():
            largest = float(image.abs().max())
            raise QuantizeError(
                "image", f"calibration images reach {largest}, first in image {number}"
            )
    by_channel = _by_channel(calibration, layout)
    if not (by_channel != by_channel[:, :1]).any():
        reached = float(calibration.abs().max())
        raise QuantizeError(
            "image",
            f"calibration images reach {reached}; are they images? Every pixel of all "
            f"{len(calibration)} is the same: no scale follows from them",
        )


def calibration_notes(calibration: Tensor, options: QuantizeOptions) -> list[Note]:
    """Warn of images that may be no training images, or not normalised as the options say.

    Args:
        calibration: that `check_calibration` has taken.
        options: `layout`, `counts`, `mean` and `std` are read.
    """
    notes = []
    if len(calibration) > 1 and not (calibration != calibration[:1]).any():
        text = f"all {len(calibration)} calibration images are the same"
        notes.append(Note(NoteKind.CALIBRATION, "image", text))
    layout = layout_of(options)
    if options.get("counts") or options.get("encoding") or not holds_images(layout):
        return notes
    by_channel = _by_channel(calibration, layout)
    if still := [c for c, row in enumerate(by_channel) if not (row != row[0]).any()]:
        text = (
            f"every calibration pixel of channel {still[0]} is {float(by_channel[still[0], 0]):g}"
        )
        notes.append(Note(NoteKind.CALIBRATION, "image", text))
    mean, std = options.get("mean"), options.get("std")
    why = (
        _unlike_pixels(calibration)
        if mean is None
        else _unlike_normalised(by_channel.double(), mean, std or [1.0] * len(mean))
    )
    if why:
        notes.append(Note(NoteKind.NORMALISATION, "image", why))
    return notes


def _by_channel(calibration: Tensor, layout: str) -> Tensor:
    """A row for each channel; one for all of what has none."""
    if not holds_images(layout):
        return calibration.reshape(1, -1)
    return calibration.movedim(-3, 0).flatten(1)


def _unlike_pixels(calibration: Tensor) -> str:
    """Why images cannot be pixel / 255, as they are if no normalisation is given."""
    low, high = float(calibration.min()), float(calibration.max())
    if low >= 0 and high <= 1:
        return ""
    return (
        f"the calibration images lie in [{low:.3g}, {high:.3g}], which pixel / 255 never does, and "
        "neither mean nor std is given: the network would take raw images for normalised ones"
    )


def _unlike_normalised(rows: Tensor, mean: Sequence[float], std: Sequence[float]) -> str:
    """Why images, a row for each channel, cannot be (pixel / 255 - mean) / std, or hardly are."""
    means = torch.tensor([float(v) for v in mean], dtype=torch.float64)
    stds = torch.tensor([float(v) for v in std], dtype=torch.float64)
    low = float((rows.amin(1) * stds + means).min())
    high = float((rows.amax(1) * stds + means).max())
    if low < -_OVERSHOOT or high > 1 + _OVERSHOOT:
        return (
            f"by mean and std, the calibration images would be pixels of {255 * low:.3g} to "
            f"{255 * high:.3g}, not of 0 to 255: were they normalised by these numbers?"
        )
    if (means > 0).all() and (rows >= 0).all():
        return (
            "no calibration pixel lies below the mean that is given: were they normalised at all?"
        )
    shift = float(rows.mean(1).abs().median())
    if shift > _SHIFTED:
        return (
            f"the calibration images average {shift:.2g} standard deviations from the mean that is "
            "given: are they images as in training?"
        )
    return ""
