"""Decide what belongs together before any integer is chosen.

A *unit* is a linear map with the batch norm that follows it: they become one synapse.
Units whose results are added form a *group*: they must share one output scale.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from lapilli.ir.errors import QuantizeError
from lapilli.model.capture import program
from lapilli.model.capture.axes import step_axes, step_shape
from lapilli.model.capture.program import Call, Captured, ancestors
from lapilli.model.neurons.rule import NeuronRule
from lapilli.quantize.channels import Channels, channel_axis, channels


@dataclass(frozen=True, slots=True)
class Unit:
    """One synapse of the graph.

    Attributes:
        call: name of the linear map's call; path: its module, for messages.
        norm: name of the batch norm's call, if one follows.
        input_scale: a real input is an integer times this, and times the output scale of
            the unit `source`, if there is one.
        source: of a linear map in the read-out that takes real currents: a unit of them.
        constant: whether it has no weights but 0.
    """

    call: str
    path: str
    norm: str | None
    input_scale: Fraction
    source: str | None = None
    constant: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What `plan` decided.

    Attributes:
        units: by name of the linear map's call.
        groups: unit -> the first unit of its group.
        ratios: unit -> its output scale by that of its group; 1 unless what is added has a
            constant in front.
        feeds: call of a neuron, or of the answer -> units whose currents it takes.
        channels: groups whose channels may have a scale each.
        heard: linear map of a real stream -> units whose currents it hears.
    """

    units: Mapping[str, Unit]
    groups: Mapping[str, str]
    ratios: Mapping[str, Fraction]
    feeds: Mapping[str, frozenset[str]]
    channels: Channels
    heard: Mapping[str, frozenset[str]]


def plan(captured: Captured, image_scale: Fraction) -> Plan:
    """Walk the program once.

    Raises:
        QuantizeError: a batch norm without a linear map of its own, a linear map of a real
            current, or a sum of values that no common scale can hold.
    """
    norms = {
        synapse_of(captured, call): call.name
        for call in captured.calls.values()
        if isinstance(call.op, program.BatchNorm)
    }
    planner = _ScalePlanner(captured, image_scale, norms)
    for call in captured.calls.values():
        planner.visit(call)
    found = {unit: planner.leader(unit) for unit in planner.units}
    groups = {unit: leader for unit, (leader, _) in found.items()}
    turned = planner.turned()
    ratios = {u: -ratio if leader in turned else ratio for u, (leader, ratio) in found.items()}
    apart = channels(captured, groups)
    return Plan(planner.units, groups, ratios, planner.feeds, apart, planner.heard)


