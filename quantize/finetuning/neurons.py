"""What fires in a fake-quantized module: integer spikes, and a gradient for each neuron.

A neuron of the author's stays where floats follow it and it has a surrogate gradient. Where the
integer neuron stands in, its spikes go forward and the gradient of the author's neuron back. A
neuron without a gradient has that of `surrogate_spikes`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lapilli.ir.errors import QuantizeError
from lapilli.model.neurons.adapters import adapter_of, rule_of
from lapilli.model.neurons.general_rule import GeneralRule, simulate_general
from lapilli.model.neurons.rule import NeuronRule, Rule
from lapilli.model.neurons.shiftmax import Shiftmax
from lapilli.model.neurons.simulate import left
from lapilli.quantize.finetuning.straight_through import straight_through
from lapilli.quantize.pytorch.integer_neuron import StandIn

_SLOPE = 4.0  # of the surrogate at the threshold, in thresholds: as of our own neurons


class _InPlace(nn.Module):
    """Takes a module's place and shows the attributes of the module that it has inside."""

    def __init__(self, own: nn.Module) -> None:
        super().__init__()
        self.own = own

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("own"), name)


class IntegerSpikes(_InPlace):
    """The spikes of a `StandIn`, the gradient of the author's neuron inside of it."""

    own: StandIn

    def forward(self, x: Tensor) -> Tensor:
        """Currents to spikes, in the layout of the author's neuron."""
        stand_in = self.own
        number, stand_in.called = stand_in.called, stand_in.called + 1
        real: Tensor = stand_in.module(x)
        neuron = stand_in.uses[number].neuron
        factors = np.ones(1) if neuron.factors is None else neuron.factors.array
        scale = torch.from_numpy(float(neuron.scale) * factors)
        with torch.no_grad():  # float32 may have rounded a long sum
            spikes, _ = stand_in.trace(number, torch.round(x.double() / scale) * scale)
        return straight_through(real, spikes.to(x.dtype))


class SurrogateSpikes(_InPlace):
    """The spikes of a neuron that has no gradient, with one."""

    def __init__(self, own: nn.Module, rule: Rule, folded: int) -> None:
        super().__init__(own)
        self.rule = rule
        self.folded = folded

    def forward(self, x: Tensor) -> Tensor:
        """Currents to spikes, in the layout of the author's neuron."""
        with torch.no_grad():
            spikes: Tensor = self.own(x.detach())
        if not self.folded:
            return straight_through(surrogate_spikes(self.rule, x), spikes)
        real = surrogate_spikes(self.rule, x.unflatten(0, (self.folded, -1))).flatten(0, 1)
        return straight_through(real, spikes)


class StraightShiftmax(_InPlace):
    """A `Shiftmax` that truncates its sums, with the gradient of one that does not."""

    own: Shiftmax

    def forward(self, x: Tensor, v: Tensor) -> Tensor:
        """Scores and values to weighed sums."""
        with torch.no_grad():
            truncated: Tensor = self.own(x, v)
        return straight_through(self.own.weights(x) @ v, truncated)


def surrogate_spikes(rule: Rule, x: Tensor) -> Tensor:
    """Spikes of a rule for currents (T, ...), with a gradient.

    That of a step, or of each of several levels, is the derivative of a sigmoid, 4 thresholds
    steep; of integer spikes 1 between the lowest and the highest, else 0. None passes a reset.
    """
    if isinstance(rule, GeneralRule):
        return simulate_general(rule, x, _levels)[0].to(x.dtype)
    if not isinstance(rule, NeuronRule):
        return x.clamp(0, rule.levels) / rule.norm
    kept, gain, current_kept = (float(c) for c in (rule.decay, rule.gain, rule.current_decay))
    rest = float(rule.v_rest)
    theta = torch.tensor([float(t) for t in rule.thetas], dtype=x.dtype).reshape(rule.shape)
    i, v = torch.zeros_like(x[0]), torch.full_like(x[0], rest)
    spikes = []
    for current in x:
        i = current_kept * i + current
        h = rest + kept * (v - rest) + gain * i
        above = (h - rest) / theta
        s = _step(above - 1)
        if rule.ternary:
            s = s - _step(-above - 1)
        v = left(rule, h, s.detach())
        spikes.append(s)
    return torch.stack(spikes)


def _step(x: Tensor) -> Tensor:
    soft = torch.sigmoid(_SLOPE * x)
    return straight_through(soft, (x >= 0).to(x.dtype))


def _levels(h: Tensor, thetas: Tensor, strict: tuple[bool, ...]) -> Tensor:
    """How many levels a membrane has reached, each as `_step` says it."""
    del strict  # of spikes; the gradient is the same
    sizes = torch.where(thetas == 0, 1.0, thetas.abs())
    reached = [_step((h - theta) / size) for theta, size in zip(thetas, sizes, strict=True)]
    return torch.stack(reached).sum(0)


def make_trainable(module: nn.Module) -> None:
    """Let gradients pass integer neurons and Shiftmaxes of a quantized module, in place.

    Raises:
        QuantizeError: an integer neuron stands in for one that runs step by step.
    """
    for path, each in list(module.named_modules()):
        if isinstance(each, StandIn):
            if each.turns:
                raise QuantizeError(
                    path,
                    "is replaced by an integer neuron and runs step by step, and has no gradient "
                    "so; call it once for all time steps",
                )
            _replace(module, path, IntegerSpikes(each))
        elif type(each) is Shiftmax and each.unit is not None:
            _replace(module, path, StraightShiftmax(each))


def add_surrogates(module: nn.Module, paths: Iterable[str]) -> None:
    """Give each of these neurons a gradient, in place.

    Raises:
        QuantizeError: one that runs step by step.
    """
    for path in paths:
        own = module.get_submodule(path)
        adapter = adapter_of(own)
        if adapter is None or adapter.stepwise(own):
            raise QuantizeError(
                path, "has no surrogate gradient; call it once for all time steps, or give it one"
            )
        _replace(module, path, SurrogateSpikes(own, rule_of(own, path), adapter.folded(own)))


@contextmanager
def without_gradient(module: nn.Module) -> Iterator[list[str]]:
    """Find the neurons that a gradient does not pass, while the module runs; their paths."""
    passed: dict[str, bool] = {}

    def look(path: str, x: Tensor, output: Any) -> None:
        spikes = pytree.tree_leaves(output)[0]
        if not x.requires_grad:
            return
        grad = None
        if spikes.requires_grad:
            (grad,) = torch.autograd.grad(spikes.sum(), x, retain_graph=True, allow_unused=True)
        passed[path] = passed.get(path, False) or (grad is not None and bool(grad.any()))

    hooks = [
        each.register_forward_hook(lambda _, args, output, path=path: look(path, args[0], output))
        for path, each in module.named_modules()
        if adapter_of(each) is not None
    ]
    found: list[str] = []
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
    found += [path for path, through in passed.items() if not through]


def _replace(module: nn.Module, path: str, by: nn.Module) -> None:
    parent, _, leaf = path.rpartition(".")
    setattr(module.get_submodule(parent), leaf, by)
