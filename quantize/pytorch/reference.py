"""The PyTorch side of the comparison: the author's own module with quantized parameters.

It runs in float64 on the CPU through the author's own `forward`. Batch norm stays in place
as an exact shift, every current is asserted to lie on its integer grid, and membranes and
spikes are those of the author's own neurons (unless a neuron is not exact in floats: then
the integer neuron takes its place here too, and the report says so).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lapilli.ir import ops
from lapilli.ir.errors import MismatchError
from lapilli.ir.tensor import IntArray
from lapilli.model.capture import program
from lapilli.model.capture.axes import to_steps
from lapilli.model.capture.program import Call, Captured, neuron_of
from lapilli.model.capture.signature import Signature
from lapilli.model.neurons.adapters import adapter_of
from lapilli.model.neurons.copies import copied
from lapilli.model.neurons.rule import Adapter, NeuronRule
from lapilli.quantize.neurons import IntegerNeuron
from lapilli.quantize.plan import Plan
from lapilli.quantize.pytorch.integer_neuron import StandIn, on_grid
from lapilli.quantize.pytorch.recorder import listening
from lapilli.quantize.weights import IntegerUnit, norm_module


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """What PyTorch computed, as integers: arrays (T, B, *shape) by node, logits (B, classes).

    `shown` has what the author's forward read of membranes.
    """

    spikes: Mapping[str, IntArray]
    membranes: Mapping[str, IntArray]
    currents: Mapping[str, IntArray]
    shown: Mapping[str, IntArray]
    logits: IntArray


@dataclass(frozen=True, slots=True, eq=False)
class PyTorchReference:
    """The quantized module and the scales in which to read it.

    Attributes:
        module: float64, evaluation mode.
        image_scale: real pixel = integer * image_scale.
        neurons: node name -> call and integer neuron.
        logit_scale: real logit = integer * logit_scale.
        signature: how the module is called.
    """

    module: nn.Module
    image_scale: Fraction
    neurons: Mapping[str, tuple[Call, IntegerNeuron]]
    logit_scale: Fraction
    signature: Signature = field(default_factory=Signature)

    def run(self, images: IntArray) -> Trace:
        """Run quantized images (B, C, H, W), or (B, T, C, H, W), and read every neuron.

        Raises:
            MismatchError: a current, membrane or logit is not on its grid, or a neuron's
                trace is not what its own forward returned; names the node.
        """
        if self.signature.per_sample and len(images) > 1:
            return _joined([self.run(image[None]) for image in images])
        paths = {neuron_of(call).module for call, _ in self.neurons.values()}
        with torch.no_grad(), listening(self.module, paths) as heard:
            x = torch.from_numpy(images.astype(np.float64)) * float(self.image_scale)
            logits = self.signature.logits(self.module, x).numpy()
        spikes, membranes, currents, shown = {}, {}, {}, {}
        for name, (call, neuron) in self.neurons.items():
            fire, steps = neuron_of(call), _Steps(name, call, len(images))
            x, s = heard.use(fire)
            if isinstance(call.op, program.Membrane) and isinstance(neuron.op, ops.Neuron):
                unit = neuron.unit / 2**neuron.op.fraction_bits
                shown[name] = steps.integers(heard.shown(fire), unit)
                continue
            traced, h = self._trace(fire, x)
            if not torch.equal(traced.to(s.dtype), s):
                raise MismatchError(f"{name}: the traced spikes are not those of its forward")
            rule = fire.rule
            spikes[name] = steps.integers(s, rule.output_scale)
            currents[name] = steps.integers(x, neuron.scale)
            if isinstance(rule, NeuronRule) and isinstance(neuron.op, ops.Neuron):
                if neuron.exact:
                    h = h - float(rule.rest)
                membranes[name] = steps.integers(
                    h, neuron.unit / Fraction(2) ** neuron.op.fraction_bits
                )
        answers = on_grid("logits", logits, self.logit_scale)
        return Trace(spikes, membranes, currents, shown, answers)

    def _trace(self, fire: program.Neuron, x: Tensor) -> tuple[Tensor, Tensor]:
        module = self.module.get_submodule(fire.module)
        if isinstance(module, StandIn):
            return module.trace(fire.call, x)
        adapter = _adapter(module)
        folded = adapter.folded(module)
        with torch.no_grad():
            if not folded:
                return adapter.trace(module, x)
            spikes, membranes = adapter.trace(module, x.unflatten(0, (folded, -1)))
            return spikes.flatten(0, 1), membranes.flatten(0, 1)


@dataclass(frozen=True, slots=True)
class _Steps:
    """Bring a neuron's arrays into (T, B, *shape) and onto their grid."""

    name: str
    call: Call
    batch: int

    def integers(self, values: Tensor, scale: Fraction) -> IntArray:
        array: npt.NDArray[np.float64] = values.detach().double().numpy()
        return on_grid(self.name, to_steps(array, self.call.dims, self.batch), scale)


