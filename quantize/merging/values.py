"""Values that are a linear map of another, and where their channels went."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import takewhile
from typing import TypeAlias

import numpy as np

from lapilli.ir.errors import QuantizeError
from lapilli.model.capture import program
from lapilli.model.capture.axes import Dims, anonymous, step_shape
from lapilli.model.capture.program import Call, Captured, FloatArray
from lapilli.quantize.merging.linear_map import LinearMap, identity

Positions: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.int64]]


@dataclass(frozen=True, slots=True, eq=False)
class LinearValue:
    """A value that is a linear map of another.

    Attributes:
        form: the map; source: name of the other value.
        dims: of the map's result, before `wires`: reshapes and transpositions of it.
        positions: for each element of one time step, its number before `wires`; None if the
            wires lead nowhere.
        paths: modules whose linear maps are in it.
        unnormalised: the one linear map that it is as yet, on its way to a batch norm.
    """

    form: LinearMap
    source: str
    dims: Dims
    wires: tuple[Call, ...]
    paths: tuple[str, ...]
    positions: Positions | None = None
    unnormalised: bool = False


def positions_of(mine: LinearValue) -> Positions:
    """For each element of one time step, its number before the wires."""
    if mine.positions is not None:
        return mine.positions
    shape = step_shape(mine.wires[-1].dims if mine.wires else mine.dims)
    return np.arange(math.prod(shape)).reshape(shape)


def channels_of(mine: LinearValue) -> Positions:
    """The map's output channel of each element of one time step."""
    shape, before = step_shape(mine.dims), positions_of(mine)
    if mine.form.space:
        return np.asarray(before // math.prod(shape[-mine.form.space :]), np.int64)
    return np.asarray(before % shape[-1], np.int64)


def by_channel(values: FloatArray, channels: Positions, count: int) -> FloatArray:
    """What is the same for all elements of a channel.

    Raises:
        ValueError: it is not.
    """
    result = np.zeros(count)
    result[channels.ravel()] = values.ravel()
    if not np.array_equal(result[channels], values, equal_nan=True):  # NaN: `fold` refuses it
        raise ValueError("constants differ within a channel")
    return result


def space_of(captured: Captured, call: Call, shape: tuple[int, ...]) -> int:
    """Whether constants on spikes vary over the first axis, channels, or over the last."""
    op = call.op
    names = [n for n in (getattr(op, "factor", None), getattr(op, "shift", None)) if n]
    arrays = [captured.constants[n] for n in names]
    first = any(a.ndim == len(shape) > 1 and a.shape[0] > 1 for a in arrays)
    return len(shape) - 1 if first else 0


def cut(mine: LinearValue, call: Call, axis: int, start: int, stop: int) -> LinearValue:
    """Elements start..stop - 1 of one axis; where whole channels are left, a map of these alone."""
    inside = (slice(None),) * axis + (slice(start, stop),)
    whole = replace(mine, positions=positions_of(mine)[inside], wires=(*mine.wires, call))
    channels, numbers = channels_of(whole), positions_of(whole)
    kept, rank = np.unique(channels, return_inverse=True)
    if mine.form.groups > 1 or len(kept) == len(mine.form.bias):
        return whole
    shape = step_shape(mine.dims)
    if mine.form.space:
        each = math.prod(shape[-mine.form.space :])
        moved = rank.reshape(channels.shape) * each + numbers % each
        dims = (*mine.dims[:1], *anonymous(len(kept)), *mine.dims[2:])
    else:
        moved = numbers // shape[-1] * len(kept) + rank.reshape(channels.shape)
        dims = (*mine.dims[:-1], *anonymous(len(kept)))
    if not np.array_equal(moved.ravel(), np.arange(math.prod(step_shape(dims)))):
        return whole
    form = replace(mine.form, weight=mine.form.weight[kept], bias=mine.form.bias[kept])
    wire = replace(call, op=program.Reshape())
    return replace(mine, form=form, dims=dims, wires=(wire,), positions=moved)


def shortcut(other: LinearValue) -> LinearValue:
    """The identity of the same source: a shortcut around a linear map."""
    channels = other.form.weight.shape[1] * other.form.groups
    return replace(other, form=identity(channels, other.form.space), paths=())


def refused(call: Call, inner: LinearValue, why: str) -> QuantizeError:
    """The error that names two linear maps in a row."""
    return QuantizeError(
        call.path,
        f"follows the linear map {inner.paths[-1]!r} without a neuron between, and the two "
        f"cannot be merged: {why}",
    )


def common_path(paths: tuple[str, ...]) -> str:
    """The module that holds them all, or else the first."""
    if len(set(paths)) == 1:
        return paths[0]
    split = [p.split(".") for p in paths]
    same = takewhile(lambda names: len(set(names)) == 1, zip(*split, strict=False))
    return ".".join(names[0] for names in same) or paths[0]


def is_power(value: Fraction) -> bool:
    """Whether it is a power of two, of either sign."""
    return abs(value.numerator).bit_count() == value.denominator.bit_count() == 1
