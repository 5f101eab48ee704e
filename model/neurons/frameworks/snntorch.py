"""snnTorch 1.0.0: `Leaky` and `Lapicque`, one step a call.

The reset that a spike causes happens in the *next* step: mem' = beta * mem + x - s * threshold
with s of the step before. In our order, where a reset comes before the decay, the amount is
threshold / beta, and what it returns is the membrane before its reset. Both fire at
mem > threshold, with every surrogate of theirs. A zero reset of `Lapicque` also drops the next
input, a refractory step that the rule does not know.
The threshold and `beta` of `Leaky` may be tensors, one number for each neuron or channel; where
they differ, and thresholds are subtracted, so do the amounts.
Which reset runs is `state_function`, chosen when the module was made: setting
`reset_mechanism` later changes what the module says, not what it does.
Source: snntorch/_neurons/{leaky,lapicque,neurons}.py.
"""

from __future__ import annotations

import copy
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from lapilli.ir import ops
from lapilli.model.neurons.frameworks.parameters import fill_threshold
from lapilli.model.neurons.frameworks.strictness import is_strict
from lapilli.model.neurons.general_rule import Constants, GeneralRule
from lapilli.model.neurons.rule import Adapter, NeuronRule, Rule, Thresholds, Trace

_NOTHING = "a decay of 0 with a subtraction in the next step: nothing to keep"
_RESETS = {
    "_base_sub": ops.Reset.BY_SUBTRACTION,
    "_base_zero": ops.Reset.TO_ZERO,
    "_base_int": ops.Reset.NONE,
}


def _reset(module: Any) -> ops.Reset:
    """What a spike does; refuses options that no rule has."""
    for option in ("inhibition", "state_quant"):
        if getattr(module, option):
            raise ValueError(f"{option} is set; the rule has none")
    if float(_one(module, "graded_spikes_factor")) != 1:
        raise ValueError("graded_spikes_factor is not 1")
    reset = _RESETS.get(module.state_function.__name__)
    if reset is None:
        raise ValueError(f"state function {module.state_function.__name__!r}")
    return reset


def _rule(module: Any, decay: Fraction, gain: Fraction) -> NeuronRule:
    reset = _reset(module)
    threshold = Thresholds.of(torch.as_tensor(module.threshold))
    reset_by = Fraction(0)
    if reset is ops.Reset.BY_SUBTRACTION:
        if decay == 0:
            raise ValueError(_NOTHING)
        if isinstance(threshold, Thresholds):
            raise ValueError(
                f"{len(threshold.values)} thresholds with reset_mechanism='subtract': each neuron "
                "would subtract another amount; use 'zero' or 'none', or one threshold"
            )
        reset_by = threshold / decay
    return NeuronRule(
        decay=decay,
        gain=gain,
        v_threshold=threshold,
        strict=is_strict(module.spike_grad),
        reset=reset,
        reset_by=reset_by,
    )


def _leaky(module: Any) -> Rule:
    subtracts = _reset(module) is ops.Reset.BY_SUBTRACTION
    if subtracts and not module.reset_delay:
        raise ValueError(
            "reset_delay=False with reset_mechanism='subtract' subtracts twice where the "
            "membrane stays above threshold; use reset_delay=True or 'zero'"
        )
    beta = Thresholds.of(torch.as_tensor(module.beta).detach().double().clamp(0, 1))
    several = isinstance(Thresholds.of(torch.as_tensor(module.threshold)), Thresholds)
    if isinstance(beta, Thresholds) or (subtracts and several):
        return _of_channels(module)
    return _rule(module, beta, Fraction(1))


def _of_channels(module: Any) -> GeneralRule:
    """Leaks that differ, or thresholds that are subtracted: behind the leak, of which they are."""
    reset = _reset(module)
    decay = Constants.channels(torch.as_tensor(module.beta).detach().double().clamp(0, 1))
    threshold = torch.as_tensor(module.threshold)
    reset_by = Constants.one(Fraction(0))
    if reset is ops.Reset.BY_SUBTRACTION:
        if 0 in decay.values:
            raise ValueError(_NOTHING)
        reset_by = Constants.channels(threshold).over(decay)
    return GeneralRule(
        taps=Constants.one(Fraction(1), between=1),
        decay=decay,
        thresholds=Constants.channels(threshold, between=1),
        strict=(is_strict(module.spike_grad),),
        reset=reset,
        reset_by=reset_by,
    )


def _lapicque(module: Any) -> NeuronRule:
    if module.state_function.__name__ == "_base_zero":
        raise ValueError(
            "reset_mechanism='zero' of Lapicque drops the input of the step after a spike; "
            "use 'subtract', or Leaky"
        )
    # In float64 and in its order, as the module computes once it is converted.
    R, C, time_step = (float(_one(module, name)) for name in ("R", "C", "time_step"))
    decay = 1 - (time_step / (R * C))
    gain = R * (1 / (R * C)) * time_step
    return _rule(module, Fraction(decay), Fraction(gain))


def _one(module: Any, name: str) -> Fraction:
    value = torch.as_tensor(getattr(module, name)).detach()
    if value.numel() != 1:
        raise ValueError(
            f"{name} has {value.numel()} values; only thresholds may differ from neuron to neuron"
        )
    return Fraction(value.double().item())


def _forget(module: Any) -> None:
    module.reset_mem()


def _trace(module: Any, x: Tensor) -> Trace:
    own = copy.deepcopy(module)
    own.mem = torch.zeros_like(x[0])
    own.reset_delay = True  # then `mem` is the membrane before its reset
    own.init_hidden, own.output = True, True  # keep the state, show it
    spikes, membranes = [], []
    with torch.no_grad():
        for current in x:
            s, mem = own(current)
            spikes.append(s)
            membranes.append(mem)
    return torch.stack(spikes), torch.stack(membranes)


LEAKY = Adapter(
    rule=_leaky,
    trace=_trace,
    set_threshold=fill_threshold,
    forget=_forget,
    keeps_state=True,
    stepwise=lambda module: True,
    membrane="mem",
    shows_after_reset=lambda module: not module.reset_delay,
)
LAPICQUE = Adapter(
    rule=_lapicque,
    trace=_trace,
    set_threshold=fill_threshold,
    forget=_forget,
    keeps_state=True,
    stepwise=lambda module: True,
    membrane="mem",
    shows_after_reset=lambda module: False,
)
