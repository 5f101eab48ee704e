"""Products of integers in ONNX: bytes by bytes, with 32-bit sums.

What is wider than a byte is cut into bytes, whose products are shifted and added. On x86
without VNNI, onnxruntime adds pairs of unsigned-by-signed products in 16 bits, which
saturate; so signed weights meet activations of 0 to 128 alone, and everything else is
unsigned with a zero point.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from lapilli.export.onnx import shift_sum as onnx_shift
from lapilli.export.onnx.body import I8, I32, I64, U8, Body, Byte, fits, limits
from lapilli.export.onnx.windows import convolution_rows, convolves_faster, map_of
from lapilli.ir import ops
from lapilli.ir.graph import Graph, Node
from lapilli.ir.tensor import IntArray, IntTensor
from lapilli.ir.types import IntRange

BYTE = 256
ZERO = 128  # the zero point of a signed byte that travels unsigned
SATURATES = 128  # -2 * 128 * 128 is the least of 16 bits: up to here no pair saturates


def faults(node: Node, graph: Graph) -> tuple[str, ...]:
    """Why ONNX's integer operators cannot compute a node exactly; empty if they can."""
    if isinstance(node.op, ops.ShiftSum):
        return onnx_shift.faults(node, graph)
    if not isinstance(node.op, ops.Linear | ops.Conv2d | ops.SpikeMatmul):
        return ()
    found = []
    partial, total = _product_bounds(node, graph)
    if not fits(IntRange(-partial, partial), I32):
        found.append(
            f"a sum of products of bytes can need {partial.bit_length() + 1} bits; "
            "MatMulInteger and ConvInteger have 32"
        )
    if total > limits(I64).hi:
        found.append(f"its sum can need {total.bit_length() + 1} bits; int64 has 64")
    return tuple(found)


def product(body: Body, node: Node) -> None:
    """Say a node of the three that multiply, without `faults`."""
    match node.op:
        case ops.Linear(weight=w, bias=b):
            signed = _meets_signed(body.graph.types[node.inputs[0]].range)
            right = _weights(body, node.name, IntTensor(w.array.T), signed=signed)
            _sum_of_products(body, node, "MatMulInteger", right, b.array)
        case ops.Conv2d() if _is_of_rows(node.op, body.graph.types[node.inputs[0]].range):
            _convolution_of_rows(body, node, node.op)
        case ops.Conv2d(weight=w, bias=b):
            # onnxruntime puts the weights on the left; signed, they take five times longer.
            right = _weights(body, node.name, w, signed=False)
            where = {"strides": node.op.stride, "pads": [*node.op.padding] * 2}
            bias = b.array[:, None, None]
            _sum_of_products(body, node, "ConvInteger", right, bias, group=node.op.groups, **where)
        case _:
            _sum_of_products(body, node, "MatMulInteger", _right_bytes(body, node))


def _meets_signed(activation: IntRange) -> bool:
    """Whether unsigned products of this with signed bytes add up in 16 bits, two at a time."""
    return activation.lo >= 0 and activation.hi <= SATURATES


def _is_of_rows(op: ops.Conv2d, activation: IntRange) -> bool:
    """Whether a convolution is said as one product of rows: its bytes allow it, and it pays."""
    byte = fits(_stripped(op.weight)[0].range, I8)
    return _meets_signed(activation) and byte and convolves_faster(op)


def _convolution_of_rows(body: Body, node: Node, op: ops.Conv2d) -> None:
    """One product of each window by all weights; the channels end last, and are turned back."""
    weight = op.weight.array.transpose(2, 3, 1, 0).reshape(-1, op.weight.shape[0])
    (right,) = _weights(body, node.name, IntTensor(weight), signed=True)
    value = convolution_rows(body, node, op)
    value = body.emit("MatMulInteger", [value, right.array], node.name)
    total = body.graph.types[node.name].range | op.bias.range
    carrier = I32 if fits(total, I32) else I64
    value = _times(body, body.cast(value, I32, carrier, node.name), right.weight, carrier, node)
    value = _biased(body, node, value, op.bias.array, carrier)
    map_of(body, node, value, carrier)


def _times(body: Body, value: str, weight: int, carrier: int, node: Node) -> str:
    return (
        value if weight == 1 else body.emit("Mul", [value, body.scalar(weight, carrier)], node.name)
    )


def _biased(body: Body, node: Node, total: str, bias: IntArray, carrier: int) -> str:
    """Add a bias that is not all zero."""
    if not bias.any():
        return total
    return body.emit("Add", [total, body.constant(f"{node.name}/bias", bias, carrier)], node.name)


