"""Translate the ATen operators that cut, join and frame values."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from lapilli.ir.errors import CaptureError
from lapilli.model.capture import axes, program
from lapilli.model.capture.axes import Dims, MixError
from lapilli.model.capture.opaque_step import MEMBRANE, NEURON_STEP, SPIKES
from lapilli.model.capture.program import Call, neuron_of
from lapilli.model.capture.rules.wiring import inserted, repeated
from lapilli.model.capture.translation import OperatorRule, Translation, sizes, untouched
from lapilli.model.neurons.adapters import adapter_of

aten = torch.ops.aten


# ---- cutting ---------------------------------------------------------------------------------


def _slice(t: Translation) -> Call:
    x = t.call(t.argument(0))
    axis = t.argument(1, 0) % len(x.dims)
    start, step = t.argument(2, 0) or 0, t.argument(4, 1)
    if step != 1:
        raise t.error("a slice with a step is not supported")
    return part(t, x, axis, start, t.shape[axis])


def _narrow(t: Translation) -> Call:
    x = t.call(t.argument(0))
    return part(t, x, t.argument(1) % len(x.dims), t.argument(2), t.argument(3))


def _select(t: Translation) -> Call:
    return _selected(t, t.call(t.argument(0)), t.argument(1), t.argument(2))


def _selected(t: Translation, x: Call, axis: int, index: int) -> Call:
    axis %= len(x.dims)
    rest = (*x.dims[:axis], *x.dims[axis + 1 :])
    if [f.name for f in x.dims[axis]] == ["T"]:
        if t.reader.looping:  # the frame of a step
            return t.step(program.Reshape(), rest, x)
        if index in (-1, sizes(x)[axis] - 1):
            return t.step(program.Last(), rest, x)
        raise MixError(
            f"it takes the steps of {axes.show(x.dims)} apart; {if_a_neuron(t)}; if it is a layer, "
            "let it take all steps at once, as [T*B, ...]"
        )
    y = part(t, x, axis, index, 1)
    return t.reshaped(y, axes.shape(rest))


def if_a_neuron(t: Translation) -> str:
    """Say what its author can do if the module that does this is a neuron."""
    try:
        kind = type(t.reader.model.get_submodule(t.path)).__name__
    except AttributeError:  # a graph of torch.fx keeps the name of what it traced through
        return (
            "torch.fx traced through the module of this name, which is gone; if it is a neuron, "
            "let the tracer keep it whole (is_leaf_module), or give the class itself"
        )
    return f"if {kind} is a neuron, describe it: quantize(neurons=...) (--neuron)"


def _get_item(t: Translation) -> Call:
    """One piece of `chunk`, `split` or `unbind`, or the one value of a tuple."""
    pieces, index = t.argument(0), t.argument(1)
    if pieces.target is NEURON_STEP:
        return _of_neuron(t, t.call(pieces), index)
    if pieces.target not in SPLITS:
        return t.call(pieces)
    x = t.call(pieces.args[0])
    if pieces.target is aten.unbind.int:
        return _selected(t, x, pieces.args[1] if len(pieces.args) > 1 else 0, index)
    axis = (pieces.args[2] if len(pieces.args) > 2 else 0) % len(x.dims)
    lengths = [piece.shape[axis] for piece in pieces.meta["val"]]
    return part(t, x, axis, sum(lengths[:index]), lengths[index])


def _of_neuron(t: Translation, fired: Call, index: int) -> Call:
    """One of the values that a step of a neuron returns."""
    fire = neuron_of(fired)
    module = t.reader.model.get_submodule(fire.module)
    adapter = adapter_of(module)
    if index == SPIKES and (adapter is None or not adapter.silent):
        return fired
    if adapter is None or index > MEMBRANE:
        raise CaptureError(
            fire.module, "its synaptic current is read; only its spikes and its membrane can be"
        )
    op = program.Membrane(neuron=fire, after_reset=adapter.shows_after_reset(module))
    return t.step(op, fired.dims, t.reader.calls[fired.inputs[0]])


def part(t: Translation, x: Call, axis: int, start: int, size: int) -> Call:
    """Elements start..start + size - 1 of one axis; all of them are the value itself.

    Raises:
        MixError: it would cut time or batch.
    """
    length = sizes(x)[axis]
    start = start + length if start < 0 else start
    if size == length:
        return x
    untouched(x, (axis,))
    step = axes.step_axes(x.dims)[axis]
    if step is None:
        raise MixError(f"it cuts {axes.show(x.dims)}")
    dims = (*x.dims[:axis], *axes.anonymous(size), *x.dims[axis + 1 :])
    return t.step(program.Slice(axis=step, start=start, stop=start + size), dims, x)


# ---- joining ---------------------------------------------------------------------------------


def _concatenate(t: Translation) -> Call:
    given = t.argument(0)
    calls = [t.call(a) for a in given]
    axis = t.argument(1, 0) % len(t.shape)
    if len(set(given)) == 1 and sizes(calls[0])[axis] == 1:
        return repeated(t, calls[0], t.shape)
    return joined(t, calls, axis)


def _stack(t: Translation) -> Call:
    given = t.argument(0)
    axis = t.argument(1, 0) % len(t.shape)
    if len(set(given)) == 1:
        return repeated(t, inserted(t, t.call(given[0]), axis), t.shape)
    return joined(t, [inserted(t, t.call(a), axis) for a in given], axis)


def joined(t: Translation, calls: Sequence[Call], axis: int) -> Call:
    """One behind the other along an axis.

    Raises:
        MixError: along time or batch, or of values that differ in these.
    """
    whole = calls[0]
    for x in calls[1:]:
        untouched(whole, (axis,))
        untouched(x, (axis,))
        rest: list[Dims] = [(*c.dims[:axis], *c.dims[axis + 1 :]) for c in (whole, x)]
        common = axes.broadcast(*rest)
        size = sizes(whole)[axis] + sizes(x)[axis]
        step = axes.step_axes(whole.dims)[axis]
        if step is None:
            raise MixError(f"it joins along {axes.show(whole.dims)}")
        dims = (*common[:axis], *axes.anonymous(size), *common[axis:])
        whole = t.step(program.Concat(axis=step), dims, whole, x)
    return whole


def _roll(t: Translation) -> Call:
    x = t.call(t.argument(0))
    shifts, dims = (
        v if isinstance(v, list | tuple) else [v] for v in (t.argument(1), t.argument(2))
    )
    if not dims:
        raise t.error("roll without dimensions is not supported")
    for shift, dim in zip(shifts, dims, strict=True):
        axis = dim % len(x.dims)
        untouched(x, (axis,))
        length = sizes(x)[axis]
        if cut := -shift % length:
            ends = part(t, x, axis, cut, length - cut), part(t, x, axis, 0, cut)
            x = joined(t, ends, axis)
    return x


# ---- padding ---------------------------------------------------------------------------------


def _pad(t: Translation) -> Call:
    x, amounts = t.call(t.argument(0)), list(t.argument(1))
    mode, value = t.argument(2, "constant"), t.argument(3)
    if t.node.target is aten.constant_pad_nd.default:
        mode, value = "constant", mode if len(t.node.args) > 2 else 0
    if mode != "constant" or (value or 0) != 0:
        raise t.error("pads with something else than a constant; zeros are supported")
    if not any(amounts):
        return x
    if any(amounts[4:]) or min(amounts) < 0 or len(x.dims) < 3:
        raise t.error(f"padding by {amounts} is not a frame around the last two axes")
    untouched(x, (-1, -2))
    left, right, *vertical = [*amounts, 0, 0][:4]
    top, bottom = vertical
    op = program.Pad(before=(top, left), after=(bottom, right))
    return t.step(op, (*x.dims[:-2], *axes.anonymous(*t.shape[-2:])), x)


def _slice_scatter(t: Translation) -> Call:
    """One side of a frame overwritten, as RepConv's batch norm with padding does."""
    x, source = t.call(t.argument(0)), t.argument(1)
    if t.node.target is aten.select_scatter.default or not isinstance(x.op, program.Pad):
        raise t.error("assigns to a part of a value; only a frame of padding may be filled")
    if source.target is aten.copy.default:
        source = source.args[1]
    axis = t.argument(2, 0) % len(x.dims)
    length = sizes(x)[axis]
    start = t.argument(3) or 0
    stop = min(length, length if t.argument(4) is None else t.argument(4))
    start, stop = (n + length if n < 0 else n for n in (start, stop))
    side = axis - len(x.dims) + 2  # 0: rows, 1: columns
    if not t.is_constant(source) or side not in (0, 1):
        raise t.error("assigns to a part of a value; only a frame of padding may be filled")
    before, after = x.op.before[side], x.op.after[side]
    if (start, stop) not in ((0, before), (length - after, length)):
        raise t.error("fills something else than one side of a padding")
    fill = t.constant(source)
    shape = [1] * fill.ndim
    shape[1] = fill.shape[1]
    channels = fill[0].flatten(1)[:, 0]
    if not torch.equal(channels.reshape(shape).expand_as(fill), fill):
        raise t.error("fills a padding with more than one value per channel")
    values = channels.numpy()
    if x.op.fill is not None and not np.array_equal(t.reader.constants[x.op.fill], values):
        raise t.error("fills the sides of a padding with different values")
    name = x.op.fill or t.kept(values)
    op = program.Pad(
        before=x.op.before,
        after=x.op.after,
        fill=name,
        sides=x.op.sides | {(side, start == 0)},
    )
    return t.step(op, x.dims, t.reader.calls[x.inputs[0]])


SPLITS = (
    aten.chunk.default,
    aten.split.Tensor,
    aten.split_with_sizes.default,
    aten.tensor_split.sections,
    aten.unbind.int,
)


SLICING: Mapping[Any, OperatorRule] = {
    **dict.fromkeys(SPLITS, lambda t: None),  # taken apart by getitem
    aten.copy.default: lambda t: None,  # read by slice_scatter
    aten.fill.Scalar: lambda t: None,
    aten.fill.Tensor: lambda t: None,
    aten.select_scatter.default: _slice_scatter,
    operator.getitem: _get_item,
    aten.slice.Tensor: _slice,
    aten.narrow.default: _narrow,
    aten.select.int: _select,
    aten.cat.default: _concatenate,
    aten.concat.default: _concatenate,
    aten.stack.default: _stack,
    aten.roll.default: _roll,
    aten.pad.default: _pad,
    aten.constant_pad_nd.default: _pad,
    aten.slice_scatter.default: _slice_scatter,
}
