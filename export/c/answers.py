"""What a node does with a current: a neuron, its membrane, a staircase, a rectifier, in C."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from typing_extensions import assert_never

from lapilli.export.c.constants import Constant
from lapilli.export.c.general import GeneralAnswer, constants_of, general_states
from lapilli.export.c.integers import I32, I64, Integer, holding, literal, shifted, two_parts, work
from lapilli.ir import ops
from lapilli.ir.bounds import neuron_bounds, trailing_zeros
from lapilli.ir.graph import Graph, Node
from lapilli.ir.tensor import IntTensor
from lapilli.ir.types import TensorType

Answering: TypeAlias = ops.Neuron | ops.GeneralNeuron | ops.Membrane | ops.Staircase | ops.Relu


@dataclass(frozen=True, slots=True)
class Answer:
    """How one element of a current becomes one of a node's value.

    Attributes:
        op: what the node is.
        given: type of the current.
        type: of the value.
        T: time steps of a sample.
        states: type of what is kept from step to step, by its name in C; none has to be.
        constants: arrays that hold one number for several or for each element, by role.
    """

    op: Answering
    given: TensorType
    type: Integer
    T: int
    states: Mapping[str, Integer]
    constants: Mapping[str, Constant]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each constant, which broadcasts against the value's, by role."""
        leading = {"thresholds": 1}
        if isinstance(self.op, ops.GeneralNeuron):
            leading = self._general(self.op).leading
        return {role: c.values.shape[leading.get(role, 0) :] for role, c in self.constants.items()}

    @property
    def timed(self) -> bool:
        """Whether it must know how many steps are behind: a constant differs between steps."""
        return isinstance(self.op, ops.GeneralNeuron) and self._general(self.op).timed

    def _general(self, op: ops.GeneralNeuron) -> GeneralAnswer:
        return GeneralAnswer(op, self.given, self.type, self.T, self.states, self.constants)

    def lines(self, x: str, at: Mapping[str, str], state: Mapping[str, str], y: str) -> list[str]:
        """Say it for one element.

        Args:
            x: the current, an expression.
            at: role of a constant -> where its number for this element stands.
            state: name of a state -> where it is kept.
            y: where the value goes.
        """
        match self.op:
            case ops.Neuron():
                return self._neuron(self.op, None, x, at, state, y)
            case ops.Membrane(neuron=neuron):
                return self._neuron(neuron, self.op, x, at, state, y)
            case ops.GeneralNeuron() as op:
                return self._general(op).lines(x, at, state, y)
            case ops.Staircase(thresholds=thresholds):
                return self._staircase(thresholds.shape[0], x, at, y)
            case ops.Relu():
                wide = work(self.given.range)
                return [
                    f"const {wide.name} x = {x};",
                    f"{y} = ({self.type.name})(x > 0 ? x : 0);",
                ]
            case _:
                assert_never(self.op)

    def _staircase(self, levels: int, x: str, at: Mapping[str, str], y: str) -> list[str]:
        constant = self.constants["thresholds"]
        wide = work(self.given.range)
        step = constant.values[0].size
        index = " + ".join(p for p in (f"k * {step}" if step > 1 else "k", at["thresholds"])
                           if p != "0")  # fmt: skip
        return [
            f"const {wide.name} x = {x};",
            "int32_t reached = 0;",
            f"for (int32_t k = 0; k < {levels}; k++) {{",
            f"    reached += x >= {constant.name}[{index}];",
            "}",
            f"{y} = ({self.type.name})reached;",
        ]

    def _neuron(
        self,
        op: ops.Neuron,
        shown: ops.Membrane | None,
        x: str,
        at: Mapping[str, str],
        state: Mapping[str, str],
        y: str,
    ) -> list[str]:
        """A step of a neuron; `shown` if it shows a membrane in place of its spikes."""
        wide, member = self._wide(op), f"{y} = ({self.type.name})v;"
        u = shifted("x", op.fraction_bits)
        if "u" in state:
            u = f"{self._decayed(state['u'], op.du, 'u', wide)} + {u}"
        said = [f"const {wide.name} x = {x};", f"const {wide.name} u = {u};"]
        if "u" in state:
            said.append(f"{state['u']} = ({self.states['u'].name})u;")
        v = "u" if "v" not in state else f"{self._decayed(state['v'], op.dv, 'v', wide)} + u"
        bias = self._constant("bias", op.bias, at)
        said.append(f"{wide.name} v = {v}{'' if bias == '0' else f' + {bias}'};")
        after = shown is not None and shown.after_reset
        goes_on = ("v" in state or after) and op.reset is not ops.Reset.NONE
        if shown is not None and not after:
            said.append(member)
        if shown is None or goes_on:
            said += self._fired(op, at)
        if shown is None:
            said.append(f"{y} = ({self.type.name})s;")
        if goes_on:
            said += _after_reset(op, wide)
        if after:
            said.append(member)
        if "v" in state:
            said.append(f"{state['v']} = ({self.states['v'].name})v;")
        return said

    def _fired(self, op: ops.Neuron, at: Mapping[str, str]) -> list[str]:
        threshold = self._constant("threshold", op.threshold, at)
        if op.ternary:
            return [f"const int32_t s = (v >= {threshold}) - (v <= -({threshold}));"]
        return [f"const int32_t s = v >= {threshold};"]

    def _constant(self, role: str, tensor: IntTensor, at: Mapping[str, str]) -> str:
        if role in self.constants:
            return f"{self.constants[role].name}[{at[role]}]"
        return literal(int(tensor.array.ravel()[0]))

    def _decayed(self, place: str, d: int, which: str, wide: Integer) -> str:
        """What a step leaves of a state, toward zero, as C divides."""
        kept, r = ops.DECAY_ONE - d, self.states[which].values
        if d == 0:
            return place
        shift = trailing_zeros(kept)
        times, by = kept >> shift, 1 << (ops.DECAY_BITS - shift)
        if times == 1:
            return f"{place} / {by}"
        if r.times(times).magnitude not in I64.values:
            return two_parts(place, str(kept))
        own = work(r.times(times))
        if own == wide:
            return f"({own.name}){place} * {times} / {by}"
        return f"({wide.name})((int64_t){place} * {times} / {by})"

    def _wide(self, op: ops.Neuron) -> Integer:
        """32 bits where every number on the way has as many, else 64."""
        bounds = neuron_bounds("", op, self.given, self.T)
        most = bounds.u.magnitude + bounds.v.magnitude + bounds.after.magnitude
        most += op.bias.range.magnitude + op.reset_by + op.threshold.range.magnitude
        most += self.given.range.magnitude + self.given.range.shifted(op.fraction_bits).magnitude
        fits = most in I32.values and abs(op.fraction_bits) < 31
        return I32 if fits else I64


