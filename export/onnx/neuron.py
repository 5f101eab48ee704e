"""Neurons as functions of our own domain, each with a body of plain integer operators.

A runtime that does not know the domain runs the body.
"""

from __future__ import annotations

from onnx import FunctionProto

from lapilli.export.onnx.body import I8, I32, I64, U8, Body, fits
from lapilli.export.onnx.function import FunctionBody, fits_carrier
from lapilli.ir import ops
from lapilli.ir.bounds import NeuronBounds, neuron_bounds
from lapilli.ir.graph import Node
from lapilli.ir.types import IntRange


def state_carrier(op: ops.Neuron, bounds: NeuronBounds) -> int:
    """int32 where every number of the neuron's step fits, else int64, which holds all."""
    sums = bounds.u.magnitude + bounds.v.magnitude + op.bias.range.magnitude + op.reset_by
    sums = max(sums, bounds.current.magnitude, 1 << abs(op.fraction_bits))
    return I32 if fits(IntRange(-sums, max(sums, op.threshold.range.hi)), I32) else I64


def neuron(body: Body, node: Node, op: ops.Neuron) -> None:
    """A call of the function that computes this neuron's rule; its value is the spikes."""
    _, shown, _ = _integrated(body, node, op, body.value(node.name))
    body.membranes[node.name] = shown


def membrane(body: Body, node: Node, op: ops.Membrane) -> None:
    """The same call; its value is the membrane."""
    unread = body.fresh(f"{node.name}/spikes") + body.suffix
    _, before, after = _integrated(body, node, op.neuron, unread)
    carrier = state_carrier(op.neuron, _bounds(body, node, op.neuron))
    body.name(node.name, after if op.after_reset else before, carrier)


def _integrated(body: Body, node: Node, op: ops.Neuron, spikes: str) -> tuple[str, str, str]:
    """Call a neuron's function: names of spikes, and of the membrane before and after reset."""
    bounds = _bounds(body, node, op)
    carrier, biased = state_carrier(op, bounds), bool(op.bias.array.any())
    decayed = (op.dv, bounds.after.magnitude), (op.du, bounds.u.magnitude)
    wide = not all(fits_carrier(carrier, d, magnitude) for d, magnitude in decayed)
    rule = (op.dv, op.du, op.fraction_bits, op.reset, op.reset_by, op.ternary)
    key = (*rule, carrier, biased, wide)
    if key not in body.functions:
        name = f"LIF_{len(body.functions) + 1}"
        body.functions[key] = _lif(name, op, carrier, wide=wide)
    inputs = [body.value(node.inputs[0])]
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


def _bounds(body: Body, node: Node, op: ops.Neuron) -> NeuronBounds:
    return neuron_bounds(node.name, op, body.graph.types[node.inputs[0]], body.graph.T)


def _remembered(op: ops.Neuron) -> list[str]:
    """What the neuron keeps: a full decay forgets."""
    return [role for role, d in (("v", op.dv), ("u", op.du)) if d != ops.DECAY_ONE]


def _lif(name: str, op: ops.Neuron, carrier: int, *, wide: bool) -> FunctionProto:
    """The rule of `ir.ops.Neuron`, operator by operator."""
    step = FunctionBody(carrier)
    current = step.add("Cast", "x", to=carrier)
    if op.fraction_bits > 0:
        current = step.add("Mul", current, step.number(1 << op.fraction_bits))
    elif op.fraction_bits:
        current = step.floored(current, -op.fraction_bits)
    remembered = _remembered(op)
    if "u" in remembered:
        current = step.add("Add", step.decayed("u", op.du, wide=wide), current, out="u_next")
    membrane = current
    if "v" in remembered:
        membrane = step.add("Add", step.decayed("v", op.dv, wide=wide), membrane)
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
        silent = step.add("Cast", step.add("Not", fired), to=carrier)
        step.add("Mul", membrane, silent, out="v_next")
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
    return step.function(name, inputs, outputs, about)


def _staircase(name: str, carrier: int) -> FunctionProto:
    """Number of thresholds (levels, 1, ...) that x (batch, ...) has reached."""
    step = FunctionBody(carrier)
    x = step.add("Unsqueeze", step.add("Cast", "x", to=carrier), step.axes(0))
    reached = step.add("Cast", step.add("GreaterOrEqual", x, "thresholds"), to=I32)
    step.add("ReduceSum", reached, step.axes(0), out="steps", keepdims=0)
    about = "steps = number of thresholds with x >= threshold"
    return step.function(name, ["x", "thresholds"], ["steps"], about)
