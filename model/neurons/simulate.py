"""A rule, run in float64 as it is written: what a user's description claims."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import assert_never

from lapilli.ir import ops
from lapilli.model.neurons.general_rule import GeneralRule, simulate_general
from lapilli.model.neurons.rule import NeuronRule, Rule, StaircaseRule, Trace


def simulate(rule: Rule, x: Tensor) -> Trace:
    """Spikes and membranes before reset for currents (T, ...), from rest."""
    if isinstance(rule, StaircaseRule):
        n = x.clamp(0, rule.levels)
        return (torch.floor(n + 0.5) if rule.half_up else torch.round(n)) / rule.norm, x
    if isinstance(rule, GeneralRule):
        return simulate_general(rule, x)
    kept, gain, current_kept = (float(c) for c in (rule.decay, rule.gain, rule.current_decay))
    rest = float(rule.v_rest)
    thresholds = [float(theta + rule.v_rest) for theta in rule.thetas]
    theta = torch.tensor(thresholds, dtype=torch.float64).reshape(rule.shape)
    i = torch.zeros_like(x[0])
    v = torch.full_like(x[0], rest)
    spikes, membranes = [], []
    for current in x:
        i = current_kept * i + current
        h = rest + kept * (v - rest) + gain * i
        s = (h > theta if rule.strict else h >= theta).to(x.dtype)
        if rule.ternary:
            s = s - (h < -theta if rule.strict else h <= -theta).to(x.dtype)
        v = left(rule, h, s)
        spikes.append(s)
        membranes.append(h)
    return torch.stack(spikes), torch.stack(membranes)


def left(rule: NeuronRule, h: Tensor, spikes: Tensor) -> Tensor:
    """What the reset leaves of membranes."""
    match rule.reset:
        case ops.Reset.TO_ZERO:
            return torch.where(spikes != 0, float(rule.v_rest), h)
        case ops.Reset.BY_SUBTRACTION:
            return h - spikes * float(rule.reset_by)
        case ops.Reset.NONE:
            return h
        case _:
            assert_never(rule.reset)
