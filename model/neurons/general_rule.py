"""What a neuron of many constants does: of each step or channel, with levels, taps, a floor."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lapilli.ir import ops


@dataclass(frozen=True, slots=True)
class Constants:
    """Rational numbers, the axis of steps first, 1 or T long.

    Attributes:
        values: in row-major order.
        shape: (steps, ...), where ... ends in one element or broadcasts against the last axes of a
            sample's currents: (1, C, 1, 1) for the channels of a map.

    >>> Constants.one(Fraction(1, 2)).shape
    (1, 1)
    """

    values: tuple[Fraction, ...]
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.shape) < 2 or math.prod(self.shape) != len(self.values) or not self.values:
            raise ValueError(f"{len(self.values)} constants of shape {self.shape}")

    @classmethod
    def one(cls, value: Fraction, *, between: int = 0) -> Constants:
        """The same number for all; `between` axes of levels or taps."""
        return cls((value,), (1,) * (2 + between))

    @classmethod
    def steps(cls, values: Iterable[Fraction], *, between: int = 0) -> Constants:
        """A number for each step."""
        each = tuple(values)
        return cls(each, (len(each), *(1,) * (1 + between)))

    @classmethod
    def channels(cls, tensor: Tensor, *, between: int = 0) -> Constants:
        """A number for each element of a tensor, whose axis of the batch, if any, is dropped."""
        values = tuple(Fraction(v) for v in tensor.detach().double().flatten().tolist())
        inner = list(tensor.shape) or [1]
        while len(inner) > 1 and inner[0] == 1:
            inner.pop(0)
        return cls(values, (*(1,) * (1 + between), *inner))

    @property
    def array(self) -> npt.NDArray[Any]:
        """The numbers as an array of objects."""
        found = np.empty(len(self.values), object)
        found[:] = self.values
        return found.reshape(self.shape)

    def floats(self) -> Tensor:
        """The nearest float64 of each."""
        floats = [float(v) for v in self.values]
        return torch.tensor(floats, dtype=torch.float64).reshape(self.shape)

    def over(self, other: Constants) -> Constants:
        """Divide by others, broadcast."""
        made = np.asarray(self.array / other.array, object)
        return Constants(tuple(made.ravel().tolist()), made.shape)


_ZERO = Constants.one(Fraction(0))


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneralRule:
    """A neuron with a membrane, and with constants of each step or channel.

    In this order, at time step t, where c[t] is what constants say of it::

        i <- current_decay[t] * i + sum of taps[t, k] * x[t - k] over k
        h <- decay[t] * v + i + bias[t], and 0 if that is below it and the rule is `floored`
        s <- number of levels l with h >= thresholds[t, l]         strict[l]: >
        v <- 0 | h - s * reset_by[t] | h                           where s is not 0

    from v = i = 0; x before the first step is 0. Exact rationals.

    Attributes:
        taps: (steps, K, ...); thresholds: (steps, levels, ...); the others (steps, ...).
        strict: for each level.
    """

    taps: Constants
    decay: Constants
    thresholds: Constants
    strict: tuple[bool, ...] = (False,)
    current_decay: Constants = _ZERO
    bias: Constants = _ZERO
    reset: ops.Reset = ops.Reset.TO_ZERO
    reset_by: Constants = _ZERO
    floored: bool = False

    def __post_init__(self) -> None:
        for name, kept in (("decay", self.decay), ("current_decay", self.current_decay)):
            if beyond := [v for v in kept.values if not 0 <= v <= 1]:
                raise ValueError(
                    f"{name} is {float(beyond[0]):g}; a membrane keeps 0 to 1 of itself"
                )
        if len(self.taps.shape) < 3 or len(self.thresholds.shape) < 3:
            raise ValueError("taps and thresholds have an axis of their own behind that of steps")
        if len(self.strict) != self.thresholds.shape[1]:
            raise ValueError(f"{len(self.strict)} signs for {self.thresholds.shape[1]} levels")
        if not any(self.taps.values):
            raise ValueError("its input is multiplied by 0")
        if self.reset is ops.Reset.BY_SUBTRACTION and min(self.reset_by.values) < 0:
            raise ValueError(f"a spike adds {float(-min(self.reset_by.values)):g} to the membrane")

    @property
    def levels(self) -> int:
        """Most events of one step."""
        return self.thresholds.shape[1]

    @property
    def output_scale(self) -> Fraction:
        """An event is worth 1."""
        return Fraction(1)

    @property
    def shape(self) -> tuple[int, ...]:
        """What all constants broadcast to, against a sample's currents."""
        inner = (self.decay.shape[1:], self.current_decay.shape[1:], self.bias.shape[1:])
        wide = (self.taps.shape[2:], self.thresholds.shape[2:], self.reset_by.shape[1:])
        return np.broadcast_shapes(*inner, *wide)

    @property
    def steps(self) -> int:
        """Steps for which there are constants of their own; 0 if all are the same."""
        each = (self.taps, self.decay, self.thresholds, self.current_decay, self.bias)
        longest = max(c.shape[0] for c in (*each, self.reset_by))
        return longest if longest > 1 else 0

    def with_threshold(self, v_threshold: float) -> GeneralRule:
        """Refuse: levels of many kinds have no one threshold.

        Raises:
            TypeError: always.
        """
        raise TypeError(f"no one threshold can become {v_threshold}")


def at_step(constants: Tensor, t: int) -> Tensor:
    """What the floats of constants are at step t."""
    return constants[t if len(constants) > 1 else 0]


Reached = Callable[[Tensor, Tensor, tuple[bool, ...]], Tensor]  # of h, levels and their signs


def levels_reached(h: Tensor, thresholds: Tensor, strict: tuple[bool, ...]) -> Tensor:
    """How many of the levels (levels, ...) membranes have reached."""
    s = torch.zeros_like(h)
    for theta, above in zip(thresholds, strict, strict=True):
        s = s + (h > theta if above else h >= theta).to(h.dtype)
    return s


def simulate_general(
    rule: GeneralRule, x: Tensor, reached: Reached = levels_reached
) -> tuple[Tensor, Tensor]:
    """Spikes and membranes before reset for currents (T, ...), from rest.

    Args:
        rule: what the neuron does.
        x: currents.
        reached: counts levels; one with a gradient for training, none of which passes a reset.
    """
    taps, decay, thresholds = rule.taps.floats(), rule.decay.floats(), rule.thresholds.floats()
    kept, bias, by = rule.current_decay.floats(), rule.bias.floats(), rule.reset_by.floats()
    i = v = torch.zeros_like(x[0])
    spikes: list[Tensor] = []
    membranes: list[Tensor] = []
    for t in range(len(x)):
        i = at_step(kept, t) * i
        for tap, current in zip(at_step(taps, t), _latest(x, t), strict=False):
            i = i + tap * current
        h = at_step(decay, t) * v + i + at_step(bias, t)
        h = h.clamp(min=0) if rule.floored else h
        s = reached(h, at_step(thresholds, t), rule.strict)
        if rule.reset is ops.Reset.TO_ZERO:
            v = torch.where(s != 0, 0.0, h)
        else:
            v = h - s.detach() * at_step(by, t) if rule.reset is ops.Reset.BY_SUBTRACTION else h
        spikes.append(s)
        membranes.append(h)
    return torch.stack(spikes), torch.stack(membranes)


def _latest(x: Tensor, t: int) -> Sequence[Tensor]:
    """Steps t, t - 1, ... 0."""
    return [x[k] for k in range(t, -1, -1)]
