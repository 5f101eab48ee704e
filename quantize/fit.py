"""Make every state fit the registers of a target: first a coarser state, then fewer weight bits.

Neurons are settled in topological order, and what is decided for one depends on nothing but
the weights that feed it. So one look at the graph settles all neurons that share no weights
with one that is not settled yet; the graph is lowered again only after all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np

from lapilli.ir import ops
from lapilli.ir.bounds import neuron_bounds
from lapilli.ir.certificate import Need, first_beyond, neuron_needs, node_needs
from lapilli.ir.errors import RangeError
from lapilli.ir.recipe import Note, NoteKind
from lapilli.ir.targets.lava import LAVA
from lapilli.ir.targets.target import Register, Target
from lapilli.ir.types import Kind, TensorType
from lapilli.model.capture import program
from lapilli.model.capture.program import Call, Captured, neuron_of
from lapilli.quantize.channel_scales import ChannelScales, Rows, channel_scales, nearest_scales
from lapilli.quantize.lower import Lowered, lower
from lapilli.quantize.neurons import IntegerNeuron, StateFormat, integer_neuron, next_coarser
from lapilli.quantize.plan import Plan
from lapilli.quantize.weight_steps import check_count, nearest_power
from lapilli.quantize.weights import (
    ChooseScale,
    FloatArray,
    Folded,
    FoldedUnits,
    IntegerUnit,
    binary_log,
    largest_fits,
    neuron_factors,
    odd_part,
    round_units,
)

_FEWEST_BITS = 2  # of a weight


@dataclass(frozen=True, slots=True)
class Fitted:
    """Integers that fit, and the real parameters that they stand for.

    Attributes:
        notes: name each group of synapses that gave up weight bits.
        given_up: what had to be given up.
    """

    folded: Mapping[str, Folded]
    units: Mapping[str, IntegerUnit]
    lowered: Lowered
    notes: tuple[Note, ...]
    given_up: GivenUp


@dataclass(frozen=True, slots=True)
class GivenUp:
    """What groups of units gave up, so that numbers fit.

    Attributes:
        bits: group -> by how many its unit is coarser.
        needed_by: group -> what needed the last of them.
        spare: unit -> bits by which its group's unit can be coarser before its weights lose any.
    """

    bits: Mapping[str, int] = field(default_factory=dict)
    needed_by: Mapping[str, str] = field(default_factory=dict)
    spare: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """How the scales of weights are chosen.

    Attributes:
        chosen: finds the power of two of a unit's weights.
        together: so many neighbouring output channels have a scale of their own, where neurons can
            tell them apart; 0: all channels have one.
        coarser: group of units -> how much coarser its scales are than those chosen, or finer
            where negative: in doublings, or in quarters of one where channels have a scale each.
        steps: unit -> steps of its weights, which are taken in place of what would be chosen: one,
            or one for each scale of channels; of all units, or of none.
        target: what must hold all numbers.
    """

    chosen: ChooseScale = largest_fits
    together: int = 0
    coarser: Mapping[str, int] = field(default_factory=dict)
    steps: Mapping[str, FloatArray] = field(default_factory=dict)
    target: Target = LAVA


def fit(
    captured: Captured,
    plan: Plan,
    image: TensorType,
    bits: Mapping[str, int],
    scaling: Scaling,
    start: Fitted | None = None,
) -> Fitted:
    """Round, lower, and give up what must be, until all states fit.

    Args:
        captured: the program.
        plan: its units and groups.
        image: type of one step of the input.
        bits: of the weights of each unit.
        scaling: how their scales are chosen.
        start: integers of the same scaling, and what they gave up, to go on from: they are kept
            where that is enough, whatever the nearest would be.

    Raises:
        QuantizeError: not as many steps as there are scales.
        RangeError: a state that does not fit even with 2-bit weights.
    """
    folded = FoldedUnits(captured, plan.units)
    apart = _scales_apart(plan, folded, bits, scaling) if scaling.together else {}
    own: dict[str, Fraction] = {}
    largest: dict[str, Fraction] = {}
    for name, unit in folded.items():
        coarser = Fraction(2) ** scaling.coarser.get(plan.groups[name], 0)
        if not scaling.steps:
            own[name] = scaling.chosen(unit.weight, bits[name]) * coarser
        elif plan.groups[name] not in apart:
            own[name] = nearest_power(plan.units[name].path, scaling.steps[name])
        largest[name] = largest_fits(unit.weight, bits[name])
    before = start.given_up if start else GivenUp()
    fitting = _Fitting(
        captured,
        plan,
        image,
        bits,
        scaling.target,
        spare=before.spare,
        given_up=dict(before.bits),
        needed_by=dict(before.needed_by),
    )
    units: Mapping[str, IntegerUnit] = start.units if start else {}
    while True:
        units = round_units(plan, folded, bits, own, fitting.given_up, apart, units)
        fitting.spare = fitting.spare or {
            name: unit.exponent
            if unit.factors
            else binary_log(largest[name] / abs(unit.weight_scale))
            for name, unit in units.items()
        }
        if scaling.target.stock and not fitting.given_up and fitting.take_coarsest_units(units):
            continue
        factors, bits_there = neuron_factors(plan, units), scaling.target.state_bits
        lowered = lower(captured, units, image, fitting.coarse, factors, state_bits=bits_there)
        if not fitting.changes(lowered):
            rounded = [] if scaling.target.gives_up else _rounded_notes(plan, folded, units)
            given_up = GivenUp(fitting.given_up, fitting.needed_by, fitting.spare)
            return Fitted(folded, units, lowered, (*fitting.notes(), *rounded), given_up)


def _scales_apart(
    plan: Plan, folded: Mapping[str, Folded], bits: Mapping[str, int], scaling: Scaling
) -> dict[str, ChannelScales]:
    """A scale for each channel, of each group that may have them.

    Where a target limits weights, logits have one: the factors of classes would be such weights.
    """
    groups = plan.channels.groups
    if Register.WEIGHT in scaling.target.limits:
        groups -= plan.channels.answering
    members: dict[str, dict[str, Rows]] = {group: {} for group in sorted(groups)}
    wanted: dict[str, dict[str, FloatArray]] = {group: {} for group in sorted(groups)}
    odd: dict[str, Fraction] = {}  # by group: a mean over 36 tokens leaves 1/9
    for name, group in plan.groups.items():
        if group in members:
            weight = folded[name].weight
            gain = abs(plan.units[name].input_scale / plan.ratios[name])
            part = odd.setdefault(group, odd_part(gain))
            rows = Rows(weight.reshape(len(weight), -1), float(gain / part), bits[name])
            members[group][name] = rows
            if scaling.steps:
                steps = scaling.steps[name]
                check_count(plan.units[name].path, steps, -(-len(weight) // scaling.together))
                wanted[group][name] = steps * rows.gain
    found = {}
    for group, each in members.items():
        if scaling.steps:
            channels = len(next(iter(each.values())).weight)
            found[group] = nearest_scales(wanted[group], channels, together=scaling.together)
        else:
            quarters = scaling.coarser.get(group, 0)
            found[group] = channel_scales(each, together=scaling.together, quarters=quarters)
    return {group: replace(each, unit=each.unit * odd[group]) for group, each in found.items()}


@dataclass(slots=True)
class _Fitting:
    """What has been given up so far.

    Attributes:
        coarse: form of each neuron with a coarse state, by path and number of the call.
        given_up: group -> bits by which its unit is coarser; needed_by: what needed the last.
        spare: unit -> bits by which its group's unit can be coarser before its weights lose any.
    """

    captured: Captured
    plan: Plan
    image: TensorType
    bits: Mapping[str, int]
    target: Target
    spare: Mapping[str, int] = field(default_factory=dict)
    coarse: dict[tuple[str, int], StateFormat] = field(default_factory=dict)
    given_up: dict[str, int] = field(default_factory=dict)
    needed_by: dict[str, str] = field(default_factory=dict)

    def take_coarsest_units(self, units: Mapping[str, IntegerUnit]) -> bool:
        """Give all members of a stream the unit of the coarsest; say whether one has another."""
        for name, unit in units.items():
            if unit.exponent > self.given_up.get(group := self.plan.groups[name], 0):
                self.given_up[group] = unit.exponent
                self.needed_by[group] = "its stream has one unit"
        return bool(self.given_up)

    def changes(self, lowered: Lowered) -> bool:
        """Give up what this graph needs, and say whether that was anything.

        Raises:
            RangeError: see `fit`.
        """
        graph = lowered.graph
        unsettled: set[str] = set()  # groups whose weights may still change
        before = dict(self.coarse)
        currents = {node.name: graph.types[node.inputs[0]] for node in graph.nodes if node.inputs}
        for name, (call, neuron) in lowered.neurons.items():
            groups = self._feeding(call.name)
            if groups & unsettled:
                unsettled |= groups
            elif beyond := self._beyond(name, call, neuron, currents[name]):
                self._need(groups, call, beyond)
                unsettled |= self._give_up(groups, f"the {beyond.register.value} of {name} fits")
            elif self._is_long(currents[name]) and self._can_give(groups):
                unsettled |= self._give_up(groups, f"the current of {name} fits")
        for answer, output in zip(graph.outputs, self.captured.outputs, strict=True):
            groups, long = self._feeding(output), self._is_long(graph.types[answer])
            if long and not self._can_give(groups):  # then the streams that they hear
                heard = (self.plan.heard.get(unit, frozenset()) for unit in self.plan.feeds[output])
                groups = {self.plan.groups[unit] for unit in frozenset().union(*heard)}
            if long and not groups & unsettled and self._can_give(groups):
                unsettled |= self._give_up(groups, f"the value of {answer} fits")
        for name, unit in lowered.synapses.items():
            groups = {self.plan.groups[unit]}
            beyond = first_beyond(node_needs(graph, graph[name], self.target))
            if beyond and not groups & unsettled and self._can_give(groups):
                unsettled |= self._give_up(groups, f"{beyond.register.value} of {name} fit")
        return bool(unsettled) or self.coarse != before

    def _feeding(self, call: str) -> set[str]:
        return {self.plan.groups[unit] for unit in self.plan.feeds[call]}

    def _beyond(
        self, name: str, call: Call, neuron: IntegerNeuron, current: TensorType
    ) -> Need | None:
        """What leaves the registers, if anything does even with a coarse state."""
        T, fire = self.captured.T, neuron_of(call)
        stock = self.target.stock and bool(self.plan.feeds[call.name])  # weights could give up bits
        key = (fire.module, fire.call)
        lowest = 0 if key in self._read() else -32  # a membrane that is read keeps its unit
        while beyond := _beyond(name, neuron, current, T, self.target):
            form = next_coarser(neuron, fire.moved_rule, T, stock=stock, lowest=lowest)
            if form is None or not self.target.gives_up:
                return beyond
            self.coarse[key] = form
            bits = self.target.state_bits
            neuron = integer_neuron(
                fire.moved_rule, neuron.scale, T, form, neuron.factors, state_bits=bits
            )
        return None

    def _read(self) -> set[tuple[str, int]]:
        """Neurons whose membrane is read."""
        operators = (call.op for call in self.captured.calls.values())
        return {
            (op.neuron.module, op.neuron.call)
            for op in operators
            if isinstance(op, program.Membrane)
        }

    def _need(self, groups: set[str], call: Call, beyond: Need) -> None:
        if not self._can_give(groups):
            problem = beyond.problem(self.target)
            raise RangeError(beyond.node, f"{problem}; {self._advice(call)}")

    def _is_long(self, x: TensorType) -> bool:
        """Whether a value, such as a message of Lava's, does not fit."""
        limit = self.target.limits.get(Register.VALUE)
        return limit is not None and limit.holds(x.range) is False

    def _can_give(self, groups: set[str]) -> bool:
        if not self.target.gives_up:
            return False
        return min(map(self._bits_left, groups), default=_FEWEST_BITS) > _FEWEST_BITS

    def _give_up(self, groups: set[str], what: str) -> set[str]:
        for group in groups:
            self.given_up[group] = self.given_up.get(group, 0) + 1
            self.needed_by[group] = what
        return groups

    def _bits_left(self, group: str) -> int:
        """Bits of the widest weights of a group."""
        return max(self._bits(unit) for unit in self._members(group))

    def _bits(self, unit: str) -> int:
        given_up = self.given_up.get(self.plan.groups[unit], 0)
        return self.bits[unit] - max(0, given_up - self.spare[unit])

    def _members(self, group: str) -> list[str]:
        """Units of a group that have weights to give up bits of."""
        units = self.plan.units
        return [
            u for u, leader in self.plan.groups.items() if leader == group and not units[u].constant
        ]

    def _advice(self, call: Call) -> str:
        if not self.target.gives_up:
            return "take fewer (weight_bits, input_bits): nothing is given up here"
        hears_image = any(self._is_of_image(unit) for unit in self.plan.feeds[call.name])
        if hears_image and self.image.kind is Kind.COUNTS:
            return f"its input counts up to {self.image.range.hi} events: take shorter frames"
        if hears_image:
            bits = self.image.range.bits
            return f"it hears an image of {bits} bits: take fewer (input_bits, --input-bits)"
        return f"the weights that feed it have {_FEWEST_BITS} bits or none: too many inputs"

    def _is_of_image(self, unit: str) -> bool:
        source = self.captured.calls[self.captured.calls[unit].inputs[0]]
        while isinstance(source.op, program.Wiring):
            source = self.captured.calls[source.inputs[0]]
        return isinstance(source.op, program.Input)

    def notes(self) -> list[Note]:
        """Return one for each group of synapses of which some gave up bits."""
        notes = []
        for group in self.given_up:
            fewer = [unit for unit in self._members(group) if self._bits(unit) < self.bits[unit]]
            if not fewer:
                continue
            more = f", here and in {len(fewer) - 1} more" if len(fewer) > 1 else ""
            text = (
                f"weights of {min(map(self._bits, fewer))} bits{more}, so that "
                f"{self.needed_by[group]}"
            )
            notes.append(Note(NoteKind.WEIGHT_BITS, self.plan.units[fewer[0]].path, text))
        return notes


def _beyond(name: str, neuron: IntegerNeuron, x: TensorType, T: int, target: Target) -> Need | None:
    if not isinstance(neuron.op, ops.Integrating):
        return None
    bounds = neuron_bounds(name, neuron.op, x, T)
    return first_beyond(neuron_needs(neuron.op, bounds, target))


def _rounded_notes(
    plan: Plan, folded: Mapping[str, Folded], units: Mapping[str, IntegerUnit]
) -> list[Note]:
    """Say what is not the trained parameter bit for bit, where nothing should be rounded."""
    return [
        Note(NoteKind.WEIGHT_BITS, plan.units[name].path, "weights or biases are rounded")
        for name, unit in units.items()
        if not np.array_equal(unit.real_weight, folded[name].weight)
        or not np.array_equal(unit.real_bias, folded[name].bias)
    ]
