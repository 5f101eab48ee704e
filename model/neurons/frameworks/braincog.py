"""BrainCog 0.2.7.19's `IFNode`, `LIFNode` and `PLIFNode`, and STEP's of the same names.

mem = mem + (x - mem) / tau, where PLIF's 1 / tau is sigmoid(w); a spike multiplies mem by 0.
Whether it fires at the threshold depends on `act_fun`: not with BrainCog's default, yes with
STEP's. `threshold` is a parameter; `sigmoid_thres` does not change what mem is compared with.
v_reset is only where `n_reset` starts from.
With `layer_by_layer` (STEP's default) forward takes (step * B, ...), else one time step.
Source: braincog/base/node/node.py; STEP, cls/models/utils/node.py.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

from torch import Tensor

from lapilli.model.neurons.frameworks.parameters import fill_threshold, sigmoid_leak
from lapilli.model.neurons.frameworks.silent_twin import stepped
from lapilli.model.neurons.frameworks.strictness import is_strict
from lapilli.model.neurons.rule import Adapter, NeuronRule, Rule, Thresholds, Trace


def _lif(module: Any) -> NeuronRule:
    leak = 1 / Fraction(float(module.tau))
    return _rule(module, 1 - leak, leak)


def _plif(module: Any) -> NeuronRule:
    leak = sigmoid_leak(module)
    return _rule(module, 1 - leak, leak)


def _if(module: Any) -> NeuronRule:
    if module.sigmoid_thres:
        raise ValueError("sigmoid_thres is set: an IF compares with the sigmoid of its threshold")
    return _rule(module, Fraction(1), Fraction(float(module.dt)))


def _rule(module: Any, decay: Fraction, gain: Fraction) -> NeuronRule:
    check(module)
    threshold = Thresholds.of(module.threshold)
    strict = is_strict(module.act_fun)
    return NeuronRule(decay=decay, gain=gain, v_threshold=threshold, strict=strict)


def check(module: Any) -> None:
    """Refuse options of BrainCog's base class that no rule has.

    Raises:
        ValueError: one is set.
    """
    if module.v_reset:
        raise ValueError(f"starts from v_reset = {module.v_reset}, but a spike resets it to 0")
    if module.groups != 1:
        raise ValueError(f"n_groups = {module.groups}: weights that differ by time step")


def _step(module: Any, x: Tensor) -> Tensor:
    # What forward does in one step, without its rearrangement of (step * B, ...).
    module.integral(x)
    module.calc_spike()
    spikes: Tensor = module.spike
    return spikes


def _forget(module: Any) -> None:
    module.n_reset()


def _trace(module: Any, x: Tensor) -> Trace:
    return stepped(module, x, state="mem", step=_step, silence=fill_threshold, forget=_forget)


def _folded(module: Any) -> int:
    return int(module.step) if module.layer_by_layer else 0


def adapter(rule: Callable[[Any], Rule]) -> Adapter:
    """The adapter of a class that derives from BrainCog's `BaseNode`."""
    return Adapter(
        rule=rule,
        trace=_trace,
        set_threshold=fill_threshold,
        forget=_forget,
        keeps_state=True,
        stepwise=lambda module: not module.layer_by_layer,
        membrane="mem",
        folded=_folded,
    )


IF, LIF, PLIF = adapter(_if), adapter(_lif), adapter(_plif)
