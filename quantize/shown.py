"""Inputs as files hold them, as a module sees them: for the calibration, and for its float side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lapilli.ir.network import Network
from lapilli.ir.parts import packed
from lapilli.model.loading.preprocess import Preprocessing
from lapilli.model.loading.strict import events
from lapilli.quantize.encoded import encoded_images


def unprepared(
    given: npt.NDArray[Any], options: Mapping[str, object]
) -> Tensor | dict[str, Tensor] | None:
    """What `quantize` is given as it is: several inputs, token ids, images to be encoded.

    Returns:
        None of anything else, which is normalised first, or taken for numbers.
    """
    if names := given.dtype.names:
        return {name: torch.from_numpy(np.ascontiguousarray(given[name])) for name in names}
    if options.get("ids"):
        return torch.from_numpy(np.ascontiguousarray(given).astype(np.int64))
    if options.get("encoding"):
        return torch.from_numpy(np.ascontiguousarray(given))
    return None


def preparation(
    network: Network, normalisation: Callable[[], Preprocessing]
) -> Callable[[npt.NDArray[Any]], Tensor]:
    """What makes of inputs what the float module sees.

    Args:
        network: that was made from it.
        normalisation: says how pixels are normalised; called only where they are.
    """
    encoding, parts = network.encoding, network.parts
    if network.ids:
        return lambda given: torch.from_numpy(network.spread_out(given)).float()
    if parts:
        return lambda rows: torch.from_numpy(packed(parts, rows)).float()
    if encoding is not None and encoding.moves:
        known = normalisation()
        return lambda pixels: encoded_images(encoding, pixels, known.mean, known.std)
    if encoding is not None:
        return lambda pixels: encoded_images(encoding, pixels)
    counts = network.recipe is not None and network.recipe.options.get("counts") is True
    return events if counts or not network.input.takes_pixels else normalisation().normalise
