"""Make every state fit Loihi's registers: first a coarser state, then fewer weight bits.

Neurons are settled in topological order, and what is decided for one depends on nothing but
the weights that feed it. So one look at the graph settles all neurons that share no weights
with one that is not settled yet; the graph is lowered again only after all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lapilli.ir import ops
from lapilli.ir.bounds import NeuronBounds, neuron_bounds
from lapilli.ir.errors import RangeError
from lapilli.ir.loihi import unsupported_state
from lapilli.ir.recipe import Note, NoteKind
from lapilli.ir.types import Kind, TensorType
from lapilli.model.capture import program
from lapilli.model.capture.program import Call, Captured, neuron_of
from lapilli.quantize.lower import Lowered, lower
from lapilli.quantize.neurons import IntegerNeuron, StateFormat, integer_neuron, next_coarser
from lapilli.quantize.plan import Plan
from lapilli.quantize.weights import Folded, IntegerUnit, fold, round_units

_FEWEST_BITS = 2  # of a weight


@dataclass(frozen=True, slots=True)
class Fitted:
    """Integers that fit, and the real parameters that they stand for.

    `notes` names each group of synapses that gave up weight bits.
    """

    folded: Mapping[str, Folded]
    units: Mapping[str, IntegerUnit]
    lowered: Lowered
    notes: tuple[Note, ...]


def fit(captured: Captured, plan: Plan, image: TensorType, weight_bits: int) -> Fitted:
    """Round, lower, and give up what must be, until all states fit.

    Raises:
        RangeError: a state that does not fit even with 2-bit weights.
    """
    folded = {name: fold(captured, unit) for name, unit in plan.units.items()}
    fitting = _Fitting(captured, plan, image, weight_bits)
    units: Mapping[str, IntegerUnit] = {}
    while True:
        units = round_units(plan, folded, weight_bits, fitting.given_up, units)
        lowered = lower(captured, units, image, fitting.coarse)
        if not fitting.changes(lowered):
            return Fitted(folded, units, lowered, tuple(fitting.notes()))


@dataclass(slots=True)
class _Fitting:
    """What has been given up so far.

    Attributes:
        coarse: form of each neuron with a coarse state, by path and number of the call.
        given_up: group -> bits that its weights gave up; for: the last neuron that needed it.
    """

    captured: Captured
    plan: Plan
    image: TensorType
    weight_bits: int
    coarse: dict[tuple[str, int], StateFormat] = field(default_factory=dict)
    given_up: dict[str, int] = field(default_factory=dict)
    needed_by: dict[str, str] = field(default_factory=dict)

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
            groups = {self.plan.groups[unit] for unit in self.plan.feeds[call.name]}
            if groups & unsettled:
                unsettled |= groups
            elif bounds := self._beyond(name, call, neuron, currents[name]):
                self._give_up(groups, call, bounds)
                unsettled |= groups
        return bool(unsettled) or self.coarse != before

    def _beyond(
        self, name: str, call: Call, neuron: IntegerNeuron, current: TensorType
    ) -> NeuronBounds | None:
        """What leaves the registers, if anything does even with a coarse state."""
        T, fed, fire = self.captured.T, bool(self.plan.feeds[call.name]), neuron_of(call)
        key = (fire.module, fire.call)
        lowest = 0 if key in self._read() else -32  # a membrane that is read keeps its unit
        while bounds := _beyond(name, neuron, current, T):
            form = next_coarser(neuron, fire.rule, T, fed=fed, lowest=lowest)
            if form is None:
                return bounds
            self.coarse[key] = form
            neuron = integer_neuron(fire.rule, neuron.scale, T, form)
        return None

    def _read(self) -> set[tuple[str, int]]:
        """Neurons whose membrane is read."""
        operators = (call.op for call in self.captured.calls.values())
        return {
            (op.neuron.module, op.neuron.call)
            for op in operators
            if isinstance(op, program.Membrane)
        }

    def _give_up(self, groups: set[str], call: Call, bounds: NeuronBounds) -> None:
        left = [self.weight_bits - self.given_up.get(group, 0) for group in groups]
        if min(left, default=_FEWEST_BITS) <= _FEWEST_BITS:
            (beyond,) = unsupported_state(bounds)
            raise RangeError(bounds.name, f"{beyond.reason}; {self._advice(call)}")
        for group in groups:
            self.given_up[group] = self.given_up.get(group, 0) + 1
            self.needed_by[group] = bounds.name

    def _advice(self, call: Call) -> str:
        hears_image = any(self._is_of_image(unit) for unit in self.plan.feeds[call.name])
        if hears_image and self.image.kind is Kind.COUNTS:
            return f"its input counts up to {self.image.range.hi} events: take shorter frames"
        if hears_image:
            bits = self.image.range.bits
            return f"it hears an image of {bits} bits: take fewer (input_bits, --input-bits)"
        return f"the weights that feed it have {_FEWEST_BITS} bits or none: too many inputs"

    def _is_of_image(self, unit: str) -> bool:
        source = self.captured.calls[self.captured.calls[unit].inputs[0]]
        while isinstance(source.op, program.Reshape | program.Permute | program.Expand):
            source = self.captured.calls[source.inputs[0]]
        return isinstance(source.op, program.Input)

    def notes(self) -> list[Note]:
        """Return one for each group of synapses that gave up bits."""
        notes = []
        for group, bits in self.given_up.items():
            members = [u for unit, u in self.plan.units.items() if self.plan.groups[unit] == group]
            more = f", here and in {len(members) - 1} more" if len(members) > 1 else ""
            text = (
                f"weights of {self.weight_bits - bits} bits{more}, so that the state of "
                f"{self.needed_by[group]} fits"
            )
            notes.append(Note(NoteKind.WEIGHT_BITS, members[0].path, text))
        return notes


def _beyond(name: str, neuron: IntegerNeuron, x: TensorType, T: int) -> NeuronBounds | None:
    if not isinstance(neuron.op, ops.Neuron):
        return None
    bounds = neuron_bounds(name, neuron.op, x, T)
    return bounds if unsupported_state(bounds) else None
