"""Show that the captured program is the author's forward, bit for bit.

Both run in float64 with parameters of four bits, on images of four bits: then no product
and no sum is rounded, the order of summation cannot matter, and equal means equal. Where currents
are divided by a number that is no power of two, as averages of three are, parameters are multiples
of it, so that nothing is rounded there either: a membrane that meets its threshold meets it on
both sides. Only a constant that no such number undoes, such as 1 / sqrt(3), or an average of 49
spikes, rounds after all: then spikes are equal, and currents as near as float64 is.

They run in step: when a neuron of the author's has fired, the program comes as far, both are
compared, and nothing of either is kept. A linear map that both give the same bits is computed once.
"""

from __future__ import annotations

import gc
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lapilli.ir.errors import MismatchError
from lapilli.model.capture import program
from lapilli.model.capture.axes import step_shape
from lapilli.model.capture.capture import capture
from lapilli.model.capture.output import Asked
from lapilli.model.capture.program import Call, Captured
from lapilli.model.neurons.adapters import adapter_of
from lapilli.model.neurons.copies import copied, in_float64
from lapilli.quantize.pytorch.exact_map import Form
from lapilli.quantize.pytorch.interpreter import Program, finished
from lapilli.quantize.pytorch.recorder import NeuronCall, NeuronRecorder, recorder
from lapilli.quantize.pytorch.shared_maps import SharedMaps

_LARGEST = 7  # of a parameter in units of its own power of two
_SAMPLES = 2
_MOST_DIVIDED = 1 << 10
_END = object()


def check_agreement(captured: Captured, checked: set[Form] | None = None) -> None:
    """Run both once, in step: what a neuron is given and answers is compared and let go of.

    `checked` takes up what float32 was seen to compute as float64 does.

    Raises:
        MismatchError: a neuron's input or spikes, or the logits differ: a bug of ours.
    """
    coarse = _coarse(captured.module, divided_by(captured))
    if not (captured.constants or captured.hosts):  # else numbers of other parameters are in it
        try:
            _run_both(replace(captured, module=coarse), coarse, checked)
        except MismatchError:
            pass  # of one parameter, the program holds not the name but the value: a factor
        else:
            return
    _run_both(_captured_again(captured, coarse), coarse, checked)


def _image_shape(captured: Captured) -> tuple[int, ...]:
    """Of one sample, as `capture` is told."""
    (image,) = (c for c in captured.calls.values() if isinstance(c.op, program.Input))
    return ((captured.T,) if "T" in captured.signature.layout else ()) + step_shape(image.dims)


def _captured_again(captured: Captured, module: nn.Module) -> Captured:
    """The program of the same class with other parameters."""
    asked = captured.signature
    again = capture(
        module,
        _image_shape(captured),
        layout=asked.layout,
        per_sample=asked.per_sample,
        asked=Asked(like=asked.results),
        repeatable=True,
        ids=asked.ids,
    )
    gc.collect()  # what tracing leaves behind is held by cycles
    return again


def _run_both(captured: Captured, module: nn.Module, checked: set[Form] | None) -> None:
    """Run the program, with the parameters of a module, beside that module.

    Raises:
        MismatchError: see `check_agreement`.
    """
    weights = {
        c.name: _weights(captured, c.op)
        for c in captured.calls.values()
        if isinstance(c.op, program.Synapse)
    }
    captured_forward = Program(captured, _with_own_states(module), weights, wide=True).eval()
    generator = torch.Generator().manual_seed(0)
    asked, shape = captured.signature, _image_shape(captured)
    images = torch.randint(0, 8, (_SAMPLES, *shape), generator=generator).double() / 8
    if asked.ids:
        images = functional.one_hot(images.argmax(-1), shape[-1]).double()
    for some in images.split(1 if asked.per_sample else _SAMPLES):
        shared = SharedMaps(divided_by(captured), checked)
        _compare(captured, module, captured_forward, some, shared)


