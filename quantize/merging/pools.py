"""Average pools among the linear maps: which they are, and which cannot be merged."""

from __future__ import annotations

from lapilli.model.capture import program
from lapilli.model.capture.program import Captured
from lapilli.quantize.merging.linear_map import LinearMap


def sums_windows(op: program.Synapse, form: LinearMap) -> bool:
    """Whether a linear map adds up windows of each channel, none of them all padding."""
    alone = form.groups == len(form.weight) and form.weight.shape[1] == 1
    ones = bool((form.weight == 1).all()) and not form.bias.any()
    small = all(2 * p <= k for p, k in zip(form.padding, form.weight.shape[2:], strict=True))
    return op.space > 0 and alone and ones and small and not form.pointwise


def padded_behind(captured: Captured, name: str) -> bool:
    """Whether a map that pads takes this value: none with a kernel can be merged with it."""
    for reader in captured.calls.values():
        if name not in reader.inputs:
            continue
        match reader.op:
            case program.Pad():
                return True
            case program.Synapse(padding=padding) if any(padding):
                return True
            case program.Scale() | program.Reshape() if padded_behind(captured, reader.name):
                return True
            case _:
                pass
    return False
