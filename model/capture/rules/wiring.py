"""Translate the ATen operators that move values and compute nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from lapilli.model.capture import axes, program
from lapilli.model.capture.axes import Factor
from lapilli.model.capture.program import Call
from lapilli.model.capture.translation import OperatorRule, Translation, sizes, untouched

aten = torch.ops.aten


def _same(t: Translation) -> Call:
    return t.call(t.argument(0))


def _dropout(t: Translation) -> Call:
    if t.argument(2):
        raise t.error("is in training mode; call model.eval() first")
    return t.call(t.argument(0))


def _converted(t: Translation) -> Call:
    """`to`: between float32 and float64, which hold what flows here."""
    if t.node.meta["val"].dtype not in (torch.float32, torch.float64):
        raise t.error(f"converts a value to {t.node.meta['val'].dtype}, which would round it")
    return t.call(t.argument(0))


def _reshape(t: Translation) -> Call:
    x = t.call(t.argument(0))
    return x if sizes(x) == t.shape else t.reshaped(x, t.shape)


def _insert_axis(t: Translation) -> Call:
    x = t.call(t.argument(0))
    at = t.argument(1) % len(t.shape)
    return inserted(t, x, at)


def inserted(t: Translation, x: Call, at: int) -> Call:
    """X with a new axis of length 1."""
    return t.reshaped(x, (*sizes(x)[:at], 1, *sizes(x)[at:]))


def _permute(t: Translation) -> Call:
    """Any permutation: ask the operator itself, on a shape of distinct sizes."""
    x = t.call(t.argument(0))
    lengths = range(len(x.dims))
    probe = torch.empty(tuple(lengths), device="meta")
    moved = t.node.target(probe, *t.node.args[1:], **t.node.kwargs).shape
    return t.permuted(x, [lengths.index(n) for n in moved])


# ---- repeating -------------------------------------------------------------------------------


def _repeat(t: Translation) -> Call:
    return repeated(t, t.call(t.argument(0)), t.shape)


def _repeat_interleave(t: Translation) -> Call:
    x, times = t.call(t.argument(0)), t.argument(1)
    if t.argument(2) is None:
        raise t.error("repeat_interleave without a dimension is not supported")
    axis = t.argument(2) % len(x.dims)
    if not x.dims[axis]:
        return repeated(t, x, t.shape)
    untouched(x, (axis,))
    x = inserted(t, x, axis + 1)
    x = repeated(t, x, (*sizes(x)[: axis + 1], times, *sizes(x)[axis + 2 :]))
    return t.reshaped(x, t.shape)


def repeated(t: Translation, x: Call, shape: Sequence[int]) -> Call:
    """X with axes repeated; the first that appears on a value without time is time.

    Raises:
        CaptureError: time or batch would be repeated.
    """
    new = len(shape) - len(x.dims)
    dims: list[tuple[Factor, ...]] = [()] * new + list(x.dims)
    for i, (dim, size) in enumerate(zip(dims, shape, strict=True)):
        has = axes.shape((dim,))[0]
        if has == size:
            continue
        if axes.named(dim):
            raise t.error(f"repeating {axes.show((dim,))} of {axes.show(x.dims)}")
        if dim:  # (n) -> (1, n) -> (times, n) -> (times * n)
            first = (*sizes(x)[: max(0, i - new)], 1, *sizes(x)[max(0, i - new) :])
            y = t.reshaped(x, first)
            at = i - new
            y = repeated(t, y, (*first[:at], size // has, *first[at + 1 :]))
            y = t.reshaped(y, (*sizes(x)[:at], size, *sizes(x)[at + 1 :]))
            return repeated(t, y, shape)
        is_time = not (axes.has(dims, "T") or t.reader.has_fired(x) or t.reader.loop)
        dims[i] = (Factor("T" if is_time else "", size),)
    if new == 0 and tuple(dims) == x.dims:
        return x
    return t.step(program.Expand(), tuple(dims), x)


WIRING: Mapping[Any, OperatorRule] = {
    aten.reshape.default: _reshape,
    aten.view.default: _reshape,
    aten._unsafe_view.default: _reshape,  # noqa: SLF001
    aten.flatten.using_ints: _reshape,
    aten.unflatten.int: _reshape,
    aten.squeeze.default: _reshape,
    aten.squeeze.dim: _reshape,
    aten.squeeze.dims: _reshape,
    aten.view_as.default: _reshape,
    aten.unsqueeze.default: _insert_axis,
    aten.permute.default: _permute,
    aten.transpose.int: _permute,
    aten.swapaxes.default: _permute,
    aten.swapdims.default: _permute,
    aten.movedim.int: _permute,
    aten.movedim.intlist: _permute,
    aten.moveaxis.int: _permute,
    aten.moveaxis.intlist: _permute,
    aten.t.default: _permute,
    aten.mT.default: _permute,
    aten.numpy_T.default: _permute,
    aten.repeat.default: _repeat,
    aten.expand.default: _repeat,
    aten.expand_as.default: _repeat,
    aten.repeat_interleave.self_int: _repeat_interleave,
    aten.contiguous.default: _same,
    aten.clone.default: _same,
    aten.alias.default: _same,
    aten.detach.default: _same,
    aten.dropout.default: _dropout,
    aten.feature_dropout.default: _dropout,
    aten.to.dtype: _converted,
    aten.to.device: _converted,
    aten.to.dtype_layout: _converted,
    aten.to.other: _converted,
    aten._to_copy.default: _converted,  # noqa: SLF001
}
