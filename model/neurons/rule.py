"""What a neuron does, exactly: every constant that changes spikes, as a rational number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, TypeAlias

from torch import Tensor

from lapilli.ir import ops
from lapilli.model.neurons.general_rule import GeneralRule

_ZERO = Fraction(0)


@dataclass(frozen=True, slots=True)
class Thresholds:
    """One threshold for each neuron or channel.

    Attributes:
        values: in row-major order.
        shape: broadcasts against the last axes of a sample's currents; (C, 1, 1) for a map.
    """

    values: tuple[Fraction, ...]
    shape: tuple[int, ...]

    @classmethod
    def of(cls, tensor: Tensor) -> Fraction | Thresholds:
        """What a tensor says: a number, if all of its elements are the same."""
        values = tuple(Fraction(v) for v in tensor.detach().double().flatten().tolist())
        if len(set(values)) == 1:
            return values[0]
        shape = list(tensor.shape)
        while shape[0] == 1:  # the axis of the batch
            shape.pop(0)
        return cls(values, tuple(shape))

    def __str__(self) -> str:
        return f"{float(min(self.values)):g} to {float(max(self.values)):g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NeuronRule:
    """A neuron with a membrane.

    In this order, at each time step::

        i <- current_decay * i + x                  without a synaptic current: i = x
        h <- v_rest + decay * (v - v_rest) + gain * i
        s <- h >= v_threshold                       strict: >;  ternary: -1 if -h reaches it
        v <- v_rest | h - sign(s) * reset_by | h      where s is not 0

    from v = v_rest and i = 0. Exact rationals: a Python float is one.

    A framework that subtracts `a` in the *next* step, after the decay, is this rule with
    reset_by = a / decay. A leak towards v_reset is a v_rest that is not 0. Thresholds may differ
    from neuron to neuron; nothing else does.
    """

    decay: Fraction
    gain: Fraction
    v_threshold: Fraction | Thresholds
    strict: bool = False
    current_decay: Fraction = _ZERO
    reset: ops.Reset = ops.Reset.TO_ZERO
    reset_by: Fraction = _ZERO
    v_rest: Fraction = _ZERO
    ternary: bool = False

    def __post_init__(self) -> None:
        for name, kept in (("decay", self.decay), ("current_decay", self.current_decay)):
            if not 0 <= kept <= 1:
                raise ValueError(f"{name} is {float(kept):g}; a membrane keeps 0 to 1 of itself")
        if self.gain <= 0:
            raise ValueError(f"the input's gain is {float(self.gain):g}; it must be positive")
        if (lowest := min(self.thetas)) <= 0:
            raise ValueError(
                f"v_threshold {float(lowest + self.v_rest):g} is not above the resting potential "
                f"{float(self.v_rest):g}: it would fire without any input"
            )
        if self.ternary and self.v_rest:
            raise ValueError("ternary spikes around a resting potential that is not 0")
        if self.reset is ops.Reset.BY_SUBTRACTION and self.reset_by < 0:
            raise ValueError(f"a spike adds {float(-self.reset_by):g} to the membrane")

    @property
    def thetas(self) -> tuple[Fraction, ...]:
        """The thresholds, seen from the resting potential: one, or as many as differ."""
        each = self.v_threshold
        values = each.values if isinstance(each, Thresholds) else (each,)
        return tuple(value - self.v_rest for value in values)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the thresholds; (1,) where all are the same."""
        each = self.v_threshold
        return each.shape if isinstance(each, Thresholds) else (1,)

    @property
    def output_scale(self) -> Fraction:
        """A spike is worth 1."""
        return Fraction(1)

    def with_threshold(self, v_threshold: float) -> NeuronRule:
        """The same neuron with another threshold."""
        return replace(self, v_threshold=Fraction(v_threshold))


@dataclass(frozen=True, slots=True, kw_only=True)
class StaircaseRule:
    """Integer spikes without memory: round(clamp(x, 0, levels)) / norm, half to even.

    `half_up` rounds k - 1/2 to k, as floor(x + 1/2) does, which its authors' large model is.
    Source: Yao et al., "Scaling Spike-driven Transformer with Efficient Spike Firing
    Approximation Training", TPAMI 2025.
    """

    levels: int
    norm: int
    half_up: bool = False

    def __post_init__(self) -> None:
        if self.levels < 1 or self.norm < 1:
            raise ValueError(f"{self.levels} levels of 1/{self.norm}; both must be positive")

    @property
    def output_scale(self) -> Fraction:
        """One event is worth this."""
        return Fraction(1, self.norm)


Rule: TypeAlias = NeuronRule | StaircaseRule | GeneralRule
Trace: TypeAlias = tuple[Tensor, Tensor]


def _nothing(module: Any) -> None:
    del module


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """How to read one neuron class, and run an instance in the framework's own arithmetic.

    Attributes:
        rule: constants of an instance; a ValueError says which of its options have no rule.
        trace: (instance, currents (T, ...)) -> spikes and membranes before reset, (T, ...),
            from rest; the instance is left as it was.
        set_threshold: make an instance compare with another threshold.
        forget: bring a state that is kept from call to call back to rest.
        keeps_state: whether a second call goes on where the first one ended.
        stepwise: whether forward takes one time step of an instance.
        folded: T, if an instance takes (T * B, ...) instead of (T, B, ...); else 0.
        membrane: the attribute in which a stepwise instance shows its membrane; what a forward
            returns behind its spikes begins with the same.
        silent: whether forward returns the membrane in place of spikes: a leaky integrator.
        shows_after_reset: whether that is what the reset has left of it.
        watched: the method by which forward computes its spikes, if that returns them with the
            membranes, as `trace` does: then one pass shows both.
    """

    rule: Callable[[Any], Rule]
    trace: Callable[[Any, Tensor], Trace]
    set_threshold: Callable[[Any, float], None]
    forget: Callable[[Any], None] = _nothing
    keeps_state: bool = False
    stepwise: Callable[[Any], bool] = lambda module: False
    folded: Callable[[Any], int] = lambda module: 0
    membrane: str = ""
    silent: bool = False
    shows_after_reset: Callable[[Any], bool] = lambda module: True
    watched: str = ""
