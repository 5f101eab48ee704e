"""A network that a file lists node by node, as a PyTorch module: images in, sums over time out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lapilli.ir import ops
from lapilli.model.neurons.adapters import Described
from lapilli.model.neurons.general_rule import Constants, GeneralRule
from lapilli.model.neurons.rule import NeuronRule, Thresholds
from lapilli.model.neurons.simulate import simulate

Floats: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One node, behind those whose values it adds up.

    Attributes:
        name: any text.
        module: of values (N, ...) without time; or of currents (T, B, ...), of a neuron.
        inputs: places of the parts before it in the list; -1 is the image.
        over_time: whether it takes (T, B, ...).
    """

    name: str
    module: nn.Module
    inputs: tuple[int, ...]
    over_time: bool = False


class Ruled(nn.Module):
    """A neuron that does what a rule says, in the floats of its currents (T, ...)."""

    def __init__(self, rule: NeuronRule | GeneralRule) -> None:
        super().__init__()
        self.rule = rule

    def forward(self, x: Tensor) -> Tensor:
        """Return the spikes that the currents `x` evoke."""
        return simulate(self.rule, x)[0].to(x.dtype)


def ruled(rule: NeuronRule | GeneralRule) -> nn.Module:
    """Make a neuron that capture knows by its rule."""
    return Described(Ruled(rule), rule)


class Wired(nn.Module):
    """Shows an image (B, ...) at each of T steps, and adds up what the last part gives.

    Shapes: x (B, ...) of as many numbers as `shape` has, answers (B, K).
    """

    def __init__(self, parts: Sequence[Part], shape: tuple[int, ...], T: int) -> None:
        super().__init__()
        self.T = T
        self.shape = shape
        self.wiring = [(part.inputs, part.over_time) for part in parts]
        self.parts = nn.ModuleDict()
        for part in parts:
            name = part.name.replace(".", "_")
            while name in self.parts or hasattr(self.parts, name):
                name += "_"
            self.parts[name] = part.module

    def forward(self, x: Tensor) -> Tensor:
        """Return the sums over time."""
        B = x.shape[0]
        image = x.reshape(B, *self.shape).unsqueeze(0).repeat(self.T, 1, *(1 for _ in self.shape))
        made: list[Tensor] = []
        for module, (inputs, over_time) in zip(self.parts.values(), self.wiring, strict=True):
            first, *rest = (image if i < 0 else made[i] for i in inputs)
            for value in rest:
                first = first + value
            if over_time:
                made.append(module(first))
            else:
                y = module(first.flatten(0, 1))
                made.append(y.reshape(self.T, B, *y.shape[1:]))
        return made[-1].flatten(2).sum(0)


class Integrator(nn.Module):
    """Shows the membrane of a neuron that never fires: a fixed linear map over its T steps."""

    def __init__(self, keeps: Fraction, current_keeps: Fraction, gain: Fraction, T: int) -> None:
        super().__init__()
        answer = []  # to a current of 1 at step 0
        i, v = Fraction(1), Fraction(0)
        for _ in range(T):
            v = keeps * v + gain * i
            i *= current_keeps
            answer.append(float(v))
        late = [answer[: T - k] for k in range(T)]
        weights = [[0.0] * k + kept for k, kept in enumerate(late)]
        self.register_buffer("weights", torch.tensor(weights, dtype=torch.float64))
        self.weights: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Return the membranes (T, B, ...) of currents `x`."""
        return torch.einsum("st,s...->t...", self.weights.to(x.dtype), x)


class SumPool(nn.Module):
    """Sums over windows."""

    def __init__(
        self, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
    ) -> None:
        super().__init__()
        self.mean = nn.AvgPool2d(kernel, stride, padding)
        self.count = kernel[0] * kernel[1]

    def forward(self, x: Tensor) -> Tensor:
        """Return the sums of windows of maps (N, C, H, W)."""
        mean: Tensor = self.mean(x)
        return mean * self.count


def holding(taps: Floats, events: int) -> GeneralRule:
    """Make the rule of neurons without memory that fire what their taps (1, K, ...) pick.

    Args:
        taps: one 1 for each element, at the step that it is taken from.
        events: most of one step.
    """
    levels = tuple(Fraction(2 * n + 1, 2) for n in range(events))
    return GeneralRule(
        taps=_constants(taps),
        decay=Constants.one(Fraction(0)),
        thresholds=Constants(levels, (1, events, 1)),
        strict=(False,) * events,
        reset=ops.Reset.NONE,
    )


def later(rule: NeuronRule, taps: Floats) -> GeneralRule:
    """Make the rule of the same neurons, which take the current that their taps (1, K, ...) pick.

    Raises:
        ValueError: a resting potential that is not 0.
    """
    if rule.v_rest:
        raise ValueError(f"rests at {float(rule.v_rest):g}, and its current is delayed")
    each = rule.v_threshold
    theta = Constants.one(rule.thetas[0], between=1)
    if isinstance(each, Thresholds):
        theta = Constants(each.values, (1, 1, *each.shape))
    return GeneralRule(
        taps=_constants(taps, rule.gain),
        decay=Constants.one(rule.decay),
        current_decay=Constants.one(rule.current_decay),
        thresholds=theta,
        strict=(rule.strict,),
        reset=rule.reset,
        reset_by=Constants.one(rule.reset_by),
    )


def _constants(taps: Floats, gain: Fraction = Fraction(1)) -> Constants:
    return Constants(tuple(int(tap) * gain for tap in taps.ravel()), taps.shape)


def linear(weight: Floats, bias: Floats | None) -> nn.Module:
    """Make a linear map with these weights (out, in)."""
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    return _filled(made, weight, bias)


def convolution(
    weight: Floats,
    bias: Floats,
    *,
    stride: tuple[int, int],
    padding: tuple[int, int] | str,
    dilation: tuple[int, int],
    groups: int,
) -> nn.Module:
    """Make a convolution with these weights (out, in / groups, H, W).

    Raises:
        ValueError: PyTorch has no such convolution.
    """
    made = nn.Conv2d(
        weight.shape[1] * groups,
        weight.shape[0],
        (weight.shape[2], weight.shape[3]),
        stride,
        padding,
        dilation,
        groups,
    )
    return _filled(made, weight, bias)


def average_pool(
    kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
) -> nn.Module:
    """Make a pool of means over windows; what pads them counts."""
    return nn.AvgPool2d(kernel, stride, padding)


def flatten(first: int, last: int) -> nn.Module:
    """Make one axis of those of a sample from `first` to `last`."""
    return nn.Flatten(*(n + 1 if n >= 0 else n for n in (first, last)))


def same() -> nn.Module:
    """Make what hands on what it is given."""
    return nn.Identity()


def thresholds(values: Floats) -> Fraction | Thresholds:
    """What says at which membrane each neuron fires."""
    return Thresholds.of(torch.from_numpy(values.astype(np.float64)))


def _filled(made: nn.Linear | nn.Conv2d, weight: Floats, bias: Floats | None) -> nn.Module:
    with torch.no_grad():
        made.weight.copy_(torch.from_numpy(weight.astype(np.float32)))
        if bias is not None and made.bias is not None:
            made.bias.copy_(torch.from_numpy(bias.astype(np.float32)))
    return made.eval()
