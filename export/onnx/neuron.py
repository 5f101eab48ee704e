"""Neurons as functions of our own domain, each with a body of plain integer operators.

A runtime that does not know the domain runs the body. Decays are `Div`, which truncates toward
zero, as the definition does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import FunctionProto, NodeProto, TensorProto, helper, numpy_helper

from lapilli.export.onnx.body import I8, I32, I64, U8, Array, Body, dtype_of, fits
from lapilli.ir import ops
from lapilli.ir.bounds import neuron_bounds, trailing_zeros
from lapilli.ir.graph import Node
from lapilli.ir.types import IntRange, TensorType

DOMAIN = "org.lapilli"
OPSET = 21


def state_carrier(name: str, op: ops.Neuron, x: TensorType, T: int) -> int:
    """int32 where every number of the neuron's step fits, else int64, which holds all."""
    bounds = neuron_bounds(name, op, x, T)
    sums = bounds.u.magnitude + bounds.v.magnitude + op.bias.range.magnitude + op.reset_by
    sums = max(sums, x.range.magnitude)
    return I32 if fits(IntRange(-sums, max(sums, op.threshold.range.hi)), I32) else I64


def neuron(body: Body, node: Node, op: ops.Neuron) -> None:
    """A call of the function that computes this neuron's rule; its value is the spikes."""
    _, shown, _ = _integrated(body, node, op, body.value(node.name))
    body.membranes[node.name] = shown


def membrane(body: Body, node: Node, op: ops.Membrane) -> None:
    """The same call; its value is the membrane."""
    unread = body.fresh(f"{node.name}/spikes") + body.suffix
    _, before, after = _integrated(body, node, op.neuron, unread)
    carrier = state_carrier(node.name, op.neuron, body.graph.types[node.inputs[0]], body.graph.T)
    body.name(node.name, after if op.after_reset else before, carrier)


def _integrated(body: Body, node: Node, op: ops.Neuron, spikes: str) -> tuple[str, str, str]:
    """Call a neuron's function: names of spikes, and of the membrane before and after reset."""
    (source,) = node.inputs
    carrier = state_carrier(node.name, op, body.graph.types[source], body.graph.T)
    biased = bool(op.bias.array.any())
    key = (op.dv, op.du, op.fraction_bits, op.reset, op.reset_by, op.ternary, carrier, biased)
    if key not in body.functions:
        body.functions[key] = _lif(f"LIF_{len(body.functions) + 1}", op, carrier)
    inputs = [body.value(source)]
    inputs.append(body.constant(f"{node.name}/threshold", op.threshold.array, carrier))
    if biased:
        inputs.append(body.constant(f"{node.name}/bias", op.bias.array, carrier))
    states = [body.state(node.name, role, carrier) for role in _remembered(op)]
    before = body.fresh(f"{node.name}/membrane") + body.suffix
    body.describe(before, carrier, body.graph.types[node.name].shape)
    after = {s.role: s.after for s in states}
    left = after.pop("v", None) or body.fresh(f"{node.name}/left") + body.suffix
    outputs = [spikes, before, left, *after.values()]
    body.call(body.functions[key], [*inputs, *(s.before for s in states)], outputs, node.name)
    return spikes, before, left


def staircase(body: Body, node: Node, op: ops.Staircase) -> None:
    """A call of the function that counts the thresholds reached."""
    (source,) = node.inputs
    x = body.graph.types[source]
    carrier = I32 if fits(x.range | op.thresholds.range, I32) else I64
    key = ("staircase", carrier)
    if key not in body.functions:
        body.functions[key] = _staircase(f"Staircase_{len(body.functions) + 1}", carrier)
    levels, *shape = op.thresholds.shape
    ones = [1] * (len(x.shape) + 1 - len(shape))  # a batch, and what broadcasts
    array = op.thresholds.array.reshape(levels, *ones, *shape)
    thresholds = body.constant(f"{node.name}/thresholds", array, carrier)
    steps = body.fresh(f"{node.name}/steps") + body.suffix
    body.call(body.functions[key], [body.value(source), thresholds], [steps], node.name)
    body.name(node.name, steps, I32)


def _remembered(op: ops.Neuron) -> list[str]:
    """What the neuron keeps: a full decay forgets."""
    return [role for role, d in (("v", op.dv), ("u", op.du)) if d != ops.DECAY_ONE]


