"""What a linear map hears, as sums of products over all places, samples and steps."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from lapilli.model.capture import program

_AT_A_TIME = 1 << 24  # elements of windows of which products are taken
_WHOLE = 1 << 24  # up to here, float32 holds every integer


def moments(op: program.Synapse, kernel: tuple[int, ...], x: Tensor) -> npt.NDArray[np.float64]:
    """Add up products of what a map hears.

    Args:
        op: the map.
        kernel: axes of its weights behind the first two.
        x: what it hears, (T, B, *step).

    Returns:
        (groups, n + 1, n + 1), of the n inputs of each group, and of a last one that is always 1.
    """
    rows = x.flatten(0, 1) if op.space else x.reshape(-1, x.shape[-1])
    count = max(1, _AT_A_TIME // max(1, rows[:1].numel() * math.prod(kernel)))
    total = torch.zeros(())
    for some in rows.split(count):
        heard = _windows(op, kernel, some)
        total = total + _products(torch.cat([heard, torch.ones_like(heard[:, :1])], 1))
    found: npt.NDArray[np.float64] = total.numpy()
    return found


def _windows(op: program.Synapse, kernel: tuple[int, ...], x: Tensor) -> Tensor:
    """What each output hears: (groups, inputs, places)."""
    if not op.space:
        return x.T[None]
    pairs: tuple[tuple[int, ...], ...] = (kernel, op.dilation, op.padding, op.stride)
    if op.space == 1:  # a map of one column
        x = x[..., None]
        pairs = tuple((each[0], one) for each, one in zip(pairs, (1, 1, 0, 1), strict=True))
    found = functional.unfold(x, *pairs)
    return found.reshape(len(x), op.groups, -1, found.shape[-1]).permute(1, 2, 0, 3).flatten(2)


def _products(x: Tensor) -> Tensor:
    """Sums over places, in float32 where that holds all of them, else in float64."""
    whole = float(x.abs().max()) ** 2 * x.shape[-1] <= _WHOLE and torch.equal(x, x.round())
    x = x.float() if whole else x.double()
    return (x @ x.transpose(1, 2)).double()
