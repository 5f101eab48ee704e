"""Show that the captured program is the author's forward, bit for bit.

Both run in float64 with parameters of four bits, on images of four bits: then no product
and no sum is rounded, the order of summation cannot matter, and equal means equal. Only a
constant that floats cannot hold, such as an average over 49, rounds after all: then spikes
are equal, and currents as near as float64 is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn

from lapilli.ir.errors import MismatchError
from lapilli.model.capture import program
from lapilli.model.capture.axes import step_shape
from lapilli.model.capture.capture import capture
from lapilli.model.capture.program import Captured
from lapilli.model.neurons.adapters import adapter_of
from lapilli.model.neurons.copies import copied
from lapilli.quantize.pytorch.interpreter import Program
from lapilli.quantize.pytorch.recorder import NeuronCall, NeuronRecorder, recorder

_LARGEST = 7  # of a parameter in units of its own power of two
_SAMPLES = 2


def check_agreement(captured: Captured) -> None:
    """Run both once.

    Raises:
        MismatchError: a neuron's input or spikes, or the logits differ: a bug of ours.
    """
    coarse = _coarse(captured.module)
    (image,) = (c for c in captured.calls.values() if isinstance(c.op, program.Input))
    asked = captured.signature
    shape = ((captured.T,) if "T" in asked.layout else ()) + step_shape(image.dims)
    again = capture(
        coarse, shape, layout=asked.layout, per_sample=asked.per_sample, leaf=asked.leaf
    )
    weights = {
        c.name: _weights(again, c.op)
        for c in again.calls.values()
        if isinstance(c.op, program.Synapse)
    }
    captured_forward = Program(again, coarse, weights).eval()
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 8, (_SAMPLES, *shape), generator=generator).double() / 8
    equal = torch.equal if has_exact_constants(again) else _near
    fires = [c.op for c in again.calls.values() if isinstance(c.op, program.Neuron)]
    paths = {fire.module for fire in fires}
    for some in images.split(1 if asked.per_sample else _SAMPLES):
        with torch.no_grad(), recorder(coarse, paths) as theirs:
            expected = again.signature.logits(coarse, some)
        with (
            torch.no_grad(),
            recorder(captured_forward, paths, _Equal(theirs=theirs, equal=equal)) as ours,
        ):
            got = captured_forward(some)
        for fire in fires:
            ours.trace(fire)  # was compared
        if not equal(expected, got):
            raise MismatchError("the program's logits are not those of the author's forward")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Equal(NeuronRecorder):
    """Compares call for call with what was recorded before, and lets go of both."""

    theirs: NeuronRecorder
    equal: Callable[[Tensor, Tensor], bool]

    def add(self, path: str, call: NeuronCall) -> None:
        """Compare one call.

        Raises:
            MismatchError: a current or a spike differs.
        """
        done = self.calls.setdefault(path, [])
        theirs = self.theirs.calls[path][len(done)]
        near = self.equal(theirs.current, call.current)
        if not (near and torch.equal(theirs.spikes, call.spikes)):
            raise MismatchError(f"{path}: the program is not the author's forward")
        nothing = NeuronCall(torch.empty(0), torch.empty(0))
        self.theirs.calls[path][len(done)] = nothing
        done.append(nothing)


def has_exact_constants(captured: Captured) -> bool:
    """Whether every constant in front of a value is a power of two."""
    for call in captured.calls.values():
        factor = Fraction(1)
        if isinstance(call.op, program.Scale):
            factor = call.op.factor
        elif isinstance(call.op, program.Sum) and call.op.mean:
            shape = step_shape(captured.calls[call.inputs[0]].dims)
            factor = Fraction(math.prod(shape[a] for a in call.op.axes))
            factor *= captured.T if call.op.time else 1
        if abs(factor.numerator).bit_count() != 1 or factor.denominator.bit_count() != 1:
            return False
    return True


def _near(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=2.0**-40, atol=2.0**-40 * float(a.abs().max()))


def _coarse(module: nn.Module) -> nn.Module:
    """A copy with parameters of four bits; each batch norm an exact factor and shift."""
    exact = copied(module).double().eval()
    neurons = {id(p) for m in exact.modules() if adapter_of(m) for p in m.parameters()}
    with torch.no_grad():
        for each in exact.modules():
            if isinstance(each, nn.modules.batchnorm._BatchNorm):  # noqa: SLF001
                _simplify(each)
        for parameter in exact.parameters():
            if id(parameter) not in neurons:
                parameter.copy_(_rounded(parameter))
    return exact


def _simplify(norm: Any) -> None:
    """The same batch norm with variance 1, mean 0 and eps 0, if it has a weight and a bias."""
    if norm.weight is not None:
        factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        norm.bias.copy_(_rounded(norm.bias - norm.running_mean * factor))
        norm.weight.copy_(_rounded(factor))
    norm.running_mean.zero_()
    norm.running_var.fill_(1)
    norm.eps = 0.0


def _rounded(values: Tensor) -> Tensor:
    """Multiples of a power of two, the largest of at most seven."""
    largest = float(values.abs().max()) if values.numel() else 0.0
    if largest == 0:
        return values
    unit = 2.0 ** math.ceil(math.log2(largest / _LARGEST))
    return torch.round(values / unit) * unit


def _weights(captured: Captured, op: program.Synapse) -> tuple[Tensor, Tensor | None]:
    weight = torch.from_numpy(captured.array(op.weight))
    return weight, None if op.bias is None else torch.from_numpy(captured.array(op.bias))