def _right_bytes(body: Body, node: Node) -> list[Byte]:
    """The second of two values: as it is if it is signed and may be, else unsigned bytes."""
    first, second = (body.graph.types[i].range for i in node.inputs)
    if not (_meets_signed(first) and fits(second, I8)):
        return _bytes_of(body, node.inputs[1])
    value, carrier = body.value(node.inputs[1]), body.carrier(node.inputs[1])
    return [Byte(body.cast(value, carrier, I8, node.name), 1, 0)]


def _sum_of_products(
    body: Body,
    node: Node,
    operator: str,
    right: list[Byte],
    bias: IntArray | None = None,
    **attributes: Any,
) -> None:
    """The products of all bytes of the one side with all bytes of the other, added up."""
    name = node.name
    magnitude = _product_bounds(node, body.graph)[1] + (
        0 if bias is None else int(np.abs(bias).max())
    )
    carrier = I32 if fits(IntRange(-magnitude, magnitude), I32) else I64
    total = ""
    for a in _bytes_of(body, node.inputs[0]):
        for b in right:
            zeros = [body.scalar(a.zero, U8), body.scalar(b.zero, U8)] if a.zero or b.zero else []
            part = body.emit(operator, [a.array, b.array, *zeros], name, **attributes)
            part = body.cast(part, I32, carrier, name)
            part = _times(body, part, a.weight * b.weight, carrier, node)
            total = body.emit("Add", [total, part], name) if total else part
    if bias is not None:
        total = _biased(body, node, total, bias, carrier)
    body.name(name, total, carrier)


def _product_bounds(node: Node, graph: Graph) -> tuple[int, int]:
    """Bounds on the magnitude of a product of one byte each, and of the whole product."""
    first, *others = (graph.types[i] for i in node.inputs)
    if isinstance(node.op, ops.Linear | ops.Conv2d):
        stripped, exponent = _stripped(node.op.weight)
        terms, second = math.prod(node.op.weight.shape[1:]), stripped.range
    else:
        terms, second, exponent = first.shape[-1], others[0].range, 0
    top = first.range.hi if fits(first.range, U8) else BYTE - 1
    # Twice: kernels start from the sums that the zero points ask for, and some saturate.
    partial = 2 * terms * top * (BYTE - 1)
    shifts = _cuts(first.range) + _cuts(second)
    return partial, (partial << 8 * shifts + 1 if shifts else partial) << exponent


def _cuts(values: IntRange) -> int:
    """How many bytes are cut off until what is left is a byte."""
    lo, hi, count = values.lo, values.hi, 0
    while not (fits(IntRange(lo, hi), U8) or fits(IntRange(lo, hi), I8)):
        lo, hi, count = lo >> 8, hi >> 8, count + 1
    return count


def _stripped(weight: IntTensor) -> tuple[IntTensor, int]:
    """Weights that are no bytes, without the power of two that they share, and its exponent."""
    if _cuts(weight.range) == 0:
        return weight, 0
    return weight.mantissa, weight.exponent


def _weights(body: Body, name: str, given: IntTensor, *, signed: bool) -> list[Byte]:
    """The bytes of constant weights; `signed` if one signed byte is what is wanted."""
    stripped, exponent = _stripped(given)
    array, values, weight, made = stripped.array, stripped.range, 1 << exponent, []
    if signed and fits(values, I8):
        return [Byte(body.constant(f"{name}/weight", array, I8), weight, 0)]
    for _ in range(_cuts(values)):
        made.append(Byte(body.constant(f"{name}/weight", array & (BYTE - 1), U8), weight, 0))
        array, weight = array >> 8, weight * BYTE
    zero = 0 if array.min() >= 0 else ZERO
    return [*made, Byte(body.constant(f"{name}/weight", array + zero, U8), weight, zero)]


def _bytes_of(body: Body, name: str) -> list[Byte]:
    """The bytes of a value, cut once however many synapses read it."""
    if name not in body.bytes:
        body.bytes[name] = list(_cut_bytes(body, name))
    return body.bytes[name]


def _cut_bytes(body: Body, name: str) -> Iterator[Byte]:
    values, carrier, rest, weight = (
        body.graph.types[name].range,
        body.carrier(name),
        body.value(name),
        1,
    )
    for _ in range(_cuts(values)):
        mask, shift = body.scalar(BYTE - 1, carrier), body.scalar(BYTE, carrier)
        low = body.emit("BitwiseAnd", [rest, mask], name)
        yield Byte(body.cast(low, carrier, U8, name), weight, 0)
        rest = body.emit("Div", [body.emit("Sub", [rest, low], name), shift], name)
        weight *= BYTE
    if values.lo >= 0:
        yield Byte(body.cast(rest, carrier, U8, name), weight, 0)
    else:
        wide = body.cast(rest, carrier, I32, name)
        moved = body.emit("Add", [wide, body.scalar(ZERO, I32)], name)
        yield Byte(body.cast(moved, I32, U8, name), weight, ZERO)
