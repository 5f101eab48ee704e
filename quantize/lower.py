"""The captured program, in integers, as a graph."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from types import MappingProxyType
from typing import Literal

import numpy as np

from lapilli.ir import ops
from lapilli.ir.errors import QuantizeError
from lapilli.ir.graph import Graph, Node
from lapilli.ir.infer import infer
from lapilli.ir.tensor import IntTensor
from lapilli.ir.types import Kind, TensorType
from lapilli.model.capture import program
from lapilli.model.capture.axes import step_shape
from lapilli.model.capture.program import Call, Captured
from lapilli.model.neurons.rule import NeuronRule
from lapilli.quantize.neurons import IntegerNeuron, StateFormat, integer_neuron
from lapilli.quantize.plan import common_scale, read_out
from lapilli.quantize.shiftmax import IntegerShiftmax, integer_shiftmax
from lapilli.quantize.weights import IntegerUnit

LOGITS = "logits"
_MOST_TIMES = 64  # that a value is added to itself, to share the scale of another


@dataclass(frozen=True, slots=True)
class Lowered:
    """A graph and what its numbers mean.

    Attributes:
        graph: before any pass.
        neurons: node name, of spikes or of a membrane -> the neuron in integers, and the call
            it came from.
        synapses: node name -> the unit in integers that it holds, by name of its call.
        shiftmaxes: path -> the Shiftmax in integers.
        logit_scale: a real logit is the integer at the last step times this.
    """

    graph: Graph
    neurons: Mapping[str, tuple[Call, IntegerNeuron]]
    synapses: Mapping[str, str]
    shiftmaxes: Mapping[str, IntegerShiftmax]
    logit_scale: Fraction


@dataclass(frozen=True, slots=True)
class _Value:
    """A node and its scale.

    Attributes:
        over: "mean" or "last", if that is still to be taken of its steps.
        finer: of a membrane, its bits below the unit that the plan knows.
    """

    node: str
    scale: Fraction
    over: Literal["steps", "mean", "last"] = "steps"
    finer: int = 0


def lower(
    captured: Captured,
    units: Mapping[str, IntegerUnit],
    image: TensorType,
    coarse: Mapping[tuple[str, int], StateFormat] = MappingProxyType({}),
) -> Lowered:
    """Emit one node after the other; neurons in `coarse`, path and number of the call, so small.

    Raises:
        QuantizeError: an operator that has no integer form here; names its module.
        GraphError: what it built is not accumulate-only.
    """
    lowering = _Lowering(captured, units, image, coarse)
    for call in captured.calls.values():
        lowering.visit(call)
    return lowering.finish()


class _Lowering:
    def __init__(
        self,
        captured: Captured,
        units: Mapping[str, IntegerUnit],
        image: TensorType,
        coarse: Mapping[tuple[str, int], StateFormat],
    ) -> None:
        self.captured = captured
        self.units = units
        self.image = image
        self.coarse = coarse
        self.nodes: dict[str, Node] = {}
        self.types: dict[str, TensorType] = {}
        self.values: dict[str, _Value] = {}
        self.neurons: dict[str, tuple[Call, IntegerNeuron]] = {}
        self.synapses: dict[str, str] = {}
        self.shiftmaxes: dict[str, IntegerShiftmax] = {}
        self.read_out = read_out(captured)

    def emit(self, name: str, op: ops.Op, *inputs: str) -> str:
        """Add a node; a name that is taken gets the next free number."""
        unique, count = name, 1
        while unique in self.nodes:
            count += 1
            unique = f"{name}.{count}"
        self.nodes[unique] = Node(unique, op, inputs)
        self.types[unique] = infer(op, tuple(self.types[i] for i in inputs), self.captured.T)
        return unique

    def visit(self, call: Call) -> None:
        """Emit the nodes of one call and note its value."""
        try:
            self.values[call.name] = self._value(call)
        except ValueError as error:
            raise QuantizeError(call.path or call.name, str(error)) from error

    def finish(self) -> Lowered:
        """Accumulate over time and return."""
        value = _compared(self.values[self.captured.output])
        one_step = self.captured.T == 1
        per_step = self.captured.signature.per_step
        if value.over == "steps" and not (one_step or per_step):
            raise QuantizeError(self.captured.output, "the logits are not a mean over time")
        scale = value.scale
        if value.over == "last":
            self.emit(LOGITS, ops.Reshape(shape=self.types[value.node].shape), value.node)
        else:
            self.emit(LOGITS, ops.Readout(), value.node)
            scale /= self.captured.T
        graph = Graph(tuple(self.nodes.values()), (LOGITS,), self.captured.T)
        return Lowered(graph, self.neurons, self.synapses, self.shiftmaxes, scale)

    def _value(self, call: Call) -> _Value:
        args = [self.values[i] for i in call.inputs]
        name = f"{call.path}.{type(call.op).__name__.lower()}".lstrip(".")
        shape = step_shape(call.dims)
        match call.op:
            case program.Input():
                return _Value(self.emit("image", ops.Input(type=self.image)), Fraction(1))
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
                a, b = (self._shaped(f"{name}.operand", x, shape).node for x in args)
                return self._like(
                    args, self.emit(name, ops.Gate(), a, b), args[0].scale * args[1].scale
                )
            case program.Matmul():
                node = self.emit(name, ops.SpikeMatmul(), *(a.node for a in args))
                return self._like(args, node, args[0].scale * args[1].scale)
            case program.ShiftSum() as op:
                return self._weigh(op, *args)
            case program.MaxPool() as op:
                return self._pool(name, op, _compared(args[0]), shape)
            case program.Relu():
                return self._wired(name, ops.Relu(), _compared(args[0]))
            case program.Affine() | program.Pad():
                raise TypeError(f"{type(call.op).__name__} has no integer form; `merge` removes it")
            case program.Reshape() | program.Expand():
                return self._shaped(name, args[0], shape)
            case program.Permute(axes=axes):
                return self._wired(name, ops.Permute(axes=axes), args[0])
            case program.Slice(axis=axis, start=start, stop=stop):
                return self._wired(name, ops.Slice(axis=axis, start=start, stop=stop), args[0])

    def _synapse(self, call: Call, op: program.Synapse, x: _Value) -> _Value:
        unit = self.units[call.name]
        bias = unit.bias if not x.finer else IntTensor(unit.bias.array << x.finer)
        output_scale = unit.output_scale / (1 << x.finer)
        graded = self.types[x.node].kind is Kind.GRADED
        graded = graded and (self._is_image(call) or call.name in self.read_out)
        if not op.space:
            made: ops.Weighted = ops.Linear(weight=unit.weight, bias=bias, graded=graded)
            node = self._put_synapse(call, made, x.node)
            return _Value(node, output_scale, x.over)
        shape = self.types[x.node].shape
        if op.space == 1:  # (C, N) is a map of N rows and one column
            x = self._shaped(f"{call.path}.map", x, (*shape, 1))
        made = ops.Conv2d(
            weight=spread(unit.weight, op),
            bias=bias,
            stride=op.stride,
            padding=op.padding,
            groups=op.groups,
            graded=graded,
        )
        y = _Value(self._put_synapse(call, made, x.node), output_scale, x.over)
        return self._shaped(f"{call.path}.row", y, step_shape(call.dims))

    def _put_synapse(self, call: Call, op: ops.Weighted, x: str) -> str:
        node = self.emit(call.path, op, x)
        self.synapses[node] = call.name
        return node

    def _is_image(self, call: Call) -> bool:
        """Whether the operand is the image itself: the one graded input that is marked."""
        source = self.captured.calls[call.inputs[0]]
        while isinstance(source.op, program.Reshape | program.Permute | program.Expand):
            source = self.captured.calls[source.inputs[0]]
        return isinstance(source.op, program.Input)

    def _fire(self, call: Call, x: _Value) -> _Value:
        op = call.op
        if not isinstance(op, program.Neuron):
            raise TypeError(f"{call.name} is no neuron")
        x, neuron = self._integer_neuron(op, x)
        node = self.emit(op.module, neuron.op, x.node)
        self.neurons[node] = (call, neuron)
        return _Value(node, op.rule.output_scale)

    def _weigh(self, op: program.ShiftSum, scores: _Value, values: _Value) -> _Value:
        kinds = self.types[scores.node], self.types[values.node]
        made = integer_shiftmax(op, *kinds, values.scale)
        if self.shiftmaxes.setdefault(op.module, made) != made:
            raise ValueError("weighs values of different units; use a Shiftmax of its own for each")
        node = self.emit(op.module, made.op, scores.node, values.node)
        return self._like([scores, values], node, values.scale)

    def _potential(self, op: program.Membrane, call: Call, x: _Value) -> _Value:
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
        node = self.emit(f"{fire.module}.membrane", made, x.node)
        self.neurons[node] = (call, neuron)
        bits = neuron.op.fraction_bits
        return _Value(node, neuron.unit / (1 << bits), finer=bits)

    def _integer_neuron(self, fire: program.Neuron, x: _Value) -> tuple[_Value, IntegerNeuron]:
        if x.over != "steps":
            raise ValueError("a neuron after the mean, or the last step, over time")
        x = _compared(x)
        form = self.coarse.get((fire.module, fire.call))
        return x, integer_neuron(fire.rule, x.scale, self.captured.T, form)

    def _reduce(self, name: str, op: program.Sum, x: _Value) -> _Value:
        shape = self.types[x.node].shape
        node, scale = x.node, x.scale
        if op.axes:
            node = self.emit(name, ops.Sum(axes=op.axes, keepdims=op.keepdims), node)
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
        args: list[_Value],
        shape: tuple[int, ...],
    ) -> _Value:
        """Add or join two values, brought to one scale and, to add, to one shape."""
        scale = args[0].scale
        if args[1].scale != scale:
            scale = common_scale(args[0].scale, args[1].scale)
        a, b = (self._multiplied(name, x, scale) for x in args)
        if isinstance(op, program.Concat):
            return self._like(
                args, self.emit(name, ops.Concat(axis=op.axis), a.node, b.node), scale
            )
        a, b = (self._shaped(f"{name}.operand", x, shape) for x in (a, b))
        return self._like(args, self.emit(name, ops.Add(), a.node, b.node), scale)

    def _multiplied(self, name: str, x: _Value, scale: Fraction) -> _Value:
        """The same value in a finer scale: added to itself so many times, or a synapse of -1."""
        times = x.scale / scale
        kind = self.types[x.node]
        if times < 0 and kind.kind is not Kind.GRADED:
            weight = IntTensor.of([[int(times)]])
            x = self._shaped(f"{name}.one", x, (*kind.shape, 1))
            made = ops.Linear(weight=weight, bias=IntTensor.of([0]))
            negative = _Value(self.emit(f"{name}.negative", made, x.node), scale, x.over)
            return self._shaped(f"{name}.one", negative, kind.shape)
        if times < 0 or times > _MOST_TIMES:
            raise ValueError(f"adds values whose scales differ by {float(times):g}")
        if times == 1:
            return x
        x = self._shaped(f"{name}.one", x, (*kind.shape, 1))
        x = self._wired(f"{name}.copies", ops.Expand(shape=(*kind.shape, int(times))), x)
        total = ops.Sum(axes=(len(kind.shape),))
        return _Value(self.emit(f"{name}.times", total, x.node), scale, x.over)

    def _pool(self, name: str, op: program.MaxPool, x: _Value, shape: tuple[int, ...]) -> _Value:
        """All axes before the last two are channels of the pool."""
        has = self.types[x.node].shape
        x = self._shaped(f"{name}.map", x, (math.prod(has[:-2]), *has[-2:]))
        pool = ops.MaxPool2d(kernel=op.kernel, stride=op.stride, padding=op.padding)
        return self._shaped(f"{name}.shape", self._wired(name, pool, x), shape)

    def _like(self, args: list[_Value], node: str, scale: Fraction) -> _Value:
        if len({a.over for a in args}) > 1:
            raise ValueError("combines a mean over time with a value that has steps")
        return _Value(node, scale, args[0].over)

    def _wired(self, name: str, op: ops.Op, x: _Value) -> _Value:
        return replace(x, node=self.emit(name, op, x.node))

    def _shaped(self, name: str, x: _Value, shape: tuple[int, ...]) -> _Value:
        """Reshape or repeat to `shape`, whichever it takes."""
        has = self.types[x.node].shape
        if has == shape:
            return x
        if math.prod(has) != math.prod(shape):
            aligned = (1,) * (len(shape) - len(has)) + has
            x = self._shaped(name, x, aligned)
            return self._wired(name, ops.Expand(shape=shape), x)
        return self._wired(name, ops.Reshape(shape=shape), x)


def _compared(x: _Value) -> _Value:
    """A value of which order matters must not be negated."""
    if x.scale <= 0:
        raise ValueError("compares a negated current; negate the weights instead")
    return x


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
