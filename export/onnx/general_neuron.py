"""A general neuron, operator by operator, in int64, which holds every state that a graph can have.

A constant of each step is a table, of which the counter of steps picks a row.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from lapilli.export.onnx.body import I64, Body, CarriedState
from lapilli.ir import ops
from lapilli.ir.graph import Node
from lapilli.ir.tensor import IntTensor


def general_neuron(body: Body, node: Node, op: ops.GeneralNeuron) -> None:
    """One step of `op`; the value of the node is its events, and v before the reset is shown."""
    step = _Step(body, node, op)
    v = step.membrane(step.current(step.driven()))
    shown = body.fresh(f"{node.name}/membrane") + body.suffix
    step.emit("Identity", v, out=shown)
    body.describe(shown, I64, body.graph.types[node.name].shape)
    body.membranes[node.name] = shown
    step.reset(v, step.fire(v))
    step.count()


class _Step:
    """Operators of one step, and the states that it takes on."""

    def __init__(self, body: Body, node: Node, op: ops.GeneralNeuron) -> None:
        self.body, self.node, self.op = body, node, op
        self.rank = len(body.graph.types[node.name].shape)
        self.counter: CarriedState | None = None

    def emit(self, kind: str, *inputs: str, out: str | None = None, **attributes: int) -> str:
        return self.body.emit(kind, inputs, self.node.name, out=out, **attributes)

    def number(self, value: int) -> str:
        return self.body.scalar(value, I64)

    def constant(self, role: str, tensor: IntTensor, *inner: int) -> str:
        """What a constant is at this step, against (batch, *shape); `inner` picks of its axes."""
        array = tensor.array
        for axis in inner:
            array = array[:, axis]
        steps, *shape = array.shape
        ones = [1] * self.rank  # of a single neuron, whose shape is (), the constant's own is (1,)
        array = array.reshape(steps, *(ones + shape)[len(shape) :])
        name = self.body.constant("/".join((self.node.name, role, *map(str, inner))), array, I64)
        return name if steps == 1 else self.emit("Gather", name, self._now(), axis=0)

    def _now(self) -> str:
        if self.counter is None:
            name = self.body.fresh(f"{self.node.name}/t")
            after = self.body.fresh(f"{name}/next") + self.body.suffix
            self.counter = CarriedState(
                self.node.name, "t", name + self.body.suffix, after, I64, ()
            )
            self.body.states.append(self.counter)
        return self.counter.before

    def count(self) -> None:
        """One step more is behind."""
        if self.counter is not None:
            self.emit("Add", self.counter.before, self.number(1), out=self.counter.after)

    def driven(self) -> str:
        """The taps times this input and earlier ones, shifted."""
        (source,) = self.node.inputs
        x = self.body.cast(self.body.value(source), self.body.carrier(source), I64, self.node.name)
        total = self.emit("Mul", x, self.constant("taps", self.op.taps, 0))
        for k in range(1, self.op.taps.shape[1]):
            past = self.body.state(self.node.name, f"x{k}", I64)
            self.emit("Identity", x, out=past.after)
            x = past.before
            product = self.emit("Mul", x, self.constant("taps", self.op.taps, k))
            total = self.emit("Add", total, product)
        if not self.op.shift:
            return total
        low = self.emit("BitwiseAnd", total, self.number((1 << self.op.shift) - 1))
        return self.emit("Div", self.emit("Sub", total, low), self.number(1 << self.op.shift))

    def current(self, driven: str) -> str:
        """The synaptic current: what is left of it, and what comes."""
        if np.all(self.op.du.array == ops.DECAY_ONE):
            return driven
        u = self.body.state(self.node.name, "u", I64)
        return self.emit("Add", self._decayed(u.before, "du", self.op.du), driven, out=u.after)

    def membrane(self, current: str) -> str:
        """The membrane before its reset."""
        v = current
        self.v = None
        if not np.all(self.op.dv.array == ops.DECAY_ONE):
            self.v = self.body.state(self.node.name, "v", I64)
            v = self.emit("Add", self._decayed(self.v.before, "dv", self.op.dv), v)
        if self.op.bias.array.any():
            v = self.emit("Add", v, self.constant("bias", self.op.bias))
        if not self.op.floored:
            return v
        above = self.emit("GreaterOrEqual", v, self.number(self.op.floor))
        return self.emit("Where", above, v, self.number(self.op.floor))

    def _decayed(self, state: str, role: str, d: IntTensor) -> str:
        """Take a * (4096 - d) / 4096 toward zero, in two parts of which no product has 64 bits."""
        kept = self.constant(role, IntTensor(ops.DECAY_ONE - d.array))
        one = self.number(ops.DECAY_ONE)
        high = self.emit("Div", state, one)  # toward zero, so that both parts have one sign
        low = self.emit("Sub", state, self.emit("Mul", high, one))
        below = self.emit("Div", self.emit("Mul", low, kept), one)
        return self.emit("Add", self.emit("Mul", high, kept), below)

    def fire(self, v: str) -> str:
        """Count the levels that v has reached."""
        events = ""
        for level in range(self.op.threshold.shape[1]):
            theta = self.constant("threshold", self.op.threshold, level)
            reached = self.emit("GreaterOrEqual", v, theta)
            one = self.emit("Cast", reached, to=TensorProto.INT64)
            events = self.emit("Add", events, one) if events else one
        self.body.name(self.node.name, events, I64)
        return events

    def reset(self, v: str, events: str) -> None:
        """Keep what its events leave of the membrane."""
        if self.v is None:
            return
        match self.op.reset:
            case ops.Reset.NONE:
                self.emit("Identity", v, out=self.v.after)
            case ops.Reset.TO_ZERO:
                silent = self.emit("Equal", events, self.number(0))
                self.emit("Where", silent, v, self.number(0), out=self.v.after)
            case ops.Reset.BY_SUBTRACTION:
                taken = self.emit("Mul", events, self.constant("reset_by", self.op.reset_by))
                self.emit("Sub", v, taken, out=self.v.after)
