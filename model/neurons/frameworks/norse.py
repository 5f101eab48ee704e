"""norse 1.1.0: `LIFCell`, `LIF` (with a synaptic current) and `LIFBoxCell` (without).

`LICell` and `LIBoxCell` are the same without spikes: they return their membrane.

With c = dt * tau_mem_inv, multiplied in the precision of the tensor as norse does it:
h = v + c * (v_leak - v + i), i taken before its own decay by 1 - dt * tau_syn_inv, and a
spike at h > v_th. They leak towards v_leak and start from it.
Source: norse/torch/functional/{lif,lif_box,reset,heaviside}.py, leaky_integrator{,_box}.py.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from lapilli.ir import ops
from lapilli.model.neurons.frameworks.silent_twin import OUT_OF_REACH
from lapilli.model.neurons.general_rule import Constants, GeneralRule
from lapilli.model.neurons.rule import Adapter, NeuronRule, Rule, Thresholds, Trace


def _lif(module: Any) -> NeuronRule:
    if module.p.method == "adjoint":
        raise ValueError("method 'adjoint' is for training by the adjoint; use 'super'")
    return _rule(module, 1 - _number(module.dt * module.p.tau_syn_inv), ops.Reset.TO_ZERO)


def _lif_box(module: Any) -> Rule:
    kinds = {"reset_value": ops.Reset.TO_ZERO, "reset_subtract": ops.Reset.BY_SUBTRACTION}
    name = getattr(module.p.reset_method, "__name__", "")
    if name not in kinds:
        raise ValueError(f"reset_method {name!r}; known: {sorted(kinds)}")
    thresholds = Thresholds.of(torch.as_tensor(module.p.v_th))
    if isinstance(thresholds, Thresholds) and kinds[name] is ops.Reset.BY_SUBTRACTION:
        return _of_channels(module)
    return _rule(module, Fraction(0), kinds[name])


def _of_channels(module: Any) -> GeneralRule:
    """Thresholds that differ and are subtracted."""
    p, c = module.p, _number(module.dt * module.p.tau_mem_inv)
    if rest := _number(p.v_leak):
        raise ValueError(f"rests at {float(rest):g}, and each neuron subtracts another threshold")
    threshold = torch.as_tensor(p.v_th)
    return GeneralRule(
        taps=Constants.one(c, between=1),
        decay=Constants.one(1 - c),
        thresholds=Constants.channels(threshold, between=1),
        strict=(True,),
        reset=ops.Reset.BY_SUBTRACTION,
        reset_by=Constants.channels(threshold),
    )


def _rule(module: Any, current_decay: Fraction, reset: ops.Reset) -> NeuronRule:
    p, c = module.p, _number(module.dt * module.p.tau_mem_inv)
    rest, threshold = _number(p.v_leak), Thresholds.of(torch.as_tensor(p.v_th))
    if reset is ops.Reset.TO_ZERO and _number(p.v_reset) != rest:
        raise ValueError("v_reset differs from v_leak: a spike would not bring it to rest")
    reset_by = Fraction(0)
    if reset is ops.Reset.BY_SUBTRACTION:
        reset_by = _number(p.v_th)
    return NeuronRule(
        decay=1 - c,
        gain=c,
        v_threshold=threshold,
        strict=True,  # all its threshold functions are heaviside forward
        current_decay=current_decay,
        reset=reset,
        reset_by=reset_by,
        v_rest=rest,
    )


def _integrator(module: Any) -> NeuronRule:
    p, c = module.p, _number(module.dt * module.p.tau_mem_inv)
    kept = 1 - _number(module.dt * p.tau_syn_inv) if hasattr(p, "tau_syn_inv") else Fraction(0)
    rest = _number(p.v_leak)
    return NeuronRule(
        decay=1 - c,
        gain=c,
        v_threshold=rest + 1,  # nothing is compared with it
        current_decay=kept,
        reset=ops.Reset.NONE,
        v_rest=rest,
    )


def _number(value: Any) -> Fraction:
    tensor = torch.as_tensor(value).detach()
    if tensor.numel() != 1:
        raise ValueError(
            f"a parameter has {tensor.numel()} values; only v_th may differ from neuron to neuron"
        )
    return Fraction(tensor.double().item())


def _trace(module: Any, x: Tensor) -> Trace:
    p, dt = module.p, module.dt
    silent = p._replace(v_th=torch.as_tensor(OUT_OF_REACH, dtype=torch.float64))
    spikes, membranes = [], []
    state: Any = None
    with torch.no_grad():
        for current in x:
            before = module.state_fallback(_like_input(module, x)) if state is None else state
            _, twin = module.activation(current, before, silent, dt)
            s, state = module.activation(current, before, p, dt)
            spikes.append(s)
            membranes.append(twin.v)
    return torch.stack(spikes), torch.stack(membranes)


def _trace_integrator(module: Any, x: Tensor) -> Trace:
    membranes = []
    state: Any = None
    with torch.no_grad():
        for current in x:
            before = module.state_fallback(current) if state is None else state
            v, state = module.activation(current, before, module.p, module.dt)
            membranes.append(v)
    h = torch.stack(membranes)
    rule = _integrator(module)
    return (h >= float(rule.v_rest + rule.thetas[0])).to(h.dtype), h


def _never(module: Any, v_threshold: float) -> None:
    """It compares with no threshold."""
    del module, v_threshold


def _like_input(module: Any, x: Tensor) -> Tensor:
    return x[0] if _is_stepwise(module) else x


def _is_stepwise(module: Any) -> bool:
    return type(module).__qualname__.endswith("Cell")


def _set_threshold(module: Any, v_threshold: float) -> None:
    module.p = module.p._replace(v_th=torch.as_tensor(v_threshold, dtype=torch.float64))


LIF = Adapter(
    rule=_lif,
    trace=_trace,
    set_threshold=_set_threshold,
    stepwise=_is_stepwise,
    membrane="v",
)
LIF_BOX = Adapter(
    rule=_lif_box,
    trace=_trace,
    set_threshold=_set_threshold,
    stepwise=_is_stepwise,
    membrane="v",
)
LI = Adapter(
    rule=_integrator,
    trace=_trace_integrator,
    set_threshold=_never,
    stepwise=_is_stepwise,
    membrane="v",
    silent=True,
)
