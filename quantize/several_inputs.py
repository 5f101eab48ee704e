"""Several inputs by name become one, before anything else looks at them."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lapilli.ir.errors import InputError, QuantizeError
from lapilli.ir.parts import InputPart, packed
from lapilli.model.capture.named_inputs import with_named_inputs
from lapilli.model.capture.signature import Signature, check_layout, own_axes
from lapilli.quantize.options import QuantizeOptions

_NONE_OF = ("mean", "std", "counts", "encoding", "ids")


def joined(
    model: nn.Module, calibration: Tensor | Mapping[str, Tensor], options: QuantizeOptions
) -> tuple[nn.Module, Tensor, QuantizeOptions, tuple[InputPart, ...]]:
    """Put inputs side by side, and make a module that takes them apart; one input stays as it is.

    Args:
        model: its forward takes the inputs by name.
        calibration: of each, samples first, then time, then the others.
        options: `layout` has one for each name.

    Returns:
        The module, its one input, the options for it, and where each input lies.

    Raises:
        QuantizeError: names that differ, inputs of which only some have time, what is for images.
        CaptureError: a layout that is none.
    """
    if not isinstance(calibration, Mapping):
        if isinstance(options.get("layout"), Mapping):
            raise QuantizeError("image", "layouts by name are for inputs by name: a dictionary")
        return model, calibration, options, ()
    layouts = options.get("layout")
    if not isinstance(layouts, Mapping) or sorted(layouts) != sorted(calibration):
        raise QuantizeError("image", f"needs a layout for each of {', '.join(calibration)}")
    asked: Mapping[str, object] = options
    if odd := [name for name in _NONE_OF if asked.get(name)]:
        raise QuantizeError("image", f"{odd[0]} is for a single input of images")
    timed = {name: "T" in layout for name, layout in layouts.items()}
    if len(set(timed.values())) > 1:
        static = next(name for name, has in timed.items() if not has)
        raise QuantizeError(
            "image", f"input {static!r} has no time, others have: give it for each step"
        )
    parts = tuple(_part(name, calibration[name], str(layouts[name])) for name in calibration)
    try:
        numbers = packed(parts, {name: tensor.numpy() for name, tensor in calibration.items()})
    except InputError as error:
        raise QuantizeError("image", str(error)) from error
    one = options.copy()
    one["layout"] = "BTF" if all(timed.values()) else "BF"
    return with_named_inputs(model, parts), torch.from_numpy(numbers).float(), one, parts


def _part(name: str, tensor: Tensor, layout: str) -> InputPart:
    check_layout(layout)
    axes = Signature(layout=layout).canonical
    given: object = tensor  # whatever the caller has
    if not isinstance(given, Tensor) or tensor.ndim != len(axes) or not tensor.numel():
        told = ", ".join(["count", *axes[1:]])
        raise QuantizeError("image", f"input {name!r} must be a tensor ({told})")
    largest = float(tensor.double().abs().max())
    if not math.isfinite(largest):
        raise QuantizeError("image", f"input {name!r} reaches {largest}")
    exponent = math.frexp(largest)[1] if largest else 0  # of what lies in (1/2, 1]
    shape = tuple(tensor.shape[len(axes) - len(own_axes(layout)) :])
    return InputPart(name=name, layout=layout, shape=shape, exponent=exponent)
