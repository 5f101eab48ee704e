"""Float and integers side by side, from the image to the answers: each layer hears what it will."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from lapilli.model.capture import program
from lapilli.model.capture.program import Call, Captured, neuron_of
from lapilli.model.neurons.copies import copied
from lapilli.model.neurons.rule import NeuronRule, Rule
from lapilli.model.neurons.simulate import left, simulate
from lapilli.quantize.fit import Fitted
from lapilli.quantize.plan import Plan
from lapilli.quantize.pytorch.exact_map import ExactMap, applied
from lapilli.quantize.pytorch.interpreter import Program
from lapilli.quantize.reconstruction.moments import moments
from lapilli.quantize.reconstruction.rounding import reconstructed
from lapilli.quantize.reconstruction.thresholds import movable, nearest_rate
from lapilli.quantize.weights import Folded, IntegerUnit


class _Side(Program, ABC):
    """A program whose neurons are run as their rules say."""

    def __init__(self, captured: Captured, plan: Plan) -> None:
        norms = frozenset(u.norm for u in plan.units.values() if u.norm is not None)
        super().__init__(captured, copied(captured.module), {}, norms)

    def _value(self, call: Call, args: list[Tensor]) -> Tensor:
        match call.op:
            case program.Synapse() as op:
                return self._currents(call, op, args[0])
            case program.Neuron(rule=rule):
                return self._spikes(call, rule, args[0])
            case program.Membrane(neuron=fire, after_reset=after_reset):
                return _membrane(fire.rule, args[0], after_reset=after_reset)
            case _:
                return super()._value(call, args)

    @abstractmethod
    def _currents(self, call: Call, op: program.Synapse, x: Tensor) -> Tensor:
        """Run a linear map or a convolution."""

    def _spikes(self, call: Call, rule: Rule, x: Tensor) -> Tensor:
        del call
        return simulate(rule, x)[0]


def _membrane(rule: Rule, x: Tensor, *, after_reset: bool) -> Tensor:
    spikes, membranes = simulate(rule, x)
    if not (after_reset and isinstance(rule, NeuronRule)):
        return membranes
    pairs = zip(membranes, spikes, strict=True)
    return torch.stack([left(rule, h, s) for h, s in pairs])


class InFloat(_Side):
    """The float side, one neuron ahead of the other.

    Attributes:
        spikes_ahead: spikes of the neurons where the other side has not come yet, by call.
    """

    def __init__(self, captured: Captured, plan: Plan, folded: Mapping[str, Folded]) -> None:
        super().__init__(captured, plan)
        self._real = folded
        self.spikes_ahead: dict[str, Tensor] = {}

    def _currents(self, call: Call, op: program.Synapse, x: Tensor) -> Tensor:
        folded = self._real[call.name]
        weight, bias = (torch.from_numpy(v).float() for v in (folded.weight, folded.bias))
        y = applied(op, x.float().flatten(0, 1) if op.space else x.float(), weight, bias)
        return y.reshape(*x.shape[:2], *y.shape[1:]) if op.space else y

    def _spikes(self, call: Call, rule: Rule, x: Tensor) -> Tensor:
        self.spikes_ahead[call.name] = spikes = super()._spikes(call, rule, x)
        return spikes


class InIntegers(_Side):
    """The side of the integers, which are chosen where a layer is reached.

    Attributes:
        integer_units: units as they are now.
        moved_thresholds: path and call of a neuron -> its threshold, where it moved.
    """

    def __init__(
        self,
        captured: Captured,
        plan: Plan,
        fitted: Fitted,
        beside: InFloat | None,
        *,
        weights: bool,
    ) -> None:
        """Start from the nearest; thresholds move where there is a float side."""
        super().__init__(captured, plan)
        self.integer_units: dict[str, IntegerUnit] = dict(fitted.units)
        self.moved_thresholds: dict[tuple[str, int], Fraction] = {}
        self._folded, self._beside, self._weights = fitted.folded, beside, weights
        self._movable = movable(captured)
        maps = (c.op for c in captured.calls.values() if isinstance(c.op, program.Synapse))
        uses = Counter(op.weight for op in maps)
        self._shared = {weight for weight, count in uses.items() if count > 1}

    def _currents(self, call: Call, op: program.Synapse, x: Tensor) -> Tensor:
        unit, folded = self.integer_units[call.name], self._folded[call.name]
        rounds = not np.array_equal(unit.real_weight, folded.weight)
        if self._weights and rounds and op.weight not in self._shared:
            heard = moments(op, folded.weight.shape[2:], x)
            unit = self.integer_units[call.name] = reconstructed(folded, unit, heard)
        real = torch.from_numpy(unit.real_weight), torch.from_numpy(unit.real_bias)
        return ExactMap.of(op, call.path or call.name, *real)(x)

    def _spikes(self, call: Call, rule: Rule, x: Tensor) -> Tensor:
        fire = neuron_of(call)
        wanted = self._beside.spikes_ahead.pop(call.name) if self._beside is not None else None
        own = self._movable.get((fire.module, fire.call))
        if own is None or wanted is None:
            return super()._spikes(call, rule, x)
        threshold, spikes = nearest_rate(own, x, wanted)
        if threshold != own.v_threshold:
            self.moved_thresholds[fire.module, fire.call] = threshold
        return spikes
