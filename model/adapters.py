"""Which classes are neurons, and what each computes: one literal row per class.

A row reads the constants of an instance and can trace it: spikes *and* membranes for given
currents, in the framework's own arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True, slots=True, kw_only=True)
class NeuronRule:
    """h = decay * v + gain * x; spike iff h >= v_threshold (or >, if strict); v = 0 on a spike.

    Exact rationals: a Python float is one.
    """

    decay: Fraction
    gain: Fraction
    v_threshold: Fraction
    strict: bool = False


@dataclass(frozen=True, slots=True)
class Adapter:
    """How to read one neuron class.

    Attributes:
        rule: constants of an instance.
        trace: (instance, currents (T, ...)) -> spikes and membranes before reset, (T, ...).
        set_threshold: make an instance compare with another threshold.
    """

    rule: Callable[[Any], NeuronRule]
    trace: Callable[[Any, Tensor], tuple[Tensor, Tensor]]
    set_threshold: Callable[[Any, float], None]


def _lif_rule(module: Any) -> NeuronRule:
    tau = Fraction(module.tau)
    return NeuronRule(decay=1 - 1 / tau, gain=1 / tau, v_threshold=Fraction(module.v_threshold))


def _lif_trace(module: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    spikes, membranes = module.trace(x)
    return spikes, membranes


def _lif_set_threshold(module: Any, v_threshold: float) -> None:
    module.v_threshold = v_threshold


# By qualified class name, so that a framework need not be installed to be known.
ADAPTERS: Mapping[str, Adapter] = {
    "lapilli.model.neuron.LIF": Adapter(_lif_rule, _lif_trace, _lif_set_threshold),
}


def adapter_of(module: nn.Module) -> Adapter | None:
    """The row of this module's class, or None if it is no neuron that we know."""
    kind = type(module)
    return ADAPTERS.get(f"{kind.__module__}.{kind.__qualname__}")
