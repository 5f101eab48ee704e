"""Every op of the graph in ONNX's integer operators. No float occurs."""

from __future__ import annotations

from typing_extensions import assert_never

from lapilli.export.onnx import neuron as onnx_neuron
from lapilli.export.onnx.body import I8, I32, I64, U8, Body, carrier_of, fits, limits
from lapilli.export.onnx.general_neuron import general_neuron
from lapilli.export.onnx.products import product
from lapilli.export.onnx.shift_sum import shift_sum
from lapilli.export.onnx.windows import pool_of_bytes, pools_faster
from lapilli.ir import ops
from lapilli.ir.graph import Node


def emit(body: Body, node: Node) -> None:
    """Say a node without `onnx_products.faults`; its value gets the node's name."""
    name, graph = node.name, body.graph
    given = [body.value(i) for i in node.inputs]
    out = body.value(name)
    kind, carrier = graph.types[name], body.carrier(name)
    match node.op:
        case ops.Input():
            pass
        case ops.Linear() | ops.Conv2d() | ops.SpikeMatmul():
            product(body, node)
        case ops.Gate():
            _elementwise(body, node, "Mul")
        case ops.Add():
            _elementwise(body, node, "Add")
        case ops.Sum(axes=axes, keepdims=keep):
            wide = I32 if fits(kind.range | graph.types[node.inputs[0]].range, I32) else I64
            x = body.cast(given[0], body.carrier(node.inputs[0]), wide, name)
            over = body.ints(*(a + 1 for a in axes))
            body.name(name, body.emit("ReduceSum", [x, over], name, keepdims=int(keep)), wide)
        case ops.MaxPool2d():
            _pool(body, node, node.op)
        case ops.Reshape(shape=shape):
            body.emit("Reshape", [*given, body.ints(0, *shape)], name, out=out)
        case ops.Expand(shape=shape):
            body.emit("Expand", [*given, body.ints(1, *shape)], name, out=out)
        case ops.Permute(axes=axes):
            body.emit("Transpose", given, name, out=out, perm=[0, *(a + 1 for a in axes)])
        case ops.Slice(axis=axis, start=start, stop=stop):
            _cut(body, name, given[0], axis + 1, start, stop, out=out)
        case ops.Concat(axis=axis):
            same = [body.cast(body.value(i), body.carrier(i), carrier, name) for i in node.inputs]
            body.emit("Concat", same, name, out=out, axis=axis + 1)
        case ops.Delay():
            body.emit("Identity", given, name, out=out)
        case ops.ShiftSum() as op:
            shift_sum(body, node, op)
        case ops.Neuron() as op:
            onnx_neuron.neuron(body, node, op)
        case ops.GeneralNeuron() as op:
            general_neuron(body, node, op)
        case ops.Membrane() as op:
            onnx_neuron.membrane(body, node, op)
        case ops.Staircase():
            onnx_neuron.staircase(body, node, node.op)
        case ops.Relu():
            source = body.carrier(node.inputs[0])
            body.name(name, _largest(body, name, [*given, body.scalar(0, source)], source), source)
        case ops.Readout():
            total = body.state(name, "total", carrier)
            x = body.cast(given[0], body.carrier(node.inputs[0]), carrier, name)
            body.emit("Add", [total.before, x], name, out=out)
            body.emit("Identity", [out], name, out=total.after)
        case _:
            assert_never(node.op)


def _elementwise(body: Body, node: Node, op: str) -> None:
    """Two values of equal shape, in a type that holds both and the result."""
    types = [body.graph.types[n].range for n in (*node.inputs, node.name)]
    carrier = carrier_of(types[0] | types[1] | types[2])
    both = [body.cast(body.value(i), body.carrier(i), carrier, node.name) for i in node.inputs]
    if carrier == body.carrier(node.name):
        body.emit(op, both, node.name, out=body.value(node.name))
    else:
        body.name(node.name, body.emit(op, both, node.name), carrier)


def _pool(body: Body, node: Node, op: ops.MaxPool2d) -> None:
    """Bytes by ONNX's own pool; wider integers, which it lacks, as the largest of shifted maps."""
    (source,) = node.inputs
    x, out, carrier = body.value(source), body.value(node.name), body.carrier(source)
    pads = [*op.padding, *op.padding]
    if carrier in (U8, I8) and pools_faster(body.graph.types[source].shape[0]):
        pool_of_bytes(body, node, op)
        return
    if carrier in (U8, I8):
        body.emit("MaxPool", [x], node.name, out=out, kernel_shape=op.kernel, strides=op.stride,
                  pads=pads)  # fmt: skip
        return
    if any(pads):
        around = body.ints(*[0, 0, *op.padding] * 2)
        lowest = body.scalar(limits(carrier).lo, carrier)
        x = body.emit("Pad", [x, around, lowest], node.name)
    size = body.graph.types[node.name].shape
    for axis, kernel, stride in ((2, op.kernel[0], op.stride[0]), (3, op.kernel[1], op.stride[1])):
        extent = (size[axis - 1] - 1) * stride + 1
        shifted = [
            _cut(body, node.name, x, axis, i, i + extent, step=stride) for i in range(kernel)
        ]
        x = _largest(body, node.name, shifted, carrier)
    body.name(node.name, x, carrier)


def _largest(body: Body, of: str, values: list[str], carrier: int) -> str:
    """Elementwise; by comparing where onnxruntime 1.31's Max is wrong: int64 beyond 32 bits."""
    if carrier != I64:
        return body.emit("Max", values, of)
    first, *others = values
    for other in others:
        larger = body.emit("GreaterOrEqual", [first, other], of)
        first = body.emit("Where", [larger, first, other], of)
    return first


def _cut(
    body: Body,
    of: str,
    x: str,
    axis: int,
    start: int,
    stop: int,
    *,
    step: int = 1,
    out: str | None = None,
) -> str:
    """Every `step`-th element of start..stop - 1; `axis` counts the batch."""
    where = [body.ints(n) for n in (start, stop, axis, step)]
    return body.emit("Slice", [x, *where], of, out=out)
