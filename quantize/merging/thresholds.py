"""Positive factors of spikes in front of a neuron go into its thresholds.

Attention of spikes alone is written `(spikes @ spikes) * factor`, with a factor for each head, and
no linear map is left that could take it. A neuron that is reset to zero, and rests there, fires for
`factor * x` at a threshold exactly when it fires for x at `threshold / factor`. Others become
the weights of a synapse, one to one, which rounds them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from fractions import Fraction

import numpy as np

from lapilli.ir import ops
from lapilli.ir.recipe import Note, NoteKind
from lapilli.model.capture import program
from lapilli.model.capture.axes import step_shape
from lapilli.model.capture.program import Call, Captured, FloatArray
from lapilli.model.neurons.rule import NeuronRule, Thresholds


def factors_into_thresholds(captured: Captured) -> Captured:
    """The same program without such factors; itself where there are none."""
    calls = dict(captured.calls)
    uses = Counter(i for call in calls.values() for i in call.inputs)
    currents = _currents(captured)
    notes = list(captured.notes)
    for call in captured.calls.values():
        op = call.op
        if not isinstance(op, program.Neuron) or not isinstance(op.rule, NeuronRule):
            continue
        wires = _wires(captured, call, uses)
        affine = captured.calls[wires[-1].inputs[0] if wires else call.inputs[0]]
        factor = _factor(captured, affine)
        if factor is None or uses[affine.name] > 1 or affine.name in currents:
            continue
        if op.rule.reset is ops.Reset.BY_SUBTRACTION or op.rule.v_rest:
            continue  # more than the threshold tells how large its input is
        for wire in reversed(wires):
            factor = (
                factor.transpose(wire.op.axes) if isinstance(wire.op, program.Permute) else factor
            )
            factor = factor.reshape(step_shape(wire.dims))
        rule = _divided(op.rule, factor)
        calls[call.name] = replace(call, op=replace(op, rule=rule, rescaled=True))
        first = wires[-1] if wires else call
        source = (affine.inputs[0],)
        calls[first.name] = replace(calls[first.name], inputs=source)
        del calls[affine.name]
        text = f"its thresholds take up the factors in front of it: {rule.v_threshold}"
        notes.append(Note(NoteKind.MERGED, op.module, text))
    if len(calls) == len(captured.calls):
        return captured
    return replace(captured, calls=calls, notes=tuple(notes))


def _currents(captured: Captured) -> frozenset[str]:
    """Values that are linear maps of others since the last neuron: a map may take a factor."""
    found: set[str] = set()
    for call in captured.calls.values():
        if isinstance(call.op, program.Synapse) or any(i in found for i in call.inputs):
            found.add(call.name)
        if isinstance(call.op, program.Neuron):
            found.discard(call.name)
    return frozenset(found)


def _wires(captured: Captured, call: Call, uses: Counter[str]) -> list[Call]:
    """What only moves elements between a neuron and what is computed for it, the last first."""
    wires = []
    before = captured.calls[call.inputs[0]]
    while isinstance(before.op, program.Reshape | program.Permute) and uses[before.name] == 1:
        wires.append(before)
        before = captured.calls[before.inputs[0]]
    return wires


def _factor(captured: Captured, call: Call) -> FloatArray | None:
    """The factor of each element, if the call multiplies by positive ones."""
    op = call.op
    if not isinstance(op, program.Affine) or op.factor is None or op.shift is not None:
        return None
    factor = captured.constants[op.factor]
    if not (factor > 0).all():
        return None
    return np.broadcast_to(factor, step_shape(call.dims))


def _divided(rule: NeuronRule, factor: FloatArray) -> NeuronRule:
    """The rule with thresholds as many times smaller, of the smallest shape that broadcasts."""
    for axis in range(factor.ndim):
        first = factor.take([0], axis)
        factor = first if (factor == first).all() else factor
    theta = np.array(rule.thetas, object).reshape(rule.shape)
    exact = np.array([Fraction(float(f)) for f in factor.ravel()], object).reshape(factor.shape)
    made = np.asarray(theta / exact, object)
    while made.ndim > 1 and made.shape[0] == 1:
        made = made[0]
    return replace(rule, v_threshold=Thresholds(tuple(made.ravel().tolist()), made.shape))