def answer(graph: Graph, node: Node, name: str) -> Answer:
    """Plan what a node of `Answering` does with its operand.

    Args:
        graph: it is in.
        node: it.
        name: an identifier, with which the names of its constants begin.
    """
    op, x = node.op, graph.types[node.inputs[0]]
    if not isinstance(op, Answering):
        raise TypeError(f"{node.name} answers no current")
    neuron = op.neuron if isinstance(op, ops.Membrane) else op
    states: dict[str, Integer] = {}
    tensors: dict[str, IntTensor] = {}
    if isinstance(neuron, ops.Neuron):
        bounds = neuron_bounds("", neuron, x, graph.T)
        if neuron.du != ops.DECAY_ONE:
            states["u"] = holding(bounds.u)
        if neuron.dv != ops.DECAY_ONE:
            states["v"] = holding(bounds.after)
        tensors = {"threshold": neuron.threshold, "bias": neuron.bias}
        tensors = {r: t for r, t in tensors.items() if t.array.size > 1}
    if isinstance(neuron, ops.GeneralNeuron):
        states = general_states(neuron, x, graph.T)
        tensors = {r: t for r, t in constants_of(neuron).items() if t.array.size > 1}
    if isinstance(neuron, ops.Staircase):
        tensors = {"thresholds": neuron.thresholds}
    constants = {
        role: Constant(f"{name}_{role}", node.name, role, tensor.array)
        for role, tensor in tensors.items()
    }
    return Answer(op, x, holding(graph.types[node.name].range), graph.T, states, constants)


def _after_reset(op: ops.Neuron, wide: Integer) -> list[str]:
    match op.reset:
        case ops.Reset.TO_ZERO:
            return ["v = s != 0 ? 0 : v;"]
        case ops.Reset.BY_SUBTRACTION:
            return [f"v -= ({wide.name})s * {literal(op.reset_by)};"]
        case ops.Reset.NONE:
            return []
        case _:
            assert_never(op.reset)
