"""The PyTorch side of the comparison: the author's own module with quantized parameters.

It runs in float64 on the CPU through the author's own `forward`. Batch norm stays in place
as an exact shift, every current is asserted to lie on its integer grid, and membranes and
spikes are those of the author's own neurons (unless a neuron is not exact in floats: then
the integer neuron takes its place here too, and the report says so).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lapilli.ir.errors import MismatchError
from lapilli.ir.ops import Neuron
from lapilli.ir.semantics import State, integrate
from lapilli.ir.tensor import IntArray
from lapilli.model.adapters import adapter_of
from lapilli.model.axes import to_steps
from lapilli.model.program import Call, Captured, Fire, Synapse
from lapilli.quantize.neurons import IntegerNeuron
from lapilli.quantize.plan import Plan
from lapilli.quantize.weights import IntegerUnit, norm_module


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """What PyTorch computed, as integers: arrays (T, B, *shape) by node, logits (B, classes)."""

    spikes: Mapping[str, IntArray]
    membranes: Mapping[str, IntArray]
    currents: Mapping[str, IntArray]
    logits: IntArray


@dataclass(frozen=True, slots=True, eq=False)
class PyTorchReference:
    """The quantized module and the scales in which to read it.

    Attributes:
        module: float64, evaluation mode.
        image_scale: real pixel = integer * image_scale.
        neurons: node name -> call and integer neuron.
        logit_scale: real logit = integer * logit_scale.
    """

    module: nn.Module
    image_scale: Fraction
    neurons: Mapping[str, tuple[Call, IntegerNeuron]]
    logit_scale: Fraction

    def run(self, images: IntArray) -> Trace:
        """Run quantized images (B, C, H, W) and read every neuron.

        Raises:
            MismatchError: a current, membrane or logit is not on its grid, or a neuron's
                trace is not what its own forward returned; names the node.
        """
        seen: dict[tuple[str, int], tuple[Tensor, Tensor]] = {}
        hooks = [
            self.module.get_submodule(path).register_forward_hook(_recorder(path, seen))
            for path in {_fire(call).module for call, _ in self.neurons.values()}
        ]
        try:
            with torch.no_grad():
                x = torch.from_numpy(images.astype(np.float64)) * float(self.image_scale)
                logits = self.module(x).numpy()
        finally:
            for hook in hooks:
                hook.remove()
        spikes, membranes, currents = {}, {}, {}
        for name, (call, neuron) in self.neurons.items():
            fire = _fire(call)
            x, s = seen[fire.module, fire.call]
            traced, h = self._trace(fire.module, x)
            if not torch.equal(traced, s):
                raise MismatchError(f"{name}: the traced spikes are not those of its forward")
            steps = _Steps(name, call, len(images))
            scale = neuron.unit / fire.rule.gain
            spikes[name] = steps.integers(s, Fraction(1))
            currents[name] = steps.integers(x, scale)
            membranes[name] = steps.integers(h, neuron.unit / 2**neuron.op.fraction_bits)
        return Trace(spikes, membranes, currents, on_grid("logits", logits, self.logit_scale))

    def _trace(self, path: str, x: Tensor) -> tuple[Tensor, Tensor]:
        module = self.module.get_submodule(path)
        if isinstance(module, IntegerLIF):
            return module.trace(x)
        adapter = adapter_of(module)
        if adapter is None:
            raise TypeError(f"{path} is no neuron")
        with torch.no_grad():
            return adapter.trace(module, x)


@dataclass(frozen=True, slots=True)
class _Steps:
    """Bring a neuron's arrays into (T, B, *shape) and onto their grid."""

    name: str
    call: Call
    batch: int

    def integers(self, values: Tensor, scale: Fraction) -> IntArray:
        array: npt.NDArray[np.float64] = values.detach().numpy()
        return on_grid(self.name, to_steps(array, self.call.dims, self.batch), scale)


def on_grid(name: str, values: npt.NDArray[np.float64], scale: Fraction) -> IntArray:
    """The integers n with value == n * scale, exactly.

    Raises:
        MismatchError: a value that is none.
    """
    numerator, denominator = float(scale.numerator), float(scale.denominator)
    if not np.isfinite(values).all():
        raise MismatchError(f"{name}: NaN or infinity in PyTorch's run")
    n = np.rint(values * denominator / numerator)
    if not np.array_equal(n * numerator / denominator, values):
        worst = int(np.argmax(np.abs(n * numerator / denominator - values)))
        raise MismatchError(
            f"{name}: {values.ravel()[worst]!r} is no multiple of {scale} in PyTorch's run"
        )
    return n.astype(np.int64)


def _fire(call: Call) -> Fire:
    if not isinstance(call.op, Fire):
        raise TypeError(f"{call.name} is no neuron")
    return call.op


def _recorder(
    path: str, seen: dict[tuple[str, int], tuple[Tensor, Tensor]]
) -> Callable[[nn.Module, tuple[Any, ...], Tensor], None]:
    def record(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        call = sum(p == path for p, _ in seen)
        seen[path, call] = (args[0].detach(), output.detach())

    return record


class IntegerLIF(nn.Module):
    """The graph's integer neuron, for modules whose float neuron is not exact."""

    def __init__(self, op: Neuron, scale: Fraction, unit: Fraction) -> None:
        super().__init__()
        self.op = op
        self.scale = scale
        self.unit = unit

    def forward(self, x: Tensor) -> Tensor:
        """Currents (T, ...) to spikes (T, ...)."""
        return self.trace(x)[0]

    def trace(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return spikes and membranes before reset, in real units."""
        currents = on_grid("the integer neuron", x.detach().numpy(), self.scale)
        state = State.rest(currents.shape[1:])
        spikes, membranes = [], []
        for current in currents:
            fired = integrate(self.op, current, state)
            state = fired.state
            spikes.append(fired.spikes)
            membranes.append(fired.membrane)
        real = np.stack(membranes) * float(self.unit.numerator)
        real = real / float(self.unit.denominator * 2**self.op.fraction_bits)
        return torch.from_numpy(np.stack(spikes).astype(np.float64)), torch.from_numpy(real)


def quantized_module(
    captured: Captured,
    plan: Plan,
    units: Mapping[str, IntegerUnit],
    neurons: Mapping[str, tuple[Call, IntegerNeuron]],
) -> nn.Module:
    """A copy of the author's module, in float64, with every parameter on its grid."""
    module = copy.deepcopy(captured.module).double().eval()
    target = Captured(module, captured.calls, captured.output, captured.T)
    with torch.no_grad():
        for name, unit in plan.units.items():
            op = captured.calls[name].op
            if not isinstance(op, Synapse):
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
    for call, neuron in neurons.values():
        _set_neuron(module, _fire(call), neuron)
    return module


def _set_neuron(module: nn.Module, fire: Fire, neuron: IntegerNeuron) -> None:
    own = module.get_submodule(fire.module)
    if not neuron.exact:
        parent, _, leaf = fire.module.rpartition(".")
        stand_in = IntegerLIF(neuron.op, neuron.unit / fire.rule.gain, neuron.unit)
        setattr(module.get_submodule(parent), leaf, stand_in)
    elif neuron.v_threshold is not None and (adapter := adapter_of(own)):
        adapter.set_threshold(own, float(neuron.v_threshold))


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
