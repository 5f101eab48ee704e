"""Linear maps as values: composed, scaled and added in float64, with the edges right.

A composition is exact only if the value beyond the edge of the inner map's result, which the
outer one pads with zeros, is what the merged map computes there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn import functional

from lapilli.model.capture import program
from lapilli.model.capture.program import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class LinearMap:
    """y = W x + b, W a convolution over `space` axes or, without any, a matrix.

    Attributes:
        weight: (out, in / groups, kh, kw); kernels of a matrix, and the second axis of a
            convolution over one, have length 1.
        bias: (out,).
        frame: elements around the result, each of them equal to the bias, not yet consumed.
    """

    weight: FloatArray
    bias: FloatArray
    space: int
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    groups: int = 1
    frame: tuple[int, int] = (0, 0)

    @property
    def pointwise(self) -> bool:
        """Whether each position of the result depends on one position alone."""
        return self.weight.shape[2:] == (1, 1) and self.padding == (0, 0)


def as_linear_map(op: program.Synapse, weight: FloatArray, bias: FloatArray | None) -> LinearMap:
    """A linear map of the program; dilation becomes zeros between."""
    kernel = weight.reshape(*weight.shape, *[1] * (4 - weight.ndim))
    (dh, dw), (h, w) = op.dilation, kernel.shape[2:]
    wide = np.zeros((*kernel.shape[:2], (h - 1) * dh + 1, (w - 1) * dw + 1))
    wide[:, :, ::dh, ::dw] = kernel
    own = np.zeros(len(weight)) if bias is None else bias
    return LinearMap(wide, own, op.space, op.stride, op.padding, op.groups)


def identity(channels: int, space: int) -> LinearMap:
    """The map that changes nothing."""
    if space == 0:
        return LinearMap(np.eye(channels).reshape(channels, channels, 1, 1), np.zeros(channels), 0)
    return LinearMap(np.ones((channels, 1, 1, 1)), np.zeros(channels), space, groups=channels)


def scaled(form: LinearMap, factor: FloatArray, shift: FloatArray) -> LinearMap:
    """Factor * y + shift, one of each per channel; a frame of biases stays one."""
    weight = form.weight * factor.reshape(-1, 1, 1, 1)
    return replace(form, weight=weight, bias=form.bias * factor + shift)


def framed(form: LinearMap, frame: tuple[int, int], fill: FloatArray) -> LinearMap:
    """The result with a frame of `fill`, one value per channel.

    Raises:
        ValueError: the merged map would compute something else there.
    """
    if not form.pointwise or form.frame != (0, 0):
        raise ValueError("it pads the result of a map with a kernel; at the edge they differ")
    if not _same_bias(fill, form.bias):
        raise ValueError("it pads with another value than the map gives for silence")
    return replace(form, frame=frame)


def _same_bias(fill: FloatArray, bias: FloatArray) -> bool:
    """Equal but for the order in which a batch norm's four numbers were combined."""
    return np.allclose(fill, bias, rtol=2.0**-30, atol=2.0**-40 * np.abs(bias).max(initial=0))


def composed(inner: LinearMap, outer: LinearMap) -> LinearMap:
    """Outer after inner, as one map.

    Raises:
        ValueError: at the edge they differ from every single map, or one runs over channels
            where the other has positions.
    """
    if inner.space != outer.space:
        raise ValueError("one runs over the last axis, the other over channels")
    pads = tuple(p + f for p, f in zip(outer.padding, inner.frame, strict=True))
    if any(outer.padding) and (inner.frame != (0, 0) or inner.bias.any() or not inner.pointwise):
        raise ValueError(
            "the second pads the result of the first with zeros, which the merged map would not"
        )
    bias = outer.bias + _by_group(outer.weight.sum((2, 3)), inner.bias, outer.groups)
    stride = (inner.stride[0] * outer.stride[0], inner.stride[1] * outer.stride[1])
    padding = (
        inner.padding[0] + pads[0] * inner.stride[0],
        inner.padding[1] + pads[1] * inner.stride[1],
    )
    spread = replace(outer, weight=_spread(outer.weight, inner.stride))
    kernel, groups = _one_by_one(inner, spread), 1
    if kernel is None:
        first, second, groups = _grouped(inner, spread)
        kernel = _chained(first, second, groups)
    return LinearMap(kernel, bias, inner.space, stride, padding, groups)


