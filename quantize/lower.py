"""The captured program, in integers, as a graph."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from types import MappingProxyType

import numpy as np

from lapilli.ir import ops
from lapilli.ir.answers import Answer
from lapilli.ir.errors import QuantizeError
from lapilli.ir.graph import Graph
from lapilli.ir.recipe import Result
from lapilli.ir.targets.lava import STATE
from lapilli.ir.tensor import IntTensor
from lapilli.ir.types import Kind, TensorType
from lapilli.model.capture import program
from lapilli.model.capture.axes import step_shape
from lapilli.model.capture.host_map import HostMap
from lapilli.model.capture.program import Call, Captured
from lapilli.model.neurons.rule import NeuronRule
from lapilli.quantize.host_answer import host_answer
from lapilli.quantize.neurons import (
    INSTEAD,
    IntegerNeuron,
    StateFormat,
    integer_neuron,
    with_threshold,
)
from lapilli.quantize.plan import common_scale, read_out
from lapilli.quantize.scaled_builder import ScaledBuilder, ScaledValue, compared, like
from lapilli.quantize.shiftmax import IntegerShiftmax, integer_shiftmax
from lapilli.quantize.weights import IntegerUnit


@dataclass(frozen=True, slots=True)
class Lowered:
    """A graph and what its numbers mean.

    Attributes:
        graph: before any pass.
        neurons: node name, of spikes or of a membrane -> the neuron in integers, and the call
            it came from.
        synapses: node name -> the unit in integers that it holds, by name of its call.
        shiftmaxes: path -> the Shiftmax in integers.
        answers: how each output is read, in their order.
        units: what an integer of each output is worth.
    """

    graph: Graph
    neurons: Mapping[str, tuple[Call, IntegerNeuron]]
    synapses: Mapping[str, str]
    shiftmaxes: Mapping[str, IntegerShiftmax]
    answers: tuple[Answer, ...]
    units: tuple[Fraction, ...]

    @property
    def logit_scale(self) -> Fraction:
        """A real logit is the integer times this."""
        return self.answers[0].scale


def lower(
    captured: Captured,
    units: Mapping[str, IntegerUnit],
    image: TensorType,
    coarse: Mapping[tuple[str, int], StateFormat] = MappingProxyType({}),
    factors: Mapping[str, IntTensor] = MappingProxyType({}),
    *,
    state_bits: int = STATE.bits,
) -> Lowered:
    """Emit one node after the other.

    Args:
        captured: the program.
        units: its linear maps in integers.
        image: type of one step of the input.
        coarse: path and number of a neuron's call -> its state, where that must be so small.
        factors: call of a neuron, or of an answer -> how many times as large the scale of each
            channel is.
        state_bits: of a neuron's registers, where it is not in `coarse`.

    Raises:
        QuantizeError: an operator that has no integer form here; names its module.
        GraphError: what it built is not accumulate-only.
    """
    lowering = _ProgramLowering(captured, units, image, coarse, factors, state_bits)
    for call in captured.calls.values():
        lowering.visit(call)
    return lowering.finish()


class _ProgramLowering:
    """Lower a program call by call, and note which node is which neuron, synapse and Shiftmax."""

    def __init__(
        self,
        captured: Captured,
        units: Mapping[str, IntegerUnit],
        image: TensorType,
        coarse: Mapping[tuple[str, int], StateFormat],
        factors: Mapping[str, IntTensor],
        state_bits: int,
    ) -> None:
        self.captured = captured
        self.units = units
        self.image = image
        self.coarse = coarse
        self.factors = factors
        self.state_bits = state_bits
        self.build = ScaledBuilder(captured.T)
        self.values: dict[str, ScaledValue] = {}
        self.neurons: dict[str, tuple[Call, IntegerNeuron]] = {}
        self.synapses: dict[str, str] = {}
        self.shiftmaxes: dict[str, IntegerShiftmax] = {}
        self.read_out = read_out(captured)

    def visit(self, call: Call) -> None:
        """Emit the nodes of one call and note its value."""
        try:
            self.values[call.name] = self._value(call)
        except ValueError as error:
            raise QuantizeError(call.path or call.name, str(error)) from error

    def finish(self) -> Lowered:
        """Accumulate over time and return."""
        hosts = self.captured.hosts or (None,) * len(self.captured.outputs)
        made = [
            self._answer(*parts)
            for parts in zip(
                self.captured.outputs, self.captured.signature.results, hosts, strict=True
            )
        ]
        outputs, units, answers = zip(*made, strict=True)
        graph = self.build.built(*outputs)
        return Lowered(graph, self.neurons, self.synapses, self.shiftmaxes, answers, units)

    def _answer(
        self, output: str, result: Result, host: HostMap | None
    ) -> tuple[str, Fraction, Answer]:
        """A node that holds an answer, what an integer of it is worth, and how it is read."""
        value = compared(self.values[output])
        if (factors := self.factors.get(output)) is not None:
            value = self._in_one_unit(f"{result.name}.factors", value, factors)
        name, unit = self.build.free(result.name), value.scale
        steps = value.over == "steps" and result.keeps_steps
        if value.over == "steps" and not (self.captured.T == 1 or steps):
            raise QuantizeError(output, "the logits are not a mean over time")
        if value.over == "last" or steps:
            same = ops.Reshape(shape=self.build.types[value.node].shape)
            node = self.build.emit(name, same, value.node)
        else:
            try:
                node = self.build.emit(name, ops.Readout(), value.node)
            except ValueError as error:
                raise QuantizeError(output, str(error)) from error
            unit /= self.captured.T
        if host is not None:
            return node, unit, host_answer(result.name, host, unit)
        if steps and (count := result.last_steps):
            weights = (0,) * (self.captured.T - count) + (1,) * count
            return node, unit, Answer(name=result.name, scale=unit / count, weights=weights)
        return node, unit, Answer(name=result.name, scale=unit, steps=steps)

    def _in_one_unit(self, name: str, x: ScaledValue, factors: IntTensor) -> ScaledValue:
        """Multiply each class, or channel of a map, by its factor: the host's, in the read-out."""
        each = factors.array.reshape(-1)
        bias = IntTensor(np.zeros_like(each))
        made: ops.Weighted = ops.Linear(weight=IntTensor(np.diag(each)), bias=bias, graded=True)
        if len(self.build.types[x.node].shape) == 3:
            weight = IntTensor(each.reshape(-1, 1, 1, 1))
            made = ops.Conv2d(weight=weight, bias=bias, groups=len(each), graded=True)
        return self.build.wired(name, made, x)

    def _value(self, call: Call) -> ScaledValue:
        args = [self.values[i] for i in call.inputs]
        name = f"{call.path}.{type(call.op).__name__.lower()}".lstrip(".")
        shape = step_shape(call.dims)
        match call.op:
            case program.Input():
                return ScaledValue(
                    self.build.emit("image", ops.Input(type=self.image)), Fraction(1)
                )
            case program.Synapse() as op:
                return self._synapse(call, op, args[0])
            case program.BatchNorm():
                return args[0]  # folded into the synapse before it
            case program.Neuron():
                return self._fire(call, args[0])
            case program.Membrane():
                return self._potential(call.op, call, args[0])
            case program.Last():
                if args[0].over != "steps":
                    raise ValueError("takes the last step of a mean over time")
                return replace(args[0], over="last")
            case program.Scale(factor=factor):
                return replace(args[0], scale=args[0].scale * factor)
            case program.Sum() as op:
                return self._reduce(name, op, args[0])
            case program.Add() | program.Concat():
                return self._combine(name, call.op, args, shape)
            case program.Mul():
                a, b = (self.build.shaped(f"{name}.operand", x, shape).node for x in args)
                return like(
                    args, self.build.emit(name, ops.Gate(), a, b), args[0].scale * args[1].scale
                )
            case program.Matmul():
                node = self.build.emit(name, ops.SpikeMatmul(), *(a.node for a in args))
                return like(args, node, args[0].scale * args[1].scale)
            case program.ShiftSum() as op:
                return self._weigh(op, *args)
            case program.MaxPool() as op:
                pool = ops.MaxPool2d(kernel=op.kernel, stride=op.stride, padding=op.padding)
                return self.build.pooled(name, pool, compared(args[0]), shape)
            case program.Relu():
                return self.build.wired(name, ops.Relu(), compared(args[0]))
            case program.Affine() | program.Pad():
                raise TypeError(f"{type(call.op).__name__} has no integer form; `merge` removes it")
            case program.Reshape() | program.Expand():
                return self.build.shaped(name, args[0], shape)
            case program.Permute(axes=axes):
                return self.build.wired(name, ops.Permute(axes=axes), args[0])
            case program.Slice(axis=axis, start=start, stop=stop):
                return self.build.wired(name, ops.Slice(axis=axis, start=start, stop=stop), args[0])

    def _synapse(self, call: Call, op: program.Synapse, x: ScaledValue) -> ScaledValue:
        unit = self.units[call.name]
        bias = unit.bias if not x.finer else IntTensor(unit.bias.array << x.finer)
        output_scale = unit.output_scale / (1 << x.finer)
        seen = self.build.types[x.node]
        graded = seen.kind is Kind.GRADED
        graded = graded and (_is_image(self.captured, call) or call.name in self.read_out)
        if seen.kind is Kind.GRADED and not graded and seen.range.lo < 0:
            raise ValueError(
                f"takes sums of ternary spikes, {seen.range.lo}..{seen.range.hi}: a synapse takes "
                "spikes, or counts, which are never negative; let the linear map come first, and "
                "pool or add its currents"
            )
        if not op.space:
            made: ops.Weighted = ops.Linear(weight=unit.weight, bias=bias, graded=graded)
            node = self._put_synapse(call, made, x.node, "offsets" if op.constant else "")
            return ScaledValue(node, output_scale, x.over)
        shape = self.build.types[x.node].shape
        if op.space == 1:  # (C, N) is a map of N rows and one column
            x = self.build.shaped(f"{call.path}.map", x, (*shape, 1))
        made = ops.Conv2d(
            weight=spread(unit.weight, op),
            bias=bias,
            stride=op.stride,
            padding=op.padding,
            groups=op.groups,
            graded=graded,
        )
        y = ScaledValue(self._put_synapse(call, made, x.node), output_scale, x.over)
        return self.build.shaped(f"{call.path}.row", y, step_shape(call.dims))

    def _put_synapse(self, call: Call, op: ops.Weighted, x: str, what: str = "") -> str:
        node = self.build.emit(f"{call.path}.{what}".strip(".") or "synapse", op, x)
        self.synapses[node] = call.name
        return node

    def _fire(self, call: Call, x: ScaledValue) -> ScaledValue:
        op = call.op
        if not isinstance(op, program.Neuron):
            raise TypeError(f"{call.name} is no neuron")
        x, neuron = self._integer_neuron(op, x, self.factors.get(call.name))
        node = self.build.emit(op.module, neuron.op, x.node)
        self.neurons[node] = (call, neuron)
        return ScaledValue(node, op.rule.output_scale)

    def _weigh(self, op: program.ShiftSum, scores: ScaledValue, values: ScaledValue) -> ScaledValue:
        kinds = self.build.types[scores.node], self.build.types[values.node]
        made = integer_shiftmax(op, *kinds, values.scale)
        if self.shiftmaxes.setdefault(op.module, made) != made:
            raise ValueError("weighs values of different units; use a Shiftmax of its own for each")
        node = self.build.emit(op.module, made.op, scores.node, values.node)
        return like([scores, values], node, values.scale)

    def _potential(self, op: program.Membrane, call: Call, x: ScaledValue) -> ScaledValue:
        """A membrane: the same neuron on the same current, shown in the units of its state."""
        fire = op.neuron
        x, neuron = self._integer_neuron(fire, x)
        if not isinstance(neuron.op, ops.Neuron) or not isinstance(fire.rule, NeuronRule):
            raise TypeError(f"{fire.module} has no membrane")
        if fire.rule.v_rest:
            raise ValueError(
                f"its membrane is read and rests at {float(fire.rule.v_rest):g}; logits are "
                "multiples of their unit, from 0",
            )
        made = ops.Membrane(neuron=neuron.op, after_reset=op.after_reset)
        node = self.build.emit(f"{fire.module}.membrane", made, x.node)
        self.neurons[node] = (call, neuron)
        bits = neuron.op.fraction_bits
        return ScaledValue(node, neuron.unit / (1 << bits), finer=bits)

    def _integer_neuron(
        self, fire: program.Neuron, x: ScaledValue, factors: IntTensor | None = None
    ) -> tuple[ScaledValue, IntegerNeuron]:
        if x.over != "steps":
            raise ValueError("a neuron after the mean, or the last step, over time")
        x = compared(x)
        form = self.coarse.get((fire.module, fire.call))
        T, bits = self.captured.T, self.state_bits
        neuron = integer_neuron(fire.moved_rule, x.scale, T, form, factors, state_bits=bits)
        if fire.moved is not None:
            neuron = with_threshold(neuron, fire.moved)
        if fire.rescaled and neuron.exact:
            note = f"{INSTEAD}: its thresholds take up the factors in front of it"
            neuron = replace(neuron, exact=False, note=note)
        return x, neuron

    def _reduce(self, name: str, op: program.Sum, x: ScaledValue) -> ScaledValue:
        shape = self.build.types[x.node].shape
        node, scale = x.node, x.scale
        if op.axes:
            node = self.build.emit(name, ops.Sum(axes=op.axes, keepdims=op.keepdims), node)
            scale /= math.prod(shape[a] for a in op.axes) if op.mean else 1
        if op.time and not op.mean:
            scale *= self.captured.T
        if op.time and x.over != "steps":
            raise ValueError("sums over time what has no steps any more")
        return replace(x, node=node, scale=scale, over="mean" if op.time else x.over)

    def _combine(
        self,
        name: str,
        op: program.Add | program.Concat,
        args: list[ScaledValue],
        shape: tuple[int, ...],
    ) -> ScaledValue:
        """Add or join two values, brought to one scale and, to add, to one shape."""
        scale = args[0].scale
        if args[1].scale != scale:
            scale = common_scale(args[0].scale, args[1].scale)
        a, b = (self.build.multiplied(name, x, scale) for x in args)
        if isinstance(op, program.Concat):
            return like(
                args, self.build.emit(name, ops.Concat(axis=op.axis), a.node, b.node), scale
            )
        a, b = (self.build.shaped(f"{name}.operand", x, shape) for x in (a, b))
        return like(args, self.build.emit(name, ops.Add(), a.node, b.node), scale)


def _is_image(captured: Captured, call: Call) -> bool:
    """Whether the operand is the image itself: the one graded input that is marked."""
    source = captured.calls[call.inputs[0]]
    while isinstance(source.op, program.Wiring):
        source = captured.calls[source.inputs[0]]
    return isinstance(source.op, program.Input)


def spread(weight: IntTensor, op: program.Synapse) -> IntTensor:
    """A kernel (out, in, kh, kw) without dilation: zeros between, and one column for 1-d."""
    if op.space == 2 and op.dilation == (1, 1):
        return weight
    kernel = weight.array if op.space == 2 else weight.array[..., None]
    (dh, dw), (h, w) = op.dilation, kernel.shape[2:]
    wide = np.zeros((*kernel.shape[:2], (h - 1) * dh + 1, (w - 1) * dw + 1), np.int64)
    wide[:, :, ::dh, ::dw] = kernel
    return IntTensor(wide)


def unspread(weight: IntTensor, op: program.Synapse, shape: tuple[int, ...]) -> IntTensor:
    """Undo `spread`: the weight of the linear map or convolution, of its own shape."""
    if not op.space:
        return weight
    dh, dw = op.dilation
    return IntTensor(weight.array[:, :, ::dh, ::dw].reshape(shape))
