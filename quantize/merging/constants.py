"""What batch norms, constants and pads of the program do to a linear map."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lapilli.ir.errors import QuantizeError
from lapilli.model.capture import program
from lapilli.model.capture.axes import step_axes, step_shape
from lapilli.model.capture.program import Call, Captured, FloatArray
from lapilli.quantize.merging.linear_map import LinearMap, identity, scaled
from lapilli.quantize.merging.values import LinearValue, by_channel, channels_of, space_of


def normalised(captured: Captured, call: Call, inner: LinearValue) -> LinearMap:
    """Scale and shift a map as the batch norm, or the constants, of a call do.

    Raises:
        ValueError: the constants differ within a channel.
    """
    if isinstance(call.op, program.BatchNorm) and over_its_channels(call, inner):
        return scaled(inner.form, *captured.normalisation(call.op))
    factor, shift = _elements(captured, call)
    channels = channels_of(inner)
    return scaled(
        inner.form, *(by_channel(v, channels, len(inner.form.bias)) for v in (factor, shift))
    )


def over_its_channels(call: Call, inner: LinearValue) -> bool:
    """Whether the channels of a batch norm are those of the map, one by one."""
    shape, axis = step_shape(call.dims), step_axes(call.dims)[1] or 0
    along = np.arange(shape[axis]).reshape([-1 if a == axis else 1 for a in range(len(shape))])
    return np.array_equal(np.broadcast_to(along, shape), channels_of(inner))


def _elements(captured: Captured, call: Call) -> tuple[FloatArray, FloatArray]:
    """Factor and shift of each element of one time step."""
    shape, op = step_shape(call.dims), call.op
    if isinstance(op, program.BatchNorm):
        factor, shift = captured.normalisation(op)
        axis = step_axes(call.dims)[1] or 0
        along = [-1 if a == axis else 1 for a in range(len(shape))]
        factor, shift = factor.reshape(along), shift.reshape(along)
    elif isinstance(op, program.Affine):
        given = captured.constants
        factor = np.ones(()) if op.factor is None else given[op.factor]
        shift = np.zeros(()) if op.shift is None else given[op.shift]
    else:
        raise TypeError(f"{call.name} scales nothing")
    return np.broadcast_to(factor, shape), np.broadcast_to(shift, shape)


def shifts(captured: Captured, call: Call) -> FloatArray | None:
    """What a call adds to each element of one time step, if it adds constants and nothing else."""
    op = call.op
    if not isinstance(op, program.Affine) or op.factor is not None or op.shift is None:
        return None
    return _elements(captured, call)[1]


def of_spikes(captured: Captured, call: Call) -> LinearValue:
    """Make the identity of the spikes that a call scales or shifts."""
    shape = step_shape(call.dims)
    space = len(shape) - 1
    if not isinstance(call.op, program.BatchNorm):
        space = space_of(captured, call, shape)
    form = identity(shape[0] if space else shape[-1], space)
    return LinearValue(form, call.inputs[0], call.dims, (), (call.path,))


def frame_of(
    captured: Captured, call: Call, pad: program.Pad
) -> tuple[tuple[int, int], FloatArray]:
    """Find how many elements a pad puts around a map, and what it fills them with.

    Raises:
        ValueError: not the same on every side.
    """
    channels = step_shape(call.dims)[0]
    fill = np.zeros(channels) if pad.fill is None else captured.constants[pad.fill]
    wide = {(s, first) for s in (0, 1) for first in (True, False) if pad.before[s]}
    if pad.before != pad.after or (pad.fill is not None and pad.sides != wide):
        raise ValueError("the padding is uneven, or not filled on every side")
    return pad.before, fill


def padded(
    call: Call, op: program.Synapse, form: LinearMap, pad: program.Pad
) -> tuple[program.Synapse, LinearMap]:
    """Make zeros around spikes, before a convolution, the convolution's own padding.

    Raises:
        QuantizeError: they are no padding that a convolution has.
    """
    if pad.fill is not None or pad.before != pad.after:
        raise QuantizeError(call.path, "pads spikes unevenly, or with something else than zeros")
    rows, columns = pad.before if op.space == 2 else (pad.before[1], pad.before[0])
    if op.space == 0 or (op.space == 1 and columns):
        raise QuantizeError(call.path, "pads the axis over which a linear map runs")
    padding = (op.padding[0] + rows, op.padding[1] + columns)
    return replace(op, padding=padding), replace(form, padding=padding)