def _compare(
    captured: Captured, module: nn.Module, ours: Program, images: Tensor, shared: SharedMaps
) -> None:
    """Run the author's module and the program on the same images, neuron by neuron.

    Raises:
        MismatchError: see `check_agreement`.
    """
    fires = [c.op for c in captured.calls.values() if isinstance(c.op, program.Neuron)]
    paths = {fire.module for fire in fires}
    wanted = {(fire.module, n) for fire in fires for n in fire.steps or (fire.call,)}
    equal = torch.equal if has_exact_constants(captured) else _near
    pairs = _Pairs(equal=equal, wanted=wanted)
    steps = ours.neuron_by_neuron(images)

    def follow(key: tuple[str, int]) -> None:
        """Let the program come as far as the author's forward is."""
        while key in pairs.waiting and next(steps, _END) is not _END:
            pass
        shared.forget()

    with (
        torch.no_grad(),
        shared,
        recorder(ours, paths, _Side(pairs=pairs), membranes=False),
        recorder(module, paths, _Side(pairs=pairs, then=follow), membranes=False),
    ):
        expected = captured.signature.answers(module, images)
        got = finished(steps)
    if left := sorted(wanted - pairs.compared):
        raise MismatchError(f"{left[0][0]}: the program, or the author's forward, never calls it")
    hosts = captured.hosts or (None,) * len(got)
    for one, other, host in zip(expected, got, hosts, strict=True):
        same = equal(one, other) if host is None else _near(one, host.of(other))
        if same:
            continue
        raise MismatchError("the program's logits are not those of the author's forward")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Pairs:
    """Calls of neurons, by path and number, that one side has made and the other not yet.

    Attributes:
        equal: says whether two currents are.
        wanted: calls that the program makes; the author's others lead to no answer.
        waiting: what the first side saw; compared: calls that both have made.
    """

    equal: Callable[[Tensor, Tensor], bool]
    wanted: set[tuple[str, int]]
    waiting: dict[tuple[str, int], NeuronCall] = field(default_factory=dict)
    compared: set[tuple[str, int]] = field(default_factory=set)

    def add(self, key: tuple[str, int], call: NeuronCall) -> None:
        """Keep a call for the other side, or compare it with the other side's.

        Raises:
            MismatchError: a current or a spike differs.
        """
        if key not in self.wanted:
            return
        other = self.waiting.pop(key, None)
        if other is None:
            self.waiting[key] = NeuronCall(call.current, call.spikes)
            return
        if not self.equal(other.current, call.current):
            raise MismatchError(f"{key[0]}: the program is not the author's forward")
        if not torch.equal(other.spikes, call.spikes):
            why = "the program is not the author's forward"
            if self.equal is _near:
                why = (
                    "a constant in front of it, such as an average of three, rounds in floats, and "
                    "a membrane at its threshold fires on one side alone: the captured program "
                    "cannot be shown to be the author's forward"
                )
            raise MismatchError(f"{key[0]}: {why}")
        self.compared.add(key)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Side(NeuronRecorder):
    """Counts the calls of one side's neurons, and keeps none of them."""

    pairs: _Pairs
    then: Callable[[tuple[str, int]], None] = lambda _: None
    made: Counter[str] = field(default_factory=Counter)

    def add(self, path: str, call: NeuronCall) -> None:
        """Pair one call with the other side's."""
        key = (path, self.made[path])
        self.made[path] += 1
        self.pairs.add(key, call)
        self.then(key)


def _with_own_states(module: nn.Module) -> nn.Module:
    """A copy that shares all parameters, and whose neurons remember apart."""
    return copied(module, kept=module.parameters())


def has_exact_constants(captured: Captured) -> bool:
    """Whether every constant in front of a value is a power of two."""
    for call in captured.calls.values():
        factor = Fraction(1)
        if isinstance(call.op, program.Scale):
            factor = call.op.factor
        else:
            factor = Fraction(_divisor(captured, call))
        if abs(factor.numerator).bit_count() != 1 or factor.denominator.bit_count() != 1:
            return False
    return True


def divided_by(captured: Captured) -> int:
    """What parameters must be multiples of, so that no division of currents rounds.

    The odd part of all divisors between one neuron and the next, one behind the other; 1 where that
    is more than floats have bits for.
    """
    before: dict[str, int] = {}
    needed = 1
    for call in captured.calls.values():
        inner = math.lcm(*(before[name] for name in call.inputs))
        fires = isinstance(call.op, program.Neuron)
        needed = math.lcm(needed, inner) if fires else needed
        before[call.name] = 1 if fires else inner * _odd(_divisor(captured, call))
    return needed if needed <= _MOST_DIVIDED else 1


def _divisor(captured: Captured, call: Call) -> int:
    if isinstance(call.op, program.Scale):
        return call.op.factor.denominator
    if isinstance(call.op, program.Sum) and call.op.mean:
        shape = step_shape(captured.calls[call.inputs[0]].dims)
        return math.prod(shape[a] for a in call.op.axes) * (captured.T if call.op.time else 1)
    return 1


def _odd(n: int) -> int:
    return n // (n & -n)


def _near(a: Tensor, b: Tensor) -> bool:
    # Mostly they are equal, which takes a fifth of the time to see.
    return torch.equal(a, b) or torch.allclose(
        a, b, rtol=2.0**-40, atol=2.0**-40 * float(a.abs().max())
    )


def _coarse(module: nn.Module, multiple: int = 1) -> nn.Module:
    """A copy with parameters of four bits, times a number; each batch norm a factor and shift."""
    exact = in_float64(module).eval()
    neurons = {id(p) for m in exact.modules() if adapter_of(m) for p in m.parameters()}
    with torch.no_grad():
        for each in exact.modules():
            if isinstance(each, nn.modules.batchnorm._BatchNorm):  # noqa: SLF001
                _simplify(each, multiple)
        for parameter in exact.parameters():
            if id(parameter) not in neurons:
                parameter.copy_(_rounded(parameter, multiple))
    return exact


def _simplify(norm: Any, multiple: int) -> None:
    """The same batch norm with variance 1, mean 0 and eps 0, if it has a weight and a bias."""
    if norm.weight is not None:
        factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        norm.bias.copy_(_rounded(norm.bias - norm.running_mean * factor, multiple))
        norm.weight.copy_(_rounded(factor, multiple))
    norm.running_mean.zero_()
    norm.running_var.fill_(1)
    norm.eps = 0.0


def _rounded(values: Tensor, multiple: int) -> Tensor:
    """Multiples of a power of two times a number, the largest of at most seven."""
    largest = float(values.abs().max()) if values.numel() else 0.0
    if largest == 0:
        return values
    unit = multiple * 2.0 ** math.ceil(math.log2(largest / multiple / _LARGEST))
    return torch.round(values / unit) * unit


def _weights(captured: Captured, op: program.Synapse) -> tuple[Tensor, Tensor | None]:
    weight = torch.from_numpy(captured.array(op.weight))
    return weight, None if op.bias is None else torch.from_numpy(captured.array(op.bias))
