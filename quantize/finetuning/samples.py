"""What a module is trained on: samples as they are kept, and as the module takes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lapilli.ir.encoding import Encoding
from lapilli.ir.errors import InputError
from lapilli.model.capture.signature import Signature, check_layout, holds_images
from lapilli.model.fit import Options, Prepare, Split
from lapilli.model.loading.preprocess import Preprocessing
from lapilli.model.loading.strict import events
from lapilli.quantize.encoded import encoded, encoded_images
from lapilli.quantize.options import QuantizeOptions, layout_of
from lapilli.quantize.token_ids import spread_out

Samples: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """How samples are given to a module.

    Attributes:
        prepare: makes of samples what the module takes.
        calibration: of some samples, what `quantize` takes.
        options: of `quantize`, for what `prepare` makes.
        encoding: that `prepare` applies, or None.
    """

    prepare: Prepare
    calibration: Prepare
    options: QuantizeOptions
    encoding: Encoding | None = None


def taken(split: Split, name: str, options: QuantizeOptions, training: Options) -> Taken:
    """Find out how the samples of a split are given to a module.

    Raises:
        InputError: they are not what the layout, the encoding or the number of tokens says, or are
            to be moved and mirrored, and are no images.
        CaptureError, QuantizeError: a layout, or an encoding, that is none.
    """
    given: object = options.get("layout")
    if given is not None and not isinstance(given, str):
        raise InputError("fine-tuning takes one input: several by name have no epochs of their own")
    check_layout(layout := layout_of(options))
    bytes_of_images = bool(options.get("encoding")) or holds_images(layout)
    if not bytes_of_images or options.get("ids"):
        if training.shift or training.flip:
            raise InputError(f"samples of layout {layout} are no images, to be moved or mirrored")
        return _numbers(split.images, name, options, layout)
    if options.get("encoding"):
        return _encoded(split.images, name, options)
    check_images(split, name)
    prepare = preparation(options, split.images.shape[-3])
    return Taken(prepare=prepare, calibration=prepare, options=options)


def _numbers(samples: Samples, name: str, options: QuantizeOptions, layout: str) -> Taken:
    """Numbers as they are, or token ids."""
    axes = Signature(layout=layout).canonical
    count = options.get("ids")
    kind = "whole numbers" if count else "floats"
    fits = np.issubdtype(samples.dtype, np.integer if count else np.floating)
    if not fits or samples.ndim != len(axes) or not len(samples):
        wanted = ", ".join(["count", *axes[1:]])
        raise InputError(
            f"{name} must be {kind} ({wanted}), and some; got {samples.dtype} {samples.shape}"
        )
    if not np.isfinite(samples).all():
        raise InputError(f"{name}: a number that is not finite")
    if not count:
        plain = _floats
        return Taken(prepare=plain, calibration=plain, options=options)
    _, spread = spread_out(torch.from_numpy(samples[:1]), options)

    def ones(given: Samples) -> Tensor:
        return spread_out(torch.from_numpy(given), options)[0]

    ones(samples)  # or a sentence about a token that is none
    return Taken(prepare=ones, calibration=torch.from_numpy, options=spread)


def _encoded(samples: Samples, name: str, options: QuantizeOptions) -> Taken:
    """Images that the host encodes."""
    if samples.dtype != np.uint8 or samples.ndim != 4 or not len(samples):
        raise InputError(
            f"{name} must be bytes (count, C, H, W), and some, with an encoding; got "
            f"{samples.dtype} {samples.shape}"
        )
    _, encoding = encoded(torch.from_numpy(samples[:1]), options)
    if encoding is None:
        raise TypeError("images were to be encoded")
    mean, std = options.get("mean"), options.get("std")

    def prepare(given: Samples) -> Tensor:
        return encoded_images(encoding, given, mean, std)

    return Taken(prepare=prepare, calibration=torch.from_numpy, options=options, encoding=encoding)


def _floats(samples: Samples) -> Tensor:
    return torch.from_numpy(samples).float()


def preparation(options: QuantizeOptions, channels: int) -> Prepare:
    """How images become tensors: as the options say."""
    if options.get("counts"):
        return events
    mean, std = options.get("mean") or (0.0,) * channels, options.get("std") or (1.0,) * channels
    if not len(mean) == len(std) == channels:
        raise InputError(f"needs one mean and one std for each of {channels} channels")
    return Preprocessing(mean=tuple(mean), std=tuple(std), classes=()).normalise


def check_images(split: Split, name: str) -> None:
    """Refuse what are no images.

    Raises:
        InputError: other types or shapes, or none at all.
    """
    images = split.images
    if images.dtype != np.uint8 or images.ndim not in (4, 5) or not len(images):
        raise InputError(
            f"{name} must be bytes (count, C, H, W) or (count, T, C, H, W), and some; got "
            f"{images.dtype} {images.shape}"
        )


def check_labels(split: Split, name: str, classes: int | None = None) -> None:
    """Refuse labels that do not fit their samples, or the classes.

    Raises:
        InputError: not as many whole numbers, or one that is no class.
    """
    labels = split.labels
    if labels.shape != (len(split.images),) or not np.issubdtype(labels.dtype, np.integer):
        raise InputError(
            f"{name}: {len(split.images)} of them need as many whole numbers as labels; got "
            f"{labels.dtype} {labels.shape}"
        )
    if int(labels.min()) < 0 or (classes is not None and int(labels.max()) >= classes):
        worst = int(labels.min()) if int(labels.min()) < 0 else int(labels.max())
        raise InputError(f"{name}: label {worst} is none of the model's classes, numbered from 0")
