"""Translate the ATen operators that compute, in which spiking transformers are written."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import torch

from lapilli.model.capture import axes, program
from lapilli.model.capture.axes import MixError
from lapilli.model.capture.opaque import NEURON
from lapilli.model.capture.opaque_step import NEURON_STEP
from lapilli.model.capture.program import Call
from lapilli.model.capture.translation import OperatorRule, Translation, uniform
from lapilli.model.neurons.adapters import adapter_of, rule_of
from lapilli.model.neurons.rule import StaircaseRule

aten = torch.ops.aten


def _neuron(t: Translation) -> Call:
    path: str = t.argument(1)
    module = t.reader.model.get_submodule(path)
    rule, adapter = rule_of(module, path), adapter_of(module)
    x = t.call(t.argument(0))
    call = t.reader.neuron_call(t.node.name)
    if adapter is not None and not isinstance(rule, StaircaseRule):
        if call and adapter.keeps_state and not t.argument(2):
            raise t.error(
                "is called twice in one forward, and its state goes on from call to call: the "
                "second call would have to wait for the last step of the first; reset it between, "
                "or use a neuron of its own for each"
            )
        _check_time(t, x, adapter.folded(module))
    return t.step(program.Neuron(module=path, call=call, rule=rule), x.dims, x)


def _neuron_step(t: Translation) -> Call:
    """The first step of a loop stands for all."""
    path: str = t.argument(2)
    rule, loop = rule_of(t.reader.model.get_submodule(path), path), t.reader.loop
    x = t.call(t.argument(0))
    if loop is None:
        raise t.error("takes one time step per call, but there is no loop")
    op = program.Neuron(module=path, call=0, rule=rule, steps=tuple(range(loop.T)))
    return t.step(op, x.dims, x)


def _check_time(t: Translation, x: Call, folded: int) -> None:
    """Axis 0 is T alone; T*B, or T first, if the neuron unfolds it; T*B for batches of one."""
    first = [f.name for f in x.dims[0]] if x.dims else []
    shown = f"the neuron integrates over axis 0 of {axes.show(x.dims)}"
    if folded:  # it cuts axis 0 into T and the rest: samples, windows of images, or nothing
        if first[:1] != ["T"] or x.dims[0][0].size != folded:
            raise MixError(f"{shown}; this class takes [T*B, ...], T = {folded}")
        return
    if first == ["T"] or (not first and x.dims and not axes.has(x.dims, "T")):
        return  # a model of one time step has no T to be seen
    if first == ["T", "B"] and t.reader.per_sample:
        t.reader.note(
            t.path,
            f"{shown}, so that state leaks from sample to sample; captured per sample, and "
            "compared with batches of one",
        )
        return
    if "T" not in first and "B" not in first:
        raise MixError(
            f"{shown}, which holds no time steps: those are what images are repeated over, or the "
            "T of the layout"
        )
    remedy = "reshape its input to [T, B, ...]"
    if first == ["T", "B"]:
        remedy += ", or ask for what it does with batches of one: per_sample=True (--per-sample)"
    raise MixError(
        f"{shown}, which is not T alone; state would leak from sample to sample: {remedy}"
    )


# ---- elementwise -----------------------------------------------------------------------------


def _multiply(t: Translation) -> Call:
    a, b = t.argument(0), t.argument(1)
    if t.is_constant(a):
        a, b = b, a
    x = t.call(a)
    if t.is_constant(b):
        return _times(t, x, b)
    y = t.call(b)
    return t.step(program.Mul(), axes.broadcast(x.dims, y.dims), x, y)


def _times(t: Translation, x: Call, constant: Any) -> Call:
    factor = t.step_constant(t.constant(constant), x.dims)
    whole = uniform(factor)
    if whole is not None:
        exact = Fraction(constant) if isinstance(constant, int | float) else whole
        return t.scaled(x, exact)
    return t.step(program.Affine(factor=t.kept(factor), shift=None), x.dims, x)


def _divide(t: Translation) -> Call:
    x, divisor = t.call(t.argument(0)), t.argument(1)
    if not t.is_constant(divisor):
        raise t.error("division by a computed value is not an accumulate")
    value = t.step_constant(t.constant(divisor), x.dims)
    if (value == 0).any():
        raise t.error("divides by zero")
    whole = uniform(value)
    if whole is not None:
        exact = Fraction(divisor) if isinstance(divisor, int | float) else whole
        return t.scaled(x, 1 / exact)
    return t.step(program.Affine(factor=t.kept(1 / value), shift=None), x.dims, x)


def _add(sign: int) -> OperatorRule:
    def rule(t: Translation) -> Call:
        a, b = t.argument(0), t.argument(1)
        alpha = Fraction(t.node.kwargs.get("alpha", 1)) * sign
        if t.is_constant(b):
            return shifted(t, t.call(a), t.constant(b) * float(alpha))
        y = t.call(b)
        y = y if alpha == 1 else t.scaled(y, alpha)
        if t.is_constant(a):
            return shifted(t, y, t.constant(a))
        x = t.call(a)
        return t.step(program.Add(), axes.broadcast(x.dims, y.dims), x, y)

    return rule


def _subtract_from(t: Translation) -> Call:
    """`rsub`: a constant minus a value."""
    x = t.scaled(t.call(t.argument(0)), Fraction(-1))
    return shifted(t, x, t.constant(t.argument(1)))


def shifted(t: Translation, x: Call, constant: torch.Tensor) -> Call:
    """X plus a constant: part of a bias, if a linear map is next to it."""
    shift = t.step_constant(constant, x.dims)
    if uniform(shift) == 0:
        return x
    return t.step(program.Affine(factor=None, shift=t.kept(shift)), x.dims, x)


def _negate(t: Translation) -> Call:
    return t.scaled(t.call(t.argument(0)), Fraction(-1))


def _rectify(t: Translation) -> Call:
    x = t.call(t.argument(0))
    return t.step(program.Relu(), x.dims, x)


# ---- sums ------------------------------------------------------------------------------------


def _reduce(*, mean: bool) -> OperatorRule:
    def rule(t: Translation) -> Call:
        x = t.call(t.argument(0))
        given = t.argument(1, None) or list(range(len(x.dims)))
        given = [given] if isinstance(given, int) else given
        return reduced(t, x, given, keepdims=bool(t.argument(2, False)), mean=mean)

    return rule


def reduced(t: Translation, x: Call, given: Any, *, keepdims: bool, mean: bool) -> Call:
    """Sum or average over axes; over T only if it is an axis of its own, or T*B of single samples.

    Raises:
        MixError: the batch would be summed, or time together with something else.
    """
    which = {d % len(x.dims) for d in given}
    touched = [x.dims[d] for d in which]
    if t.reader.per_sample and ["T", "B"] in [[f.name for f in dim] for dim in touched]:
        t.reader.note(
            t.path,
            f"it sums over the batch of {axes.show(x.dims)}; captured per sample, and compared "
            "with batches of one",
        )
        touched = [tuple(f for f in dim if f.name != "B") for dim in touched]
    if axes.has(touched, "B"):
        remedy = ""
        if any(axes.has([dim], "T") and axes.has([dim], "B") for dim in touched):
            remedy = "; or ask for what it does with batches of one: per_sample=True (--per-sample)"
        raise MixError(f"it sums over the batch: {axes.show(x.dims)}{remedy}")
    if any(axes.named(d) and len(d) > 1 for d in touched):
        raise MixError(f"it sums over time and something else at once: {axes.show(x.dims)}")
    time = axes.has(touched, "T")
    if time and keepdims:
        raise t.error("a reduction over time that keeps the axis")
    step = axes.step_axes(x.dims)
    over = tuple(a for d in sorted(which) if (a := step[d]) is not None)
    left = [() if i in which else d for i, d in enumerate(x.dims) if keepdims or i not in which]
    return t.step(program.Sum(axes=over, keepdims=keepdims, mean=mean, time=time), tuple(left), x)


ELEMENTWISE: Mapping[Any, OperatorRule] = {
    NEURON: _neuron,
    NEURON_STEP: _neuron_step,
    aten.mul.Tensor: _multiply,
    aten.mul.Scalar: _multiply,
    aten.div.Tensor: _divide,
    aten.div.Scalar: _divide,
    aten.add.Tensor: _add(1),
    aten.add.Scalar: _add(1),
    aten.sub.Tensor: _add(-1),
    aten.sub.Scalar: _add(-1),
    aten.rsub.Scalar: _subtract_from,
    aten.neg.default: _negate,
    aten.relu.default: _rectify,
    aten.mean.dim: _reduce(mean=True),
    aten.mean.default: _reduce(mean=True),
    aten.sum.dim_IntList: _reduce(mean=False),
    aten.sum.default: _reduce(mean=False),
}
