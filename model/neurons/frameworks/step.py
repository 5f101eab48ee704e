"""STEP at c0b3193: what its `utils/node.py` adds to BrainCog's neurons.

`NILIFNode` divides its membrane by the threshold and by D, cuts it off at 0 and 1, and rounds
half to even: it fires where h > D * threshold / 2, and subtracts the threshold. Its spike is 1,
whatever D is. `ILIFNode` rounds without dividing by D: up to D events, each taking a threshold.
`KLIFNode` multiplies its membrane by k and cuts it off at 0 before it compares.
`GLIFTorch` with hard gates (alpha, beta, gamma above 0) has constants of each step; it fires above
its threshold. `PSNTorch` is a T x T matrix: a rule only where no step weighs a later one.
`LIFNode_Spikingjelly` is SpikingJelly 0.0.0.0.12's LIF of one step, run over (step * B, ...).
Source: cls/models/utils/node.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from lapilli.ir import ops
from lapilli.model.neurons.frameworks import braincog, spikingjelly
from lapilli.model.neurons.frameworks.general import (
    klif_rule,
    parallel_rule,
    rounding_levels,
    unmoved,
)
from lapilli.model.neurons.frameworks.parameters import fill_threshold
from lapilli.model.neurons.frameworks.silent_twin import stepped
from lapilli.model.neurons.frameworks.strictness import is_strict
from lapilli.model.neurons.general_rule import (
    Constants,
    GeneralRule,
    simulate_general,
)
from lapilli.model.neurons.rule import Adapter, NeuronRule, Trace


def _nilif(module: Any) -> NeuronRule:
    braincog.check(module)
    threshold = one_threshold(module)
    leak = 1 / Fraction(float(module.tau))
    return NeuronRule(
        decay=1 - leak,
        gain=leak,
        v_threshold=threshold * module.D / 2,
        strict=True,  # a half is rounded to 0, which is even
        reset=ops.Reset.BY_SUBTRACTION,
        reset_by=threshold,
    )


def _ilif(module: Any) -> GeneralRule:
    braincog.check(module)
    threshold, leak = one_threshold(module), 1 / Fraction(float(module.tau))
    levels, strict = rounding_levels(threshold, int(module.D))
    return GeneralRule(
        taps=Constants.one(leak, between=1),
        decay=Constants.one(1 - leak),
        thresholds=levels,
        strict=strict,
        reset=ops.Reset.BY_SUBTRACTION,
        reset_by=Constants.one(threshold),
    )


def _klif(module: Any) -> GeneralRule:
    braincog.check(module)
    k, leak = Fraction(module.k.detach().double().item()), 1 / Fraction(float(module.tau))
    return klif_rule(
        k,
        decay=k * (1 - leak),
        gain=k * leak,
        threshold=one_threshold(module),
        strict=is_strict(module.act_fun),
    )


def _glif(module: Any) -> GeneralRule:
    if not module.static_gate:
        raise ValueError(
            "static_gate=False: its gates are soft: a spike leaves a share of the membrane"
        )
    T = int(module.T)
    alpha, beta, gamma = (bool(getattr(module, g).detach() > 0) for g in ("alpha", "beta", "gamma"))
    tau, v_th, leak, conduct, subtracted = (
        _sigmoids(getattr(module, name), T) for name in ("tau", "Vth", "leak", "conduct", "reVth")
    )
    decay = tau if alpha else [Fraction(1)] * T
    # What a spike takes is taken in the next step, after its decay.
    taken = [by / kept if kept else Fraction(0) for by, kept in zip(subtracted, decay, strict=True)]
    return GeneralRule(
        taps=Constants.steps(conduct if beta else [Fraction(1)] * T, between=1),
        decay=Constants.steps(decay),
        bias=Constants.steps([Fraction(0)] * T if alpha else [-each for each in leak]),
        thresholds=Constants.steps(v_th, between=1),
        strict=(True,),
        reset=ops.Reset.TO_ZERO if gamma else ops.Reset.BY_SUBTRACTION,
        reset_by=Constants.steps([Fraction(0)] * T if gamma else [*taken[1:], Fraction(0)]),
    )


def _sigmoids(parameter: Tensor, T: int) -> list[Fraction]:
    values = parameter.detach().double().sigmoid().flatten().tolist()
    return [Fraction(v) for v in values] * (1 if len(values) == T else T)


def _glif_trace(module: Any, x: Tensor) -> Trace:
    names = ("tau", "Vth", "leak", "conduct", "reVth")
    u = spike = torch.zeros_like(x[0])
    spikes, membranes = [], []
    with torch.no_grad():
        for t, current in enumerate(x):
            each = {n: getattr(module, n).sigmoid() for n in names}
            now = {n: value if value.ndim == 0 else value[t] for n, value in each.items()}
            u, spike = module.extended_state_update(u, spike, current, **now)
            spike = spike.to(x.dtype)
            spikes.append(spike)
            membranes.append(u)  # a spike takes its share in the next step
    return torch.stack(spikes), torch.stack(membranes)


def _psn(module: Any) -> GeneralRule:
    return parallel_rule(module.fc.weight, module.fc.bias, is_strict(module.act_func))


def _psn_trace(module: Any, x: Tensor) -> Trace:
    """Spikes of a forward that takes (T * B, ...), beside membranes of its rule: it has none."""
    with torch.no_grad():
        spikes = module(x.flatten(0, 1)).unflatten(0, x.shape[:2])
    return spikes.to(x.dtype), simulate_general(_psn(module), x)[1]


def one_threshold(module: Any) -> Fraction:
    """The threshold that is also subtracted.

    Raises:
        ValueError: there are several.
    """
    if module.threshold.numel() != 1:
        raise ValueError(
            f"{module.threshold.numel()} thresholds: each neuron would subtract another amount"
        )
    return Fraction(module.threshold.detach().double().item())


def _set_nilif(module: Any, v_threshold: float) -> None:
    fill_threshold(module, v_threshold * 2 / module.D)


def _one_step(module: Any, x: Tensor) -> Tensor:
    # The class that it derives from: its own forward folds all steps into one call.
    one_step: Any = type(module).__mro__[1]
    spikes: Tensor = one_step.forward(module, x)
    return spikes


def _trace(module: Any, x: Tensor) -> Trace:
    return stepped(
        module,
        x,
        state=spikingjelly.LIF.membrane,
        step=_one_step,
        silence=spikingjelly.LIF.set_threshold,
        forget=spikingjelly.LIF.forget,
    )


def _steps(module: Any) -> int:
    return int(module.T)


ILIF, KLIF = braincog.adapter(_ilif), braincog.adapter(_klif)
PSN = Adapter(rule=_psn, trace=_psn_trace, set_threshold=unmoved, folded=_steps)
GLIF = Adapter(rule=_glif, trace=_glif_trace, set_threshold=unmoved, folded=_steps)
NILIF = replace(braincog.adapter(_nilif), set_threshold=_set_nilif)
SPIKINGJELLY_LIF = replace(
    spikingjelly.LIF,
    trace=_trace,
    stepwise=lambda module: False,
    folded=lambda module: int(module.step),
)

# By the names of STEP's classes.
NEURONS: Mapping[str, Adapter] = {
    "IFNode": braincog.IF,
    "LIFNode": braincog.LIF,
    "PLIFNode": braincog.PLIF,
    "NILIFNode": NILIF,
    "ILIFNode": ILIF,
    "KLIFNode": KLIF,
    "GLIFTorch": GLIF,
    "PSNTorch": PSN,
    "LIFNode_Spikingjelly": SPIKINGJELLY_LIF,
}
