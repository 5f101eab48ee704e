"""Convolutions of bytes by bytes with exact sums: a quarter of float32's time.

PyTorch has oneDNN's under private names. They are used where these take the arguments that are
given here, where a first convolution of this process gives what float64 gives, and where processors
without instructions of their own for this, which add two products in 16 bits, cannot saturate.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

_SCHEMAS = {
    "qconv_prepack": (
        "onednn::qconv_prepack(Tensor weight, Tensor w_scales, float x_scale, int x_zp, "
        "int[] stride, int[] padding, int[] dilation, int groups, int[]? x_shape=None) -> Tensor"
    ),
    "qconv2d_pointwise": (
        "onednn::qconv2d_pointwise(Tensor qx, float x_scale, int x_zero_point, Tensor qw, "
        "Tensor w_scale, Tensor w_zero_point, Tensor? bias, int[] stride, int[] padding, "
        "int[] dilation, int groups, float output_scale, int output_zero_point, "
        "ScalarType? output_dtype, str attr, Scalar?[] scalars, str? algorithm) -> Tensor"
    ),
}
_WORTH = 1 << 26  # products; for fewer, laying out takes as long
_PAIR = 1 << 15  # what two products must stay below


def byte_sums(
    x: Tensor,
    kernel: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Tensor | None:
    """Convolve whole numbers (N, C, ...) by whole numbers (out, C, ...), over one axis or two.

    Args:
        x: float32.
        kernel: float32 or int8.
        stride: of each axis.
        padding: of each axis.
        dilation: of each axis.

    Returns:
        The sums in float32, which must hold them; None if there are groups, a number is no byte, or
        it is not worth it, or not to be had here.
    """
    if kernel.shape[1] != x.shape[1]:  # groups, which oneDNN takes laid out otherwise
        return None
    if x.numel() * kernel[:, 0].numel() // max(1, *(s * s for s in stride)) < _WORTH:
        return None
    low, high = (float(end) for end in x.aminmax())
    most = max(-float(kernel.min()), float(kernel.max()))
    factor = 2.0 if most > 127 else 1.0
    if low < 0 or high > 255 or most > 254 or 2 * high * most / factor >= _PAIR:
        return None
    halves = kernel
    if kernel.dtype is not torch.int8 or factor > 1:
        halves = (kernel / factor).to(torch.int8)
        if not torch.equal(halves * factor, kernel.float()):
            return None
    if not _is_exact_here():
        return None
    if x.ndim == 3:  # one axis is two, the first of length 1
        y = _convolved(x[:, :, None], halves[:, :, None], factor,
                       (1, *stride), (0, *padding), (1, *dilation))[:, :, 0]  # fmt: skip
        return y.contiguous()
    return _convolved(x, halves, factor, stride, padding, dilation).contiguous()


def _convolved(
    x: Tensor,
    kernel: Tensor,
    factor: float,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Tensor:
    given = x.to(torch.uint8)
    scales = torch.full((len(kernel),), factor)
    zeros = torch.zeros(len(kernel), dtype=torch.int64)
    windows = list(stride), list(padding), list(dilation), 1
    onednn: Any = torch.ops.onednn
    packed = onednn.qconv_prepack(kernel, scales, 1.0, 0, *windows, list(given.shape))
    y: Tensor = onednn.qconv2d_pointwise(
        given, 1.0, 0, packed, scales, zeros, None, *windows, 1.0, 0, torch.float32, "none", [], ""
    )
    return y


@cache
def _is_exact_here() -> bool:
    """Whether there are such operators, and they give float64's sums of numbers at the limits."""
    for name, schema in _SCHEMAS.items():
        operator = getattr(torch.ops.onednn, name, None)
        if operator is None or str(operator.default._schema) != schema:  # noqa: SLF001
            return False
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 129, (2, 96, 9, 9), generator=generator)
    kernel = torch.randint(-127, 128, (40, 96, 3, 3), generator=generator)
    got = _convolved(x, kernel.to(torch.int8), 2.0, (1, 1), (1, 1), (1, 1))
    return torch.equal(got.double(), functional.conv2d(x.double(), kernel.double() * 2, padding=1))
