"""Translate the ATen operators in which spiking transformers are written, one by one."""

from __future__ import annotations

import math
import operator
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

import torch
from torch import nn

from lapilli.ir.errors import CaptureError
from lapilli.model import axes
from lapilli.model.adapters import adapter_of
from lapilli.model.axes import Dims, Factor, MixError
from lapilli.model.opaque import NEURON
from lapilli.model.program import (
    BatchNorm,
    Broadcast,
    Call,
    Fire,
    MatMul,
    MaxPool,
    Operator,
    Part,
    Plus,
    Product,
    Reduce,
    Scale,
    Synapse,
    Transpose,
    View,
)

aten = torch.ops.aten


class Context(Protocol):
    """What a translation may ask of its reader."""

    model: nn.Module
    fired: Counter[str]


@dataclass(frozen=True, slots=True)
class Translation:
    """One node of the exported graph, and what came before it."""

    node: Any
    path: str
    calls: Mapping[str, Call]
    parameters: Mapping[str, str]
    reader: Context

    def call(self, argument: Any) -> Call:
        """The program's value behind an argument.

        Raises:
            CaptureError: it is a parameter or a constant.
        """
        if getattr(argument, "name", None) not in self.calls:
            raise CaptureError(self.path, f"{self.node.target} on a parameter is not supported")
        return self.calls[argument.name]

    def parameter(self, argument: Any) -> str:
        """Name of a parameter.

        Raises:
            CaptureError: it is computed.
        """
        name = self.parameters.get(getattr(argument, "name", ""))
        if name is None:
            raise CaptureError(
                self.path, f"{self.node.target} with computed weights is not supported"
            )
        return name

    def argument(self, index: int, default: Any = None) -> Any:
        """A positional argument of the node."""
        return self.node.args[index] if len(self.node.args) > index else default

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the result, with T and B in it."""
        return tuple(self.node.meta["val"].shape)

    def made(self, op: Operator, dims: Dims, *inputs: Call) -> Call:
        """The translated call.

        Raises:
            CaptureError: the followed dimensions are not the traced ones.
        """
        if axes.shape(dims) != self.shape:
            raise CaptureError(self.path, f"lost track of the axes at {self.node.target}")
        return Call(self.node.name, op, tuple(c.name for c in inputs), self.path, dims)


def translate(t: Translation) -> Call | None:
    """Return the call for one node; None for a tuple that is only taken apart later.

    Raises:
        CaptureError: an operator outside the list.
        MixError: time or batch would mix.
    """
    rule = _RULES.get(t.node.target)
    if rule is None:
        raise CaptureError(
            t.path,
            f"operator {t.node.target} is not one that lapilli can put on spiking hardware; "
            "accumulates, comparisons, gates and pooling are",
        )
    return rule(t)


def _neuron(t: Translation) -> Call:
    x = t.call(t.argument(0))
    if not x.dims or len(x.dims[0]) != 1 or x.dims[0][0].name != "T":
        raise MixError(
            f"the neuron integrates over axis 0 of {axes.show(x.dims)}, which is not T alone; "
            "state would leak from sample to sample"
        )
    module = t.reader.model.get_submodule(t.path)
    adapter = adapter_of(module)
    if adapter is None:  # the tracing copy had a neuron here
        raise CaptureError(t.path, "is no neuron")
    call = t.reader.fired[t.path]
    t.reader.fired[t.path] += 1
    return t.made(Fire(module=t.path, call=call, rule=adapter.rule(module)), x.dims, x)


def _conv2d(t: Translation) -> Call:
    x = t.call(t.argument(0))
    _untouched(x, (1, 2, 3))
    if t.argument(5, [1, 1]) not in ([1, 1], 1):
        raise CaptureError(t.path, "dilated convolution is not supported")
    padding = t.argument(4, [0, 0])
    if isinstance(padding, str):
        raise CaptureError(t.path, f"give the padding {padding!r} as numbers")
    bias = t.argument(2)
    op = Synapse(
        weight=t.parameter(t.argument(1)),
        bias=None if bias is None else t.parameter(bias),
        conv=True,
        stride=_pair(t.argument(3, [1, 1])),
        padding=_pair(padding),
        groups=t.argument(6, 1),
    )
    return t.made(op, (x.dims[0], *axes.anonymous(*t.shape[1:])), x)


def _linear(t: Translation) -> Call:
    x = t.call(t.argument(0))
    _untouched(x, (-1,))
    bias = t.argument(2)
    op = Synapse(
        weight=t.parameter(t.argument(1)),
        bias=None if bias is None else t.parameter(bias),
        conv=False,
    )
    return t.made(op, (*x.dims[:-1], *axes.anonymous(t.shape[-1])), x)


def _batch_norm(t: Translation) -> Call:
    x = t.call(t.argument(0))
    _untouched(x, (1,))
    if t.argument(5):
        raise CaptureError(t.path, "is in training mode; call model.eval() first")
    module = t.parameter(t.argument(3)).rpartition(".")[0]  # of running_mean
    return t.made(BatchNorm(module=module), x.dims, x)


def _max_pool2d(t: Translation) -> Call:
    x = t.call(t.argument(0))
    _untouched(x, (1, 2, 3))
    kernel = _pair(t.argument(1))
    stride, padding = _pair(t.argument(2, kernel) or kernel), _pair(t.argument(3, [0, 0]))
    if t.argument(4, [1, 1]) not in ([1, 1], 1) or t.argument(5, False):
        raise CaptureError(t.path, "max-pool with dilation or ceil_mode is not supported")
    op = MaxPool(kernel=kernel, stride=stride, padding=padding)
    return t.made(op, (x.dims[0], *axes.anonymous(*t.shape[1:])), x)


def _matmul(t: Translation) -> Call:
    a, b = t.call(t.argument(0)), t.call(t.argument(1))
    _untouched(a, (-1, -2))
    _untouched(b, (-1, -2))
    if len(a.dims) != len(b.dims) or axes.shape(a.dims[:-2]) != axes.shape(b.dims[:-2]):
        raise CaptureError(t.path, "a matrix product that broadcasts is not supported")
    leading = axes.broadcast(a.dims[:-2], b.dims[:-2])
    return t.made(MatMul(), (*leading, a.dims[-2], b.dims[-1]), a, b)


def _multiply(t: Translation) -> Call:
    a, b = t.argument(0), t.argument(1)
    if isinstance(b, int | float):
        x = t.call(a)
        return t.made(Scale(factor=Fraction(b)), x.dims, x)
    x, y = t.call(a), t.call(b)
    return t.made(Product(), axes.broadcast(x.dims, y.dims), x, y)


def _divide(t: Translation) -> Call:
    x, divisor = t.call(t.argument(0)), t.argument(1)
    if not isinstance(divisor, int | float) or divisor == 0:
        raise CaptureError(t.path, "division by a computed value is not an accumulate")
    return t.made(Scale(factor=1 / Fraction(divisor)), x.dims, x)


def _add(t: Translation) -> Call:
    if t.node.kwargs.get("alpha", 1) != 1:
        raise CaptureError(t.path, "add with alpha is not supported")
    if isinstance(t.argument(1), int | float):
        raise CaptureError(t.path, "adding a constant is not supported; put it into a bias")
    x, y = t.call(t.argument(0)), t.call(t.argument(1))
    return t.made(Plus(), axes.broadcast(x.dims, y.dims), x, y)


def _reduce(mean: bool) -> Callable[[Translation], Call]:
    def rule(t: Translation) -> Call:
        x = t.call(t.argument(0))
        given = t.argument(1, list(range(len(x.dims)))) or list(range(len(x.dims)))
        which = {d % len(x.dims) for d in given}
        keepdims = bool(t.argument(2, False))
        touched = [x.dims[d] for d in which]
        if axes.has(touched, "B"):
            raise MixError(f"it sums over the batch: {axes.show(x.dims)}")
        if any(axes.named(d) and len(d) > 1 for d in touched):
            raise MixError(f"it sums over time and something else at once: {axes.show(x.dims)}")
        time = axes.has(touched, "T")
        if time and keepdims:
            raise CaptureError(t.path, "a reduction over time that keeps the axis")
        step = axes.step_axes(x.dims)
        over = tuple(a for d in sorted(which) if (a := step[d]) is not None)
        left = [
            () if i in which else dim for i, dim in enumerate(x.dims) if keepdims or i not in which
        ]
        op = Reduce(axes=over, keepdims=keepdims, mean=mean, time=time)
        return t.made(op, tuple(left), x)

    return rule


def _reshape(t: Translation) -> Call:
    x = t.call(t.argument(0))
    return t.made(View(), axes.reshape(x.dims, t.shape), x)


def _insert_axis(t: Translation) -> Call:
    x = t.call(t.argument(0))
    at = t.argument(1) % len(t.shape)
    return t.made(View(), (*x.dims[:at], (), *x.dims[at:]), x)


def _same(t: Translation) -> Call:
    x = t.call(t.argument(0))
    return t.made(View(), x.dims, x)


def _permute(t: Translation) -> Call:
    x = t.call(t.argument(0))
    return _permuted(t, x, [d % len(x.dims) for d in t.argument(1)])


def _transpose(t: Translation) -> Call:
    x = t.call(t.argument(0))
    order = list(range(len(x.dims)))
    a, b = t.argument(1), t.argument(2)
    order[a], order[b] = order[b], order[a]
    return _permuted(t, x, order)


def _permuted(t: Translation, x: Call, order: list[int]) -> Call:
    step = axes.step_axes(x.dims)
    moved = tuple(a for d in order if (a := step[d]) is not None)
    return t.made(Transpose(axes=moved), tuple(x.dims[d] for d in order), x)


def _repeat(t: Translation) -> Call:
    """`expand` and `repeat`: the first axis that appears on a value without time is time."""
    x = t.call(t.argument(0))
    dims = [()] * (len(t.shape) - len(x.dims)) + list(x.dims)
    for i, (dim, size) in enumerate(zip(dims, t.shape, strict=True)):
        if math.prod(f.size for f in dim) == size:
            continue
        if dim:
            raise CaptureError(t.path, f"repeating an axis of {axes.show(x.dims)} that is not 1")
        is_time = not axes.has(dims, "T") and not _fired_before(t, x)
        dims[i] = (Factor("T" if is_time else "", size),)
    return t.made(Broadcast(), tuple(dims), x)


def _fired_before(t: Translation, x: Call) -> bool:
    return isinstance(x.op, Fire) or any(_fired_before(t, t.calls[i]) for i in x.inputs)


def _slice(t: Translation) -> Call:
    x = t.call(t.argument(0))
    axis = t.argument(1, 0) % len(x.dims)
    length = axes.shape(x.dims)[axis]
    start, step = t.argument(2, 0) or 0, t.argument(4, 1)
    if step != 1:
        raise CaptureError(t.path, "a slice with a step is not supported")
    start = start + length if start < 0 else start
    return _part(t, x, axis, start, t.shape[axis])


def _get_item(t: Translation) -> Call:
    """One piece of `chunk` or `split`."""
    pieces, index = t.argument(0), t.argument(1)
    source = pieces.args[0]
    x = t.calls[source.name]
    axis = (pieces.args[2] if len(pieces.args) > 2 else 0) % len(x.dims)
    sizes = [piece.shape[axis] for piece in pieces.meta["val"]]
    return _part(t, x, axis, sum(sizes[:index]), sizes[index])


def _part(t: Translation, x: Call, axis: int, start: int, size: int) -> Call:
    _untouched(x, (axis,))
    step = axes.step_axes(x.dims)[axis]
    if step is None:
        raise MixError(f"it cuts {axes.show(x.dims)}")
    dims = (*x.dims[:axis], *axes.anonymous(size), *x.dims[axis + 1 :])
    return t.made(Part(axis=step, start=start, stop=start + size), dims, x)


def _untouched(x: Call, dims: tuple[int, ...]) -> None:
    """Refuse to compute across T or B."""
    if any(axes.named(x.dims[d]) for d in dims):
        raise MixError(f"it computes across T or B of {axes.show(x.dims)}")


def _pair(value: Any) -> tuple[int, int]:
    numbers = list(value) if isinstance(value, list | tuple) else [value]
    return (int(numbers[0]), int(numbers[-1]))


_RULES: Mapping[Any, Callable[[Translation], Call | None]] = {
    NEURON: _neuron,
    aten.conv2d.default: _conv2d,
    aten.linear.default: _linear,
    aten.batch_norm.default: _batch_norm,
    aten.max_pool2d.default: _max_pool2d,
    aten.matmul.default: _matmul,
    aten.mul.Tensor: _multiply,
    aten.div.Tensor: _divide,
    aten.add.Tensor: _add,
    aten.mean.dim: _reduce(mean=True),
    aten.sum.dim_IntList: _reduce(mean=False),
    aten.reshape.default: _reshape,
    aten.view.default: _reshape,
    aten.flatten.using_ints: _reshape,
    aten.unflatten.int: _reshape,
    aten.squeeze.dim: _reshape,
    aten.unsqueeze.default: _insert_axis,
    aten.contiguous.default: _same,
    aten.clone.default: _same,
    aten.dropout.default: _same,
    aten.permute.default: _permute,
    aten.transpose.int: _transpose,
    aten.repeat.default: _repeat,
    aten.expand.default: _repeat,
    aten.slice.Tensor: _slice,
    aten.chunk.default: lambda t: None,
    aten.split.Tensor: lambda t: None,
    aten.split_with_sizes.default: lambda t: None,
    operator.getitem: _get_item,
}
