"""Move the threshold of a layer of neurons until it fires as often as in float."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

import torch
from torch import Tensor

from lapilli.ir import ops
from lapilli.model.capture import program
from lapilli.model.capture.program import Captured
from lapilli.model.neurons.rule import NeuronRule
from lapilli.model.neurons.simulate import simulate

_STEP = Fraction(1, 32)  # of the trained threshold
_MOST = 8  # steps up and down


def with_thresholds(captured: Captured, moved: Mapping[tuple[str, int], Fraction]) -> Captured:
    """The same program, some neurons of which have other thresholds in integers.

    Args:
        captured: the program.
        moved: path and call of a neuron -> its threshold.
    """
    calls = dict(captured.calls)
    for name, call in captured.calls.items():
        op = call.op
        if isinstance(op, program.Neuron) and (op.module, op.call) in moved:
            calls[name] = replace(call, op=replace(op, moved=moved[op.module, op.call]))
    return replace(captured, calls=calls) if moved else captured


def movable(captured: Captured) -> dict[tuple[str, int], NeuronRule]:
    """Path and call of each neuron whose threshold is a number that nothing else depends on."""
    operators = [call.op for call in captured.calls.values()]
    read = [op.neuron for op in operators if isinstance(op, program.Membrane)]
    shown = {(fire.module, fire.call) for fire in read}
    found = {}
    for op in operators:
        if isinstance(op, program.Neuron) and (op.module, op.call) not in shown:
            rule = op.rule
            if isinstance(rule, NeuronRule) and _has_one(rule):
                found[op.module, op.call] = rule
    return found


def _has_one(rule: NeuronRule) -> bool:
    one = isinstance(rule.v_threshold, Fraction) and not rule.v_rest
    return one and rule.reset is ops.Reset.TO_ZERO


def nearest_rate(rule: NeuronRule, x: Tensor, wanted: Tensor) -> tuple[Fraction, Tensor]:
    """Find the threshold by which a layer fires as often as it should.

    Args:
        rule: what it computes, with one threshold.
        x: the currents that it hears, (T, B, *step).
        wanted: float's spikes.

    Returns:
        The threshold, which a float holds, and the spikes by it.
    """
    theta, spikes = rule.thetas[0], simulate(rule, x)[0]
    missing = _sent(wanted) - _sent(spikes)
    found, step = (theta, spikes), -_STEP if missing > 0 else _STEP
    for steps in range(1, _MOST + 1):
        moved = Fraction(float(theta * (1 + steps * step)))
        tried = simulate(replace(rule, v_threshold=moved), x)[0]
        left = _sent(wanted) - _sent(tried)
        if abs(left) > abs(missing):
            break
        if abs(left) < abs(missing):  # currents of few bits meet many thresholds alike
            missing, found = left, (moved, tried)
    return found


def _sent(spikes: Tensor) -> float:
    """How many spikes, of either sign."""
    return float(spikes.abs().sum(dtype=torch.float64))
