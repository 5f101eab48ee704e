"""Our own neurons (`model.neuron`)."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

from torch import Tensor

from lapilli.model.neurons.frameworks.parameters import sigmoid_leak
from lapilli.model.neurons.rule import Adapter, NeuronRule, Rule, StaircaseRule, Trace


def leaky(tau: Fraction, v_threshold: Fraction, *, ternary: bool = False) -> NeuronRule:
    """H = v + (x - v) / tau."""
    return NeuronRule(decay=1 - 1 / tau, gain=1 / tau, v_threshold=v_threshold, ternary=ternary)


def _lif(module: Any) -> NeuronRule:
    return leaky(Fraction(module.tau), Fraction(module.v_threshold))


def _parametric(module: Any) -> NeuronRule:
    leak = sigmoid_leak(module)
    threshold = Fraction(module.v_threshold)
    return NeuronRule(decay=1 - leak, gain=leak, v_threshold=threshold)


def _ternary(module: Any) -> NeuronRule:
    return leaky(Fraction(module.tau), Fraction(module.v_threshold), ternary=True)


def _integer(module: Any) -> StaircaseRule:
    return StaircaseRule(levels=module.D, norm=module.norm)


def _trace(module: Any, x: Tensor) -> Trace:
    spikes, membranes = module.trace(x)
    return spikes, membranes


def _set_threshold(module: Any, v_threshold: float) -> None:
    module.v_threshold = v_threshold


def _no_threshold(module: Any, v_threshold: float) -> None:
    raise TypeError(f"{type(module).__name__} has no threshold to set to {v_threshold}")


def _adapter(
    rule: Callable[[Any], Rule], set_threshold: Callable[[Any, float], None] = _set_threshold
) -> Adapter:
    return Adapter(rule=rule, trace=_trace, set_threshold=set_threshold, watched="trace")


LIF, PLIF, TERNARY = _adapter(_lif), _adapter(_parametric), _adapter(_ternary)
INTEGER = _adapter(_integer, _no_threshold)
