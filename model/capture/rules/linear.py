"""Translate the ATen operators that weigh and add: convolutions, linear maps, products."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch

from lapilli.model.capture import axes, program
from lapilli.model.capture.opaque import SHIFTMAX
from lapilli.model.capture.program import Call
from lapilli.model.capture.translation import OperatorRule, Translation, pair, sizes, untouched

aten = torch.ops.aten


def _convolution(space: Literal[1, 2]) -> OperatorRule:
    def rule(t: Translation) -> Call:
        x = t.call(t.argument(0))
        if len(x.dims) != space + 2:
            raise t.error("is a convolution of images without a batch axis")
        untouched(x, range(1, space + 2))
        weight, bias = t.argument(1), t.argument(2)
        blocks = math.prod(f.size for f in x.dims[0] if not f.name)
        dilation = pair(t.argument(5, 1))
        padding = t.argument(4, 0)
        if isinstance(padding, str):
            padding = _named_padding(t, padding, t.constant(weight).shape[2:], dilation)
        op = program.Synapse(
            weight=_tiled(t, weight, blocks),
            bias=None if bias is None else _tiled(t, bias, blocks),
            space=space,
            stride=_placed(t.argument(3, 1), space, 1),
            padding=_placed(padding, space, 0),
            dilation=_placed(dilation, space, 1),
            groups=t.argument(6, 1) * blocks,
        )
        if blocks == 1:
            return t.step(op, (x.dims[0], *axes.anonymous(*t.shape[1:])), x)
        # Blocks of an image, such as windows of it, beside T and B: channels of their own.
        samples = sizes(x)[0] // blocks
        x = t.reshaped(x, (samples, blocks * sizes(x)[1], *sizes(x)[2:]))
        channels = blocks * t.shape[1]
        y = t.step(op, (x.dims[0], *axes.anonymous(channels, *t.shape[2:])), x)
        return t.reshaped(y, t.shape)

    return rule


def _tiled(t: Translation, parameter: Any, blocks: int) -> str:
    """A parameter, or as many of it as there are blocks."""
    if blocks == 1:
        return t.parameter(parameter)
    value = t.constant(parameter).numpy()
    name = f"{t.node.name}.{t.node_name(parameter)}"
    return t.kept(np.tile(value, (blocks, *[1] * (value.ndim - 1))), name)


def _placed(value: Any, space: int, idle: int) -> tuple[int, int]:
    """One number for each of two axes; the second is idle in a convolution over one."""
    first, second = pair(value)
    return (first, second if space == 2 else idle)


def _named_padding(
    t: Translation, name: str, kernel: torch.Size, dilation: tuple[int, int]
) -> list[int]:
    if name == "valid":
        return [0]
    if any(n % 2 == 0 for n in kernel):
        raise t.error(f"padding {name!r} of an even kernel is not symmetric; give it as numbers")
    return [d * (n // 2) for n, d in zip(kernel, dilation, strict=False)]


def _linear(t: Translation) -> Call:
    x = t.call(t.argument(0))
    untouched(x, (-1,))
    bias = t.argument(2)
    op = program.Synapse(
        weight=t.parameter(t.argument(1)),
        bias=None if bias is None else t.parameter(bias),
        space=0,
    )
    return t.step(op, (*x.dims[:-1], *axes.anonymous(t.shape[-1])), x)


def _embedding(t: Translation) -> Call:
    """A lookup is a linear map of spikes, one for each token."""
    x, table = t.call(t.argument(1)), t.constant(t.argument(0))
    if not isinstance(x.op, program.Input) or sizes(x)[:-1] != t.shape[:-1]:
        raise t.error("looks up what are no token ids as they are given: say how many (ids)")
    if sizes(x)[-1] != len(table):
        raise t.error(f"looks up {len(table)} tokens, and {sizes(x)[-1]} are said to be (ids)")
    op = program.Synapse(weight=t.kept(table.T.contiguous().numpy()), bias=None, space=0)
    return t.step(op, (*x.dims[:-1], *axes.anonymous(table.shape[1])), x)


def _batch_norm(t: Translation) -> Call:
    x = t.call(t.argument(0))
    untouched(x, (1,))
    if t.argument(5):
        raise t.error("is in training mode; call model.eval() first")
    return _normalised(t, x, float(t.argument(7)))


def _batch_norm_result(t: Translation) -> Call:
    """`batch_norm` after in-place operators were removed; `getitem` takes the result."""
    x = t.call(t.argument(0))
    untouched(x, (1,))
    return _normalised(t, x, float(t.argument(6)))


def _normalised(t: Translation, x: Call, eps: float) -> Call:
    weight, bias, mean, var = (t.argument(i) for i in range(1, 5))
    owners = {t.parameter(p).rpartition(".")[0] for p in (weight, bias, mean, var) if p is not None}
    names = [t.reader.parameter_name(p.name) for p in (weight, bias, mean, var) if p is not None]
    if None not in names and len(owners) == 1:
        return t.step(program.BatchNorm(module=owners.pop()), x.dims, x)
    gain, offset = (None if p is None else t.constant(p).numpy() for p in (weight, bias))
    factor, shift = program.normalisation(
        t.constant(mean).numpy(), t.constant(var).numpy(), eps, gain, offset
    )
    shape = [-1, *[1] * (len(axes.step_shape(x.dims)) - (axes.step_axes(x.dims)[1] or 0) - 1)]
    op = program.Affine(
        factor=t.kept(factor.reshape(shape), f"{t.node.name}.factor"),
        shift=t.kept(shift.reshape(shape), f"{t.node.name}.shift"),
    )
    return t.step(op, x.dims, x)


def _matmul(t: Translation) -> Call:
    a, b = t.argument(0), t.argument(1)
    if t.is_constant(b):
        return by_matrix(t, t.call(a), t.constant(b))
    if t.is_constant(a):
        x = swapped(t, t.call(b))
        return swapped(t, by_matrix(t, x, t.constant(a).mT))
    return product(t, t.call(a), t.call(b))


def by_matrix(t: Translation, x: Call, matrix: torch.Tensor) -> Call:
    """X @ matrix: a linear map whose weights the author wrote as a matrix (in, out)."""
    untouched(x, (-1,))
    if matrix.ndim != 2:
        raise t.error(f"multiplies by a constant of {matrix.ndim} axes; a matrix is supported")
    op = program.Synapse(weight=t.kept(matrix.T.contiguous().numpy()), bias=None, space=0)
    return t.step(op, (*x.dims[:-1], *axes.anonymous(matrix.shape[1])), x)


def swapped(t: Translation, x: Call) -> Call:
    """X with its last two axes exchanged."""
    order = list(range(len(x.dims)))
    return t.permuted(x, [*order[:-2], order[-1], order[-2]])


def _shiftmax(t: Translation) -> Call:
    path: str = t.argument(2)
    module: Any = t.reader.model.get_submodule(path)
    op = program.ShiftSum(module=path, window=module.window)
    return _chained(t, op, t.call(t.argument(0)), t.call(t.argument(1)))


def product(t: Translation, a: Call, b: Call) -> Call:
    """Matrix product of two values; leading axes of length 1 are repeated."""
    return _chained(t, program.Matmul(), a, b)


def _chained(t: Translation, op: program.Matmul | program.ShiftSum, a: Call, b: Call) -> Call:
    untouched(a, (-1, -2))
    untouched(b, (-1, -2))
    rank = max(len(a.dims), len(b.dims))
    a, b = (t.reshaped(x, (1,) * (rank - len(x.dims)) + sizes(x)) for x in (a, b))
    leading = axes.broadcast(a.dims[:-2], b.dims[:-2])
    a = t.expanded(a, (*leading, *a.dims[-2:]))
    b = t.expanded(b, (*leading, *b.dims[-2:]))
    return t.step(op, (*leading, a.dims[-2], b.dims[-1]), a, b)


LINEAR: Mapping[Any, OperatorRule] = {
    aten.conv2d.default: _convolution(2),
    aten.conv2d.padding: _convolution(2),
    aten.conv1d.default: _convolution(1),
    aten.conv1d.padding: _convolution(1),
    aten.linear.default: _linear,
    aten.embedding.default: _embedding,
    aten.batch_norm.default: _batch_norm,
    aten._native_batch_norm_legit_no_training.default: _batch_norm_result,  # noqa: SLF001
    aten.matmul.default: _matmul,
    aten.bmm.default: _matmul,
    aten.mm.default: _matmul,
    SHIFTMAX: _shiftmax,
}
