"""Choose integers, and thresholds, one layer after the other on images of the calibration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from lapilli.ir.network import InputQuantizer
from lapilli.model.capture.program import Captured
from lapilli.quantize.fit import Fitted
from lapilli.quantize.image_scale import image_scale, quantized_images
from lapilli.quantize.preparation import Prepared
from lapilli.quantize.reconstruction.sides import InFloat, InIntegers
from lapilli.quantize.reconstruction.thresholds import with_thresholds

Refit = Callable[[Captured, Fitted], Fitted]  # makes a program's integers fit, from these on
_NUMBERS = 1 << 22  # of all steps of the images that are shown
_FEWEST = 8  # images, if there are so many


def layer_by_layer(
    prepared: Prepared,
    source: InputQuantizer,
    calibration: Tensor,
    fitted: Fitted,
    refit: Refit,
    *,
    weights: bool,
    rates: bool,
) -> tuple[Prepared, Fitted]:
    """Choose integers whose currents are nearest to those of real weights, or thresholds by rates.

    Where the integers of a layer then have to give up bits, all are chosen again.

    Args:
        prepared: a model before integers.
        source: how images become integers.
        calibration: images; as many are shown as memory should hold.
        fitted: the nearest integers, whose scales are kept.
        refit: makes integers fit.
        weights: choose weights and biases together.
        rates: move thresholds.

    Returns:
        The model with its thresholds, and its integers.
    """
    size = calibration[0].numel() * (prepared.merged.T if calibration.ndim == 4 else 1)
    most = max(_FEWEST, _NUMBERS // max(1, size))
    numbers = np.linspace(0, len(calibration) - 1, min(most, len(calibration))).astype(int)
    images = calibration[sorted(set(numbers.tolist()))]
    while True:
        side = _chosen(prepared, source, images, fitted, weights=weights, rates=rates)
        merged = with_thresholds(prepared.merged, side.moved_thresholds)
        made = refit(merged, replace(fitted, units=side.integer_units))
        if all(made.units[name] is unit for name, unit in side.integer_units.items()):
            return replace(prepared, merged=merged), made
        fitted = made


def _chosen(
    prepared: Prepared,
    source: InputQuantizer,
    images: Tensor,
    fitted: Fitted,
    *,
    weights: bool,
    rates: bool,
) -> InIntegers:
    merged, plan = prepared.merged, prepared.plan
    on_grid = torch.from_numpy(quantized_images(source, images).astype(np.float64))
    real = InFloat(merged, plan, fitted.folded) if rates else None
    side = InIntegers(merged, plan, fitted, real, weights=weights)
    with torch.no_grad():
        behind = side.neuron_by_neuron(on_grid * float(image_scale(source)))
        if real is not None:
            for _ in zip(
                real.neuron_by_neuron(images.float()), behind, strict=False
            ):  # neuron by neuron
                pass
        for _ in behind:
            pass
    return side
