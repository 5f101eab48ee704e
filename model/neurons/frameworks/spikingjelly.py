"""SpikingJelly: `clock_driven` 0.0.0.0.12 and `activation_based` 2.0.0.

Both leak towards v_reset and start from it, fire at v >= v_threshold, with every surrogate of
theirs, and with v_reset = None subtract the threshold at once. PLIF's 1 / tau is sigmoid(w), of
each channel where w has several elements.
The online LIFs are LIFs in evaluation. CUBA's membrane decays to 0, whatever v_reset is; the
ternary neurons fire -1 at -v_threshold.
Step mode 's' of the new version runs one step a call; the old multi-step classes never do.
Source: neuron.py of 0.0.0.0.12, _ops/{lif,if}/reference.py of 2.0.0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

from torch import Tensor

from lapilli.ir import ops
from lapilli.model.neurons.frameworks.parameters import sigmoid_leak
from lapilli.model.neurons.frameworks.silent_twin import stepped
from lapilli.model.neurons.frameworks.strictness import is_strict
from lapilli.model.neurons.general_rule import Constants, GeneralRule
from lapilli.model.neurons.rule import Adapter, NeuronRule, Rule, Trace


def _rule(module: Any, inverse_tau: Fraction | None) -> NeuronRule:
    if getattr(module, "backend", "torch") != "torch":
        raise ValueError(f"backend {module.backend!r}; set backend='torch'")
    threshold = Fraction(module.v_threshold)
    hard = module.v_reset is not None
    leak = inverse_tau or Fraction(0)
    return NeuronRule(
        decay=1 - leak,
        gain=leak if inverse_tau is not None and module.decay_input else Fraction(1),
        v_threshold=threshold,
        strict=is_strict(module.surrogate_function),
        reset=ops.Reset.TO_ZERO if hard else ops.Reset.BY_SUBTRACTION,
        reset_by=Fraction(0) if hard else threshold,
        v_rest=Fraction(module.v_reset) if hard else Fraction(0),
    )


def _if(module: Any) -> NeuronRule:
    return _rule(module, None)


def _lif(module: Any) -> NeuronRule:
    return _rule(module, 1 / Fraction(module.tau))


def _plif(module: Any) -> Rule:
    if module.w.numel() > 1:
        return _of_channels(module)
    return _rule(module, sigmoid_leak(module))


def _of_channels(module: Any) -> GeneralRule:
    """A leak of one's own for each element of `w`."""
    rule = _rule(module, Fraction(1, 2))
    if rule.v_rest:
        raise ValueError(f"{module.w.numel()} leaks towards v_reset = {module.v_reset}, not 0")
    leaks = Constants.channels(module.w.detach().double().sigmoid())
    own = Constants(leaks.values, (1, *leaks.shape))
    return GeneralRule(
        taps=own if module.decay_input else Constants.one(Fraction(1), between=1),
        decay=Constants(tuple(1 - leak for leak in leaks.values), leaks.shape),
        thresholds=Constants.one(rule.thetas[0], between=1),
        strict=(rule.strict,),
        reset=rule.reset,
        reset_by=Constants.one(rule.reset_by),
    )


def _ternary_if(module: Any) -> NeuronRule:
    return replace(_if(module), ternary=True)


def _ternary_lif(module: Any) -> NeuronRule:
    return replace(_lif(module), ternary=True)


def _cuba(module: Any) -> NeuronRule:
    rule = _rule(module, None)
    if rule.v_rest:
        raise ValueError(f"decays to 0, and a spike resets it to v_reset = {module.v_reset}")
    kept, current = Fraction(module.v_decay), Fraction(module.c_decay)
    return replace(rule, decay=kept, current_decay=current)


def _is_stepwise(module: Any) -> bool:
    return getattr(module, "step_mode", "m") == "s"


def _step(module: Any, x: Tensor) -> Tensor:
    spikes: Tensor = module(x) if _is_stepwise(module) else module(x[None])[0]
    return spikes


def _forget(module: Any) -> None:
    module.reset()


def _set_threshold(module: Any, v_threshold: float) -> None:
    module.v_threshold = v_threshold
    if "v_threshold" in getattr(module, "_memories_rv", {}):
        module.set_reset_value("v_threshold", v_threshold)  # or reset() would bring it back


def _trace(module: Any, x: Tensor) -> Trace:
    return stepped(module, x, state="v", step=_step, silence=_set_threshold, forget=_forget)


def _adapter(rule: Callable[[Any], Rule]) -> Adapter:
    return Adapter(
        rule=rule,
        trace=_trace,
        set_threshold=_set_threshold,
        forget=_forget,
        keeps_state=True,
        stepwise=_is_stepwise,
        membrane="v",
    )


IF, LIF, PLIF = _adapter(_if), _adapter(_lif), _adapter(_plif)
TERNARY_IF, TERNARY_LIF = _adapter(_ternary_if), _adapter(_ternary_lif)
CUBA = _adapter(_cuba)