class _ScalePlanner:
    """Scale and origin of each value: real = integer * scale * (output scale of its unit).

    A value may have currents of many units in it (`origin`); `unit` is one of them.
    """

    def __init__(self, captured: Captured, image_scale: Fraction, norms: Mapping[str, str]) -> None:
        self.calls = captured.calls
        self.image_scale = image_scale
        self.norms = norms
        self.units: dict[str, Unit] = {}
        self.feeds: dict[str, frozenset[str]] = {}
        self.heard: dict[str, frozenset[str]] = {}
        self.scale: dict[str, Fraction] = {}
        self.origin: dict[str, frozenset[str]] = {}
        self.unit: dict[str, str | None] = {}
        # unit -> another of its group, and its output scale by that one's
        self.parent: dict[str, tuple[str, Fraction]] = {}
        self.membranes: dict[str, str] = {}  # values in units of a state, and whose it is
        self.read_out = read_out(captured)
        self.outputs, self.T = frozenset(captured.outputs), captured.T
        self.compared: list[tuple[str, bool]] = []  # unit, and whether its value is negated

    def leader(self, unit: str) -> tuple[str, Fraction]:
        """First unit of the group, and this one's output scale by its."""
        ratio = Fraction(1)
        while (above := self.parent[unit])[0] != unit:
            unit, ratio = above[0], ratio * above[1]
        return unit, ratio

    def turned(self) -> frozenset[str]:
        """Groups in negative units: so that what neurons compare is positive."""
        wanted: dict[str, set[bool]] = {}
        for unit, negated in self.compared:
            group, ratio = self.leader(unit)
            wanted.setdefault(group, set()).add(negated != (ratio < 0))
        return frozenset(group for group, signs in wanted.items() if signs == {True})

    def visit(self, call: Call) -> None:
        """Record scale and origin of one value.

        Raises:
            QuantizeError: see `plan`.
        """
        origin = frozenset[str]().union(*(self.origin[i] for i in call.inputs))
        scale = math.prod((self.scale[i] for i in call.inputs), start=Fraction(1))
        unit = next((u for i in call.inputs if (u := self.unit[i]) is not None), None)
        if (
            isinstance(call.op, program.Neuron | program.Membrane | program.MaxPool | program.Relu)
            and unit is not None
        ):
            self.compared.append((unit, scale < 0))
        read = [self.membranes[i] for i in call.inputs if i in self.membranes]
        if read and not isinstance(call.op, program.Synapse):
            self.membranes[call.name] = read[0]
        match call.op:
            case program.Input():
                scale = self.image_scale
            case program.Synapse(constant=constant):
                self._add_unit(call, unit, scale, constant=constant)
                if origin:
                    self.heard[call.name] = origin
                origin, scale, unit = frozenset({call.name}), Fraction(1), call.name
            case program.Neuron(rule=rule):
                self.feeds[call.name] = origin
                origin, scale, unit = frozenset(), rule.output_scale, None
            case program.Membrane(neuron=fire):
                self.feeds[call.name] = origin
                self.membranes[call.name] = fire.module
                scale *= fire.rule.gain if isinstance(fire.rule, NeuronRule) else 1
            case program.Scale(factor=factor):
                scale *= factor
            case program.Sum(axes=axes, mean=mean, time=time):
                shape = step_shape(self.calls[call.inputs[0]].dims)
                scale /= math.prod(shape[a] for a in axes) if mean else 1
                scale *= self.T if time and not mean else 1  # what a mean over T is read as
            case program.Add() | program.Concat():
                self._join(call)
                scale = self.scale[call.inputs[0]]
                if unit is None:
                    scale = common_scale(*(self.scale[i] for i in call.inputs))
            case program.Matmul() | program.Mul():
                if all(self.unit[i] for i in call.inputs):
                    raise QuantizeError(call.path, "multiplies two real currents")
            case program.ShiftSum():
                origin, scale, unit = self._weigh(call)
            case program.Affine():
                raise QuantizeError(
                    call.path,
                    "multiplies by constants, one for each element, with no linear map beside "
                    "it to take them up; a factor of a head or channel fits into weights, or its "
                    "inverse into thresholds",
                )
            case program.Pad():
                raise QuantizeError(call.path, "pads a value that no convolution takes up")
            case program.BatchNorm() | program.Last() | program.Relu() | program.MaxPool():
                pass  # in the unit of its operand
            case program.Reshape() | program.Permute() | program.Expand() | program.Slice():
                pass
        self.scale[call.name], self.origin[call.name] = scale, origin
        self.unit[call.name] = unit
        if call.name in self.outputs:
            self.feeds.setdefault(call.name, origin)  # a neuron may be an answer, too
        if call.name in self.outputs and unit is not None:
            self.compared.append((unit, scale < 0))

    def _weigh(self, call: Call) -> tuple[frozenset[str], Fraction, str]:
        """Origin, scale and unit of the result: those of the values."""
        scores, values = call.inputs
        if self.unit[scores] is not None or self.scale[scores] != 1:
            raise QuantizeError(
                call.path,
                "takes powers of two of scores that are no integers; Shiftmax takes products of "
                "spikes, without a constant in front",
            )
        unit = self.unit[values]
        if unit is None:
            raise QuantizeError(
                call.path,
                "weighs spikes, and its sums would be truncated to none; let it weigh currents",
            )
        return self.origin[values], self.scale[values], unit

    def _add_unit(self, call: Call, source: str | None, scale: Fraction, *, constant: bool) -> None:
        if source is not None and call.name not in self.read_out:
            raise QuantizeError(
                call.path,
                "is a linear map of a real current; only neurons, pooling and sums may follow "
                f"{self.units[source].path!r}",
            )
        norm = self.norms.get(call.name)
        self.units[call.name] = Unit(call.name, call.path, norm, scale, source, constant)
        self.parent[call.name] = (call.name, Fraction(1))

    def _join(self, call: Call) -> None:
        """Make both operands share a scale: scale_a * out(u) == scale_b * out(w)."""
        a, b = call.inputs
        if call.name in self.membranes:
            raise QuantizeError(
                self.membranes[call.name],
                "its membrane and another value are put into one, and their units differ",
            )
        u, w = self.unit[a], self.unit[b]
        if u is None and w is None:
            return
        if u is None or w is None:
            raise QuantizeError(call.path, "puts spikes and a real current into one value")
        (first, r), (second, q) = self.leader(u), self.leader(w)
        wanted = self.scale[a] * r / (self.scale[b] * q)
        if first != second:
            self.parent[second] = (first, wanted)
        elif wanted != 1:
            raise QuantizeError(
                call.path,
                f"adds a real current to {float(1 / wanted):g} times itself: no common scale",
            )


