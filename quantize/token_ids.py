"""Token ids become spikes, one of as many as there are tokens: what an embedding looks up."""

from __future__ import annotations

import string
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from lapilli.ir.errors import QuantizeError
from lapilli.model.capture.signature import Signature, check_layout
from lapilli.quantize.options import QuantizeOptions, layout_of

_NONE_OF = ("mean", "std", "counts", "encoding")


def spread_out(calibration: Tensor, options: QuantizeOptions) -> tuple[Tensor, QuantizeOptions]:
    """Give token ids an axis that tells them apart; what are none stays as it is.

    Args:
        calibration: whole numbers, samples first, then time, then the others.
        options: `ids`, how many tokens there are, and `layout`.

    Returns:
        Ones and zeros with one more axis, and the options with a letter more in the layout.

    Raises:
        QuantizeError: no whole numbers, or one that is no token; or what is for images.
        CaptureError: a layout that is none.
    """
    count = options.get("ids")
    if not count:
        return calibration, options
    told: Mapping[str, object] = options
    if odd := [name for name in _NONE_OF if told.get(name)]:
        raise QuantizeError("image", f"{odd[0]} is for images, not for token ids")
    check_layout(layout := layout_of(options))
    axes = Signature(layout=layout).canonical
    given: object = calibration  # whatever the caller has
    whole = isinstance(given, Tensor) and not given.is_floating_point()
    if not whole or calibration.ndim != len(axes) or not calibration.numel():
        wanted = ", ".join(["count", *axes[1:]])
        raise QuantizeError("image", f"token ids must be whole numbers ({wanted})")
    low, high = int(calibration.min()), int(calibration.max())
    if low < 0 or high >= count:
        raise QuantizeError("image", f"token ids of {low} to {high} are not below {count}, from 0")
    letter = next(each for each in reversed(string.ascii_uppercase) if each not in layout)
    ones = functional.one_hot(calibration.long(), count).to(torch.float32)
    asked = options.copy()
    asked["layout"] = f"{layout}{letter}"
    return ones, asked