def _joined(traces: list[Trace]) -> Trace:
    """Traces of one sample each, as one of a batch."""
    spikes, membranes, currents, shown = (
        {name: np.concatenate([getattr(t, kind)[name] for t in traces], axis=1) for name in names}
        for kind in ("spikes", "membranes", "currents", "shown")
        for names in (getattr(traces[0], kind),)
    )
    logits = np.concatenate([t.logits for t in traces])
    return Trace(spikes, membranes, currents, shown, logits)


def _adapter(module: nn.Module) -> Adapter:
    adapter = adapter_of(module)
    if adapter is None:
        raise TypeError(f"{type(module).__name__} is no neuron")
    return adapter


def quantized_module(
    captured: Captured,
    plan: Plan,
    units: Mapping[str, IntegerUnit],
    neurons: Mapping[str, tuple[Call, IntegerNeuron]],
) -> nn.Module:
    """A copy of the author's module, in float64, with every parameter on its grid."""
    module = copied(captured.module).double().eval()
    target = Captured(module, captured.calls, captured.output, captured.T)
    with torch.no_grad():
        for name, unit in plan.units.items():
            op = captured.calls[name].op
            if not isinstance(op, program.Synapse):
                raise TypeError(f"{name} is no linear map")
            integers = units[name]
            _set(module.get_parameter(op.weight), integers.weight.array, integers.weight_scale)
            if unit.norm is None and op.bias is None:
                continue
            bias = integers.bias.array
            if op.bias is not None:
                own = bias if unit.norm is None else np.zeros_like(bias)
                _set(module.get_parameter(op.bias), own, integers.output_scale)
            if unit.norm is not None:
                _make_shift(norm_module(target, unit), bias, integers.output_scale)
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
        adapter = _adapter(own)
        if all(n.exact and n.v_threshold == uses[0][1].v_threshold for _, n in uses):
            if uses[0][1].v_threshold is not None:
                adapter.set_threshold(own, float(uses[0][1].v_threshold))
            continue
        parent, _, leaf = path.rpartition(".")
        stand_in = StandIn(own, uses, adapter)
        setattr(module.get_submodule(parent), leaf, stand_in)


def _set(parameter: Tensor, integers: IntArray, scale: Fraction) -> None:
    real = integers * float(scale.numerator) / float(scale.denominator)
    parameter.copy_(torch.from_numpy(real))


def _make_shift(norm: Any, bias: IntArray, scale: Fraction) -> None:
    """Batch norm as y = x + b: with variance 1, eps 0 and weight 1 every step is exact."""
    norm.eps = 0.0
    norm.running_var.fill_(1)
    norm.running_mean.zero_()
    if norm.weight is not None:
        norm.weight.fill_(1)
    if norm.bias is not None:
        _set(norm.bias, bias, scale)
    else:
        _set(norm.running_mean, -bias, scale)