def _lif(name: str, op: ops.Neuron, carrier: int) -> FunctionProto:
    """The rule of `ir.ops.Neuron`, operator by operator."""
    step = _FunctionBody(carrier)
    current = step.add("Cast", "x", to=carrier)
    if op.fraction_bits > 0:
        current = step.add("Mul", current, step.number(1 << op.fraction_bits))
    elif op.fraction_bits:  # rounded down: Mod has the sign of the divisor, Div truncates
        divisor = step.number(1 << -op.fraction_bits)
        whole = step.add("Sub", current, step.add("Mod", current, divisor))
        current = step.add("Div", whole, divisor)
    remembered = _remembered(op)
    if "u" in remembered:
        current = step.add("Add", step.decayed("u", op.du), current, out="u_next")
    membrane = current
    if "v" in remembered:
        membrane = step.add("Add", step.decayed("v", op.dv), membrane)
    if op.bias.array.any():
        membrane = step.add("Add", membrane, "bias")
    step.add("Identity", membrane, out="membrane")
    fired = step.add("GreaterOrEqual", membrane, "threshold")
    if op.ternary:
        below = step.add("LessOrEqual", membrane, step.add("Neg", "threshold"))
        signs = (step.add("Cast", fired, to=I8), step.add("Cast", below, to=I8))
        step.add("Sub", *signs, out="spikes")
        fired = step.add("Or", fired, below)
    else:
        step.add("Cast", fired, out="spikes", to=U8)
    if op.reset is ops.Reset.TO_ZERO:
        step.add("Where", fired, step.number(0), membrane, out="v_next")
    elif op.reset is ops.Reset.BY_SUBTRACTION:
        drop = step.add("Mul", step.add("Cast", "spikes", to=carrier), step.number(op.reset_by))
        step.add("Sub", membrane, drop, out="v_next")
    else:
        step.add("Identity", membrane, out="v_next")
    inputs = ["x", "threshold", *(["bias"] if op.bias.array.any() else []), *remembered]
    outputs = ["spikes", "membrane", "v_next", *(["u_next"] if "u" in remembered else [])]
    shift = f"x * {1 << max(0, op.fraction_bits)}"
    if op.fraction_bits < 0:
        shift = f"x / {1 << -op.fraction_bits}, rounded down"
    drop_by = f" {op.reset_by}" if op.reset is ops.Reset.BY_SUBTRACTION else ""
    about = (
        f"u' = decay(u, {op.du}) + {shift}; "
        f"membrane = decay(v, {op.dv}) + u' + bias; "
        f"spike where membrane >= threshold{' or <= -threshold' if op.ternary else ''}; "
        f"reset: {op.reset.value}{drop_by}; "
        "decay(a, d) = a * (4096 - d) / 4096, truncated toward zero"
    )
    return _function(name, inputs, outputs, step.nodes, about)


def _staircase(name: str, carrier: int) -> FunctionProto:
    """Number of thresholds (levels, 1, ...) that x (batch, ...) has reached."""
    step = _FunctionBody(carrier)
    x = step.add("Unsqueeze", step.add("Cast", "x", to=carrier), step.axes(0))
    reached = step.add("Cast", step.add("GreaterOrEqual", x, "thresholds"), to=I32)
    step.add("ReduceSum", reached, step.axes(0), out="steps", keepdims=0)
    about = "steps = number of thresholds with x >= threshold"
    return _function(name, ["x", "thresholds"], ["steps"], step.nodes, about)


class _FunctionBody:
    """The body of a function, a line per operator; `carrier` is the type of its state."""

    def __init__(self, carrier: int) -> None:
        self.carrier = carrier
        self.nodes: list[NodeProto] = []

    def add(self, op: str, *inputs: str, out: str | None = None, **attributes: Any) -> str:
        out = out or f"{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [out], name=out, **attributes))
        return out

    def number(self, value: int, carrier: int | None = None) -> str:
        return self._constant(np.array(value, dtype_of(carrier or self.carrier)))

    def axes(self, axis: int) -> str:
        return self._constant(np.array([axis], np.int64))

    def decayed(self, state: str, d: int) -> str:
        """Take a * (4096 - d) / 4096 in lowest terms; a product takes 12 more bits: int64."""
        if d == 0:
            return state
        zeros = trailing_zeros(ops.DECAY_ONE - d)
        factor, divisor = (ops.DECAY_ONE - d) >> zeros, ops.DECAY_ONE >> zeros
        if factor == 1:
            return self.add("Div", state, self.number(divisor))
        wide = self.add("Cast", state, to=I64)
        product = self.add("Mul", wide, self.number(factor, I64))
        quotient = self.add("Div", product, self.number(divisor, I64))
        return self.add("Cast", quotient, to=self.carrier)

    def _constant(self, array: Array) -> str:
        value: TensorProto = numpy_helper.from_array(array)
        return self.add("Constant", value=value)


def _function(
    name: str, inputs: Sequence[str], outputs: Sequence[str], nodes: list[NodeProto], about: str
) -> FunctionProto:
    made = helper.make_function(
        DOMAIN, name, list(inputs), list(outputs), nodes, [helper.make_opsetid("", OPSET)]
    )
    made.doc_string = about
    return made
