"""Membranes before reset of neurons that only show them after it.

Beside the instance runs a *silent twin*: a copy whose threshold nothing reaches, set to the
instance's state before every step. What it holds after the step is the membrane before reset,
computed by the framework's own code.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lapilli.model.neurons.rule import Trace

OUT_OF_REACH = 2.0**100  # finite in float32 too: a silent neuron subtracts 0 times it


def stepped(
    module: Any,
    x: Tensor,
    *,
    state: str,
    step: Callable[[Any, Tensor], Tensor],
    silence: Callable[[Any, float], None],
    forget: Callable[[Any], None],
) -> Trace:
    """Trace an instance that keeps its membrane in the attribute `state`.

    Args:
        module: copied, so that its own state stays.
        x: currents (T, ...).
        state: name of the attribute.
        step: (instance, currents of one step) -> spikes of that step.
        silence: (instance, threshold) -> None.
        forget: brings an instance to rest.
    """
    forget(module)
    own, twin = copy.deepcopy(module), copy.deepcopy(module)
    silence(twin, OUT_OF_REACH)
    spikes, membranes = [], []
    with torch.no_grad():
        for current in x:
            setattr(twin, state, getattr(own, state))
            step(twin, current)
            spikes.append(step(own, current))
            membranes.append(getattr(twin, state))
    return torch.stack(spikes), torch.stack(membranes)