def common_scale(a: Fraction, b: Fraction) -> Fraction:
    """The largest number of which both scales are multiples; its sign is a's if both agree.

    >>> common_scale(Fraction(1, 2), Fraction(3, 4))
    Fraction(1, 4)
    """
    bottom = math.lcm(a.denominator, b.denominator)
    return Fraction(math.gcd(int(a * bottom), int(b * bottom)), bottom)


def read_out(captured: Captured) -> frozenset[str]:
    """Calls that no neuron depends on: there, the host may multiply."""
    calls = captured.calls
    stateful = program.Neuron | program.Membrane
    given = [i for c in calls.values() if isinstance(c.op, stateful) for i in c.inputs]
    feeding = ancestors(given, lambda name: calls[name].inputs)
    return frozenset(calls) - feeding


def synapse_of(captured: Captured, norm: Call) -> str:
    """The linear map whose channels this batch norm scales: wiring between, nothing else.

    Raises:
        QuantizeError: there is none, or somebody else reads the value in between.
    """
    uses = Counter(i for call in captured.calls.values() for i in call.inputs)
    chain = [norm]
    while not isinstance(chain[-1].op, program.Synapse):
        source = captured.calls[chain[-1].inputs[0]]
        if (
            not isinstance(source.op, program.Reshape | program.Permute | program.Synapse)
            or uses[source.name] > 1
        ):
            raise QuantizeError(
                norm.path, "is a batch norm that does not follow a linear map of its own"
            )
        chain.append(source)
    synapse = chain[-1]
    channels = _channel_numbers(synapse)
    for call in reversed(chain[1:-1]):
        if isinstance(call.op, program.Permute):
            channels = channels.transpose(call.op.axes)
        channels = channels.reshape(step_shape(call.dims))
    axis = step_axes(norm.dims)[1] or 0  # T and B were refused there when it was captured
    along = np.moveaxis(channels, axis, -1)
    expected = np.arange(channels.shape[axis])
    if not np.array_equal(along, np.broadcast_to(expected, along.shape)):
        raise QuantizeError(norm.path, f"does not run over the channels of {synapse.path!r}")
    return synapse.name


def _channel_numbers(synapse: Call) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """The output channel of each element of one time step."""
    shape = step_shape(synapse.dims)
    axis = channel_axis(synapse)
    numbers = np.arange(shape[axis]).reshape([-1 if a == axis else 1 for a in range(len(shape))])
    return np.broadcast_to(numbers, shape)