def _one_by_one(inner: LinearMap, outer: LinearMap) -> FloatArray | None:
    """The kernel of a depthwise map before or after a pointwise one: no sum, one product each.

    Dense, the sums over the channels between would be of zeros, a thousand times as many.
    """
    if _is_one(inner) and outer.groups == len(outer.weight) == len(inner.weight):
        return np.asarray(inner.weight * outer.weight)
    if _is_one(outer) and inner.groups == len(inner.weight) and inner.weight.shape[1] == 1:
        return np.asarray(outer.weight * inner.weight.swapaxes(0, 1))
    return None


def _is_one(form: LinearMap) -> bool:
    """Whether the kernel is of one position and hears all channels."""
    return form.groups == 1 and form.weight.shape[2:] == (1, 1)


def _grouped(inner: LinearMap, outer: LinearMap) -> tuple[FloatArray, FloatArray, int]:
    """Both kernels with the same groups: their own if they agree, else one."""
    if inner.groups == outer.groups:
        return inner.weight, outer.weight, inner.groups
    return _dense(inner), _dense(outer), 1


def _dense(form: LinearMap) -> FloatArray:
    """The kernel without groups: zeros for what a group does not see."""
    out, each = form.weight.shape[:2]
    dense = np.zeros((out, each * form.groups, *form.weight.shape[2:]))
    rows = out // form.groups
    for g in range(form.groups):
        own = slice(g * rows, (g + 1) * rows)
        dense[own, g * each : (g + 1) * each] = form.weight[own]
    return dense


def _by_group(matrix: FloatArray, vector: FloatArray, groups: int) -> FloatArray:
    blocks = matrix.reshape(groups, -1, matrix.shape[1])
    product = blocks @ vector.reshape(groups, -1, 1)
    return np.asarray(product.reshape(-1), np.float64)


def _spread(kernel: FloatArray, stride: tuple[int, int]) -> FloatArray:
    """The outer kernel on the inner map's input: zeros between, for the inner stride."""
    h, w = kernel.shape[2:]
    wide = np.zeros((*kernel.shape[:2], (h - 1) * stride[0] + 1, (w - 1) * stride[1] + 1))
    wide[:, :, :: stride[0], :: stride[1]] = kernel
    return wide


def _chained(first: FloatArray, second: FloatArray, groups: int) -> FloatArray:
    """Full convolution of both kernels, summed over the channels between, group by group."""
    middle, each = first.shape[:2]
    if groups == 1 and second.shape[2:] == (1, 1):  # one product of matrices, not a product a row
        whole = second.reshape(-1, middle) @ first.reshape(middle, -1)
        return whole.reshape(-1, *first.shape[1:])
    maps = torch.from_numpy(first).reshape(groups, middle // groups, each, *first.shape[2:])
    maps = maps.transpose(1, 2)  # (groups, in of a group, middle of a group, kh, kw)
    turned = torch.from_numpy(second[:, :, ::-1, ::-1].copy())
    turned = turned.reshape(groups, -1, *turned.shape[1:])
    margin = (second.shape[2] - 1, second.shape[3] - 1)
    kernels = [functional.conv2d(m, k, padding=margin) for m, k in zip(maps, turned, strict=True)]
    stacked = torch.stack(kernels).transpose(1, 2)  # (groups, out of a group, in of a group, ...)
    return np.asarray(stacked.reshape(-1, each, *stacked.shape[3:]).numpy(), np.float64)


def added(a: LinearMap, b: LinearMap) -> LinearMap:
    """The sum of two maps of one input.

    Raises:
        ValueError: their windows do not lie on the same places.
    """
    margins = [
        tuple(k - 2 * p for k, p in zip(f.weight.shape[2:], f.padding, strict=True)) for f in (a, b)
    ]
    if a.space != b.space or a.stride != b.stride or margins[0] != margins[1]:
        raise ValueError("they add two maps whose windows differ")
    if a.frame != (0, 0) or b.frame != (0, 0):
        raise ValueError("they add a result with a frame")
    padding = (max(a.padding[0], b.padding[0]), max(a.padding[1], b.padding[1]))
    groups = a.groups if a.groups == b.groups else 1
    total = sum(
        np.pad(
            f.weight if f.groups == groups else _dense(f),
            ((0, 0), (0, 0), *((m - p, m - p) for m, p in zip(padding, f.padding, strict=True))),
        )
        for f in (a, b)
    )
    return LinearMap(np.asarray(total), a.bias + b.bias, a.space, a.stride, padding, groups)
