"""Where the channels of a current may have a scale each: as far as they are known apart.

A neuron holds a threshold for each channel, so that channel c may count in units of its own,
m_c times that of its stream. Of an answer the host multiplies each class by its m_c before it
compares them. That takes a stream whose values reach nothing but such neurons and answers, and
whose channels stay on one axis on the way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from typing_extensions import assert_never

from lapilli.ir import ops
from lapilli.model.capture import program
from lapilli.model.capture.axes import step_axes, step_shape
from lapilli.model.capture.program import Call, Captured
from lapilli.model.neurons.general_rule import GeneralRule
from lapilli.model.neurons.rule import NeuronRule, Rule


@dataclass(frozen=True, slots=True)
class Channels:
    """What `channels` found.

    Attributes:
        groups: of units, by the first of each, whose channels may have a scale each.
        shapes: call of a neuron, or of an answer -> shape in which one number for each channel
            broadcasts against its current, such as (C, 1, 1); only of those that hear one of
            `groups`.
        answering: those of `groups` that an answer hears.
    """

    groups: frozenset[str]
    shapes: Mapping[str, tuple[int, ...]]
    answering: frozenset[str] = frozenset()


def channels(captured: Captured, groups: Mapping[str, str]) -> Channels:
    """Follow the channels of each group of units.

    Args:
        captured: the program.
        groups: unit -> the first unit of its group.
    """
    walk = _Walk(captured, groups)
    for call in captured.calls.values():
        walk.visit(call)
    answers = [name for name in captured.outputs if name in walk.at]
    for name in answers:
        walk.answer(name)
    kept = frozenset(groups.values()) - walk.lost
    shapes = {n: s for n, (group, s) in walk.heard.items() if group in kept}
    return Channels(kept, shapes, kept & {walk.at[name][0] for name in answers})


def channel_axis(synapse: Call) -> int:
    """The axis of one step of a linear map's result on which its output channels lie."""
    conv = isinstance(synapse.op, program.Synapse) and synapse.op.space > 0
    if not conv:
        return len(step_shape(synapse.dims)) - 1
    return 0 if step_axes(synapse.dims)[0] is None else 1


@dataclass(slots=True)
class _Walk:
    """Where the channels of each value are, and whose they are.

    Attributes:
        at: value -> its group and the axis of the channels; heard: neuron, or answer -> group and
            shape.
        lost: groups that end elsewhere, or whose channels are mixed.
    """

    captured: Captured
    groups: Mapping[str, str]
    at: dict[str, tuple[str, int]] = field(default_factory=dict)
    heard: dict[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)

    def visit(self, call: Call) -> None:
        found = {self.at[i] for i in call.inputs if i in self.at}
        groups = {group for group, _ in found}
        if isinstance(call.op, program.Synapse):
            self.lost |= groups  # it adds up channels
            self.at[call.name] = self.groups[call.name], channel_axis(call)
        elif found:
            axes = {axis for _, axis in found}
            axis = self._axis(call, axes.pop()) if len(axes) == 1 else None
            if axis is None:
                self.lost |= groups
            for group in groups:  # one, or several that are lost
                self._put(call, group, axis or 0)

    def answer(self, name: str) -> None:
        """Keep the channels of an answer that are its first axis: its classes."""
        group, axis = self.at[name]
        shape = step_shape(self.captured.calls[name].dims)
        if axis == 0 and len(shape) in (1, 3):
            self.heard[name] = group, (shape[0], *[1] * (len(shape) - 1))
        else:
            self.lost.add(group)

    def _put(self, call: Call, group: str, axis: int) -> None:
        if isinstance(call.op, program.Neuron):
            shape = step_shape(call.dims)
            self.heard[call.name] = group, (shape[axis], *[1] * (len(shape) - axis - 1))
        else:
            self.at[call.name] = group, axis

    def _axis(self, call: Call, axis: int) -> int | None:
        """Where an axis of the first operand is in the result; None if the channels mix there."""
        before = step_shape(self.captured.calls[call.inputs[0]].dims)
        after = step_shape(call.dims)
        match call.op:
            case program.BatchNorm() | program.Scale() | program.Relu() | program.Last():
                return axis
            case program.Neuron(rule=rule):
                return axis if _holds(rule) else None
            case program.Sum(axes=axes, keepdims=keep):
                gone = 0 if keep else sum(a < axis for a in axes)
                return None if axis in axes else axis - gone
            case program.MaxPool():
                return axis if axis < len(before) - 2 else None
            case program.Permute(axes=axes):
                return axes.index(axis)
            case program.Slice(axis=cut) | program.Concat(axis=cut):
                return axis if cut != axis else None
            case program.Reshape():
                return _reshaped(before, after, axis)
            case program.Expand() | program.Add():
                same = len(before) == len(after) and before[axis] == after[axis]
                return axis if same else None
            case (
                program.Input() | program.Synapse() | program.Membrane() | program.Affine()
                | program.Pad() | program.Matmul() | program.Mul() | program.ShiftSum()
            ):  # fmt: skip
                return None
            case _:
                assert_never(call.op)


def _reshaped(before: tuple[int, ...], after: tuple[int, ...], axis: int) -> int | None:
    """The axis of as many elements, with as many in front of it."""
    in_front = math.prod(before[:axis])
    for new, size in enumerate(after):
        if size == before[axis] and math.prod(after[:new]) == in_front:
            return new
    return None


def _holds(rule: Rule) -> bool:
    """Whether a neuron can hold all that tells it how large its unit is for each channel."""
    if isinstance(rule, GeneralRule):
        return False  # what it adds and takes would lie on another grid in each channel
    if not isinstance(rule, NeuronRule):
        return True
    soft = rule.reset is ops.Reset.BY_SUBTRACTION
    return not (rule.v_rest or (soft and rule.ternary))
