"""SpikingJelly's KLIF (0.0.0.0.14, 2.0.0), and I-LIF and parallel spiking neurons of 2.0.0.

KLIF multiplies its membrane by k and cuts it off at 0; with `scale_reset` what a spike leaves is
divided by k again, so that the state is that of a LIF. I-LIF rounds its membrane, in thresholds,
to at most D events, half to even, and each takes a threshold.
A parallel spiking neuron keeps no membrane. The masked one has weights of each step for the
latest k inputs once lambda is 1, the sliding one the same k at each step; the plain one has a
T x T matrix: a rule only where no step weighs a later one.
Source: functional/neuron.py, neuron/{lif_variants,ilif,psn}.py of 2.0.0; neuron.py of 0.0.0.0.14.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from lapilli.ir import ops
from lapilli.model.neurons.frameworks import spikingjelly
from lapilli.model.neurons.frameworks.general import (
    klif_rule,
    looking_back,
    parallel_rule,
    rounding_levels,
    unmoved,
)
from lapilli.model.neurons.frameworks.strictness import is_strict
from lapilli.model.neurons.general_rule import Constants, GeneralRule, simulate_general
from lapilli.model.neurons.rule import Adapter, Trace


def _klif(module: Any) -> GeneralRule:
    if module.v_reset:
        raise ValueError(f"v_reset is {module.v_reset:g}; its floor is 0, and not its rest")
    k, leak = Fraction(module.k.detach().double().item()), 1 / Fraction(module.tau)
    gain = leak if module.decay_input else Fraction(1)
    threshold = Fraction(module.v_threshold)
    scale = Fraction(1) if module.scale_reset else k  # of the state that is kept
    if k > 0:
        threshold = threshold * scale / k
    return klif_rule(
        k,
        decay=scale * (1 - leak),
        gain=scale * gain,
        threshold=threshold,
        strict=is_strict(module.surrogate_function),
        reset_by=threshold if module.v_reset is None else None,
    )


def _ilif(module: Any) -> GeneralRule:
    threshold, leak = Fraction(module.v_threshold), 1 / Fraction(module.tau)
    most = module.surrogate_function.max_spike_count
    levels, strict = rounding_levels(threshold, int(most))
    return GeneralRule(
        taps=Constants.one(Fraction(1), between=1),
        decay=Constants.one(1 - leak),
        thresholds=levels,
        strict=strict,
        reset=ops.Reset.BY_SUBTRACTION,
        reset_by=Constants.one(threshold),
    )


def _psn(module: Any) -> GeneralRule:
    return parallel_rule(module.weight, module.bias, is_strict(module.surrogate_function))


def _masked(module: Any) -> GeneralRule:
    if float(module.lambda_) < 1:
        raise ValueError(
            f"lambda is {float(module.lambda_):g}: its mask lets steps weigh later ones: not "
            "causal; train until it is 1"
        )
    weight = module.weight * module.mask0
    return parallel_rule(weight, module.bias, is_strict(module.surrogate_function))


def _sliding(module: Any) -> GeneralRule:
    weights = [Fraction(w) for w in module.weight.detach().double().tolist()][::-1]
    taps = Constants(tuple(weights), (1, len(weights), 1))
    return looking_back(taps, module.bias, is_strict(module.surrogate_function))


def _parallel(rule: Any, *, keeps_state: bool) -> Adapter:
    def forget(module: Any) -> None:
        if keeps_state:
            module.reset()

    def trace(module: Any, x: Tensor) -> Trace:
        forget(module)
        stepwise = getattr(module, "step_mode", "m") == "s"
        with torch.no_grad():
            spikes = torch.stack([module(step) for step in x]) if stepwise else module(x)
        forget(module)
        # It shows no membrane of its own: those of its rule stand beside its spikes.
        return spikes.to(x.dtype), simulate_general(rule(module), x)[1]

    return Adapter(
        rule=rule,
        trace=trace,
        set_threshold=unmoved,
        forget=forget,
        keeps_state=keeps_state,
        stepwise=lambda module: getattr(module, "step_mode", "m") == "s",
    )


KLIF, ILIF = replace(spikingjelly.LIF, rule=_klif), replace(spikingjelly.LIF, rule=_ilif)
PSN = _parallel(_psn, keeps_state=False)
MASKED_PSN, SLIDING_PSN = (_parallel(rule, keeps_state=True) for rule in (_masked, _sliding))
