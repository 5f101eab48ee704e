"""Whether a neuron fires at its threshold: asked of its own spike function.

Frameworks let users choose the surrogate gradient, and with it comes the forward: BrainCog's
`QGateGrad` (its default) is h > threshold, its `SigmoidGrad` is h >= threshold.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def is_strict(spike: Callable[[Tensor], Tensor]) -> bool:
    """Whether `spike`, a function of h - threshold, is 0 at 0.

    Raises:
        ValueError: it does not answer by spikes.
    """
    with torch.no_grad():
        below, at, above = spike(torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)).tolist()
    if (below, above) != (0, 1) or at not in (0, 1):
        raise ValueError(
            f"its spike function answers {below:g}, {at:g} and {above:g} below, at and above "
            "threshold; a binary spike is 0, then 1"
        )
    return bool(at == 0)
