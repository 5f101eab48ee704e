"""A copy of the author's module, in float64, with every parameter on its grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lapilli.model.capture import program
from lapilli.model.capture.program import Call, Captured, neuron_of
from lapilli.model.neurons.adapters import adapter_of
from lapilli.model.neurons.copies import in_float64
from lapilli.model.neurons.rule import Adapter
from lapilli.quantize.neurons import IntegerNeuron
from lapilli.quantize.plan import Plan
from lapilli.quantize.pytorch.integer_neuron import StandIn
from lapilli.quantize.weights import FloatArray, IntegerUnit, norm_module


def quantized_module(
    captured: Captured,
    plan: Plan,
    units: Mapping[str, IntegerUnit],
    neurons: Mapping[str, tuple[Call, IntegerNeuron]],
) -> nn.Module:
    """A copy of the author's module, in float64, with every parameter on its grid."""
    module = in_float64(captured.module).eval()
    target = Captured(module, captured.calls, captured.outputs, captured.T)
    with torch.no_grad():
        for name, unit in plan.units.items():
            op = captured.calls[name].op
            if not isinstance(op, program.Synapse):
                raise TypeError(f"{name} is no linear map")
            integers = units[name]
            _set(module.get_parameter(op.weight), integers.real_weight)
            if unit.norm is None and op.bias is None:
                continue
            bias = integers.real_bias
            if op.bias is not None:
                own = bias if unit.norm is None else np.zeros_like(bias)
                _set(module.get_parameter(op.bias), own)
            if unit.norm is not None:
                _make_shift(norm_module(target, unit), bias)
    _set_neurons(module, [(neuron_of(call), neuron) for call, neuron in neurons.values()])
    return module


def _set_neurons(
    module: nn.Module, neurons: Sequence[tuple[program.Neuron, IntegerNeuron]]
) -> None:
    """Move thresholds, and put the integer neuron where the float one is not exact."""
    by_path: dict[str, list[tuple[program.Neuron, IntegerNeuron]]] = {}
    for fire, neuron in neurons:
        if (fire, neuron) not in by_path.setdefault(fire.module, []):  # spikes, and a membrane
            by_path[fire.module].append((fire, neuron))
    for path, uses in by_path.items():
        own = module.get_submodule(path)
        adapter = known_adapter(own)
        if all(n.exact and n.v_threshold == uses[0][1].v_threshold for _, n in uses):
            if uses[0][1].v_threshold is not None:
                adapter.set_threshold(own, float(uses[0][1].v_threshold))
            continue
        parent, _, leaf = path.rpartition(".")
        stand_in = StandIn(own, uses, adapter)
        setattr(module.get_submodule(parent), leaf, stand_in)


def _set(parameter: Tensor, real: FloatArray) -> None:
    parameter.copy_(torch.from_numpy(real))


def _make_shift(norm: Any, bias: FloatArray) -> None:
    """Batch norm as y = x + b: with variance 1, eps 0 and weight 1 every step is exact."""
    norm.eps = 0.0
    norm.running_var.fill_(1)
    norm.running_mean.zero_()
    if norm.weight is not None:
        norm.weight.fill_(1)
    if norm.bias is not None:
        _set(norm.bias, bias)
    else:
        _set(norm.running_mean, -bias)


def known_adapter(module: nn.Module) -> Adapter:
    """How to read a neuron that capture has accepted.

    Raises:
        TypeError: it is no neuron.
    """
    adapter = adapter_of(module)
    if adapter is None:
        raise TypeError(f"{type(module).__name__} is no neuron")
    return adapter
