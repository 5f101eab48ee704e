"""Constant factors of a product of spikes and a current move to the current, whose map takes them.

Attention is written `(spikes @ current) * factor`, with a factor for each head. Behind the product
no linear map could take it up; before it, the one that made the current does.
"""

from __future__ import annotations

from dataclasses import replace

from lapilli.model.capture import program
from lapilli.model.capture.axes import step_shape
from lapilli.model.capture.program import Call, Captured


def factors_before_products(captured: Captured) -> Captured:
    """The same program with such factors on one operand; itself where there are none."""
    real: set[str] = set()  # values that are currents
    calls: dict[str, Call] = {}
    for call in captured.calls.values():
        if isinstance(call.op, program.Synapse) or any(i in real for i in call.inputs):
            real.add(call.name)
        if isinstance(call.op, program.Neuron):
            real.discard(call.name)
        calls.update((c.name, c) for c in _moved(captured, call, real))
    return replace(captured, calls=calls) if len(calls) > len(captured.calls) else captured


def _moved(captured: Captured, call: Call, real: set[str]) -> list[Call]:
    """The call; or its factor on an operand, and the product of that."""
    op = call.op
    if not isinstance(op, program.Affine) or op.factor is None or op.shift is not None:
        return [call]
    product = captured.calls[call.inputs[0]]
    currents = [i for i in product.inputs if i in real]
    if not isinstance(product.op, program.Matmul) or len(currents) != 1:
        return [call]
    which = product.inputs.index(currents[0])
    operand = captured.calls[currents[0]]
    factor = captured.constants[op.factor].shape
    summed = -1 if which == 0 else -2  # where the operand has the axis that the product sums
    same = step_shape(operand.dims)[:-2] == step_shape(product.dims)[:-2]
    if not same or (len(factor) >= -summed and factor[summed] != 1):
        return [call]
    scaled = Call(f"{call.name}.operand", op, (operand.name,), call.path, operand.dims)
    inputs = (scaled.name if i == operand.name else i for i in product.inputs)
    return [scaled, replace(call, op=product.op, inputs=tuple(inputs))]
