"""A linear map of the last axis whose batch norm runs over another one: a map for each channel.

A fixed transform of rows, as Haar's, is one matrix for all channels; the batch norm behind it has a
gain for each. Both together are a matrix for each channel, which is a convolution in groups.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from lapilli.model.capture import program
from lapilli.model.capture.axes import Dims, anonymous, named, step_axes, step_shape
from lapilli.model.capture.program import Call, Captured, FloatArray


def rows_apart(captured: Captured) -> Captured:
    """The same program with such maps as convolutions in groups; itself where there are none."""
    apart = dict(_found(captured))
    if not apart:
        return captured
    calls: dict[str, Call] = {}
    constants = dict(captured.constants)
    for call in captured.calls.values():
        made = _grouped(captured, call, apart[call.name], constants) if call.name in apart else None
        calls.update({c.name: c for c in made or [call]})
    return replace(captured, calls=calls, constants=constants)


def _found(captured: Captured) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Linear maps, and the axes before the last along which the batch norm behind them varies."""
    for norm in captured.calls.values():
        if not isinstance(norm.op, program.BatchNorm):
            continue
        wires: list[Call] = []
        call = captured.calls[norm.inputs[0]]
        while isinstance(call.op, program.Reshape | program.Permute):
            wires.append(call)
            call = captured.calls[call.inputs[0]]
        if not isinstance(call.op, program.Synapse) or call.op.space:
            continue
        shape = step_shape(call.dims)
        numbers = np.arange(math.prod(shape)).reshape(shape)
        for wire in reversed(wires):
            if isinstance(wire.op, program.Permute):
                numbers = numbers.transpose(wire.op.axes)
            numbers = numbers.reshape(step_shape(wire.dims))
        axis = step_axes(norm.dims)[1] or 0
        along = np.arange(numbers.shape[axis])
        channel = np.empty(math.prod(shape), np.int64)
        channel[np.moveaxis(numbers, axis, -1)] = along
        of = channel.reshape(shape)
        axes = tuple(a for a in range(len(shape) - 1) if np.ptp(of, axis=a).any())
        if axes and any(map(named, call.dims)):
            yield call.name, axes


def _grouped(
    captured: Captured, call: Call, axes: tuple[int, ...], constants: dict[str, FloatArray]
) -> list[Call]:
    """Those axes before the last, the others behind it; one group for each row of them."""
    op, source = call.op, captured.calls[call.inputs[0]]
    if not isinstance(op, program.Synapse):
        raise TypeError(f"{call.name} is no linear map")
    weight = captured.array(op.weight)
    shape = step_shape(call.dims)
    last, out = len(shape) - 1, len(weight)
    others = tuple(a for a in range(last) if a not in axes)
    order = (*axes, last, *others)
    groups, places = (math.prod(shape[a] for a in which) for which in (axes, others))
    constants[f"{call.name}.weight"] = np.tile(weight[..., None], (groups, 1, 1))
    bias = None
    if op.bias is not None:
        bias = f"{call.name}.bias"
        constants[bias] = np.tile(captured.array(op.bias), groups)
    lead = (tuple(f for dim in call.dims if named(dim) for f in dim if f.name),)

    def made(op: program.Operator, suffix: str, dims: Dims) -> Call:
        nonlocal source
        source = Call(f"{call.name}{suffix}", op, (source.name,), call.path, dims)
        return source

    def dims(*sizes: int) -> Dims:
        return (*lead, *anonymous(*sizes))

    back = tuple(int(a) for a in np.argsort(order))
    in_rows = [shape[a] for a in axes], [shape[a] for a in others]
    convolution = program.Synapse(weight=f"{call.name}.weight", bias=bias, space=1, groups=groups)
    return [
        made(program.Permute(axes=order), ".rows", dims(*in_rows[0], weight.shape[1], *in_rows[1])),
        made(program.Reshape(), ".groups", dims(groups * weight.shape[1], places)),
        made(convolution, ".apart", dims(groups * out, places)),
        made(program.Reshape(), ".results", dims(*in_rows[0], out, *in_rows[1])),
        made(program.Permute(axes=back), "", call.dims),
    ]
