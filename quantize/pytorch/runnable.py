"""Which module runs on PyTorch's side: the author's own, or the captured program, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from lapilli.ir.errors import ROOT, QuantizeError
from lapilli.ir.recipe import STEPS, Note, NoteKind, Result
from lapilli.model.capture import program
from lapilli.model.capture.program import Call, Captured
from lapilli.model.capture.signature import Signature
from lapilli.model.neurons.adapters import adapter_of
from lapilli.model.neurons.copies import copied
from lapilli.quantize.merging.values import is_power
from lapilli.quantize.neurons import IntegerNeuron
from lapilli.quantize.plan import Plan, Unit
from lapilli.quantize.pytorch.exact_map import Form, WholeNumbers
from lapilli.quantize.pytorch.interpreter import Program
from lapilli.quantize.pytorch.quantized_module import quantized_module
from lapilli.quantize.weights import IntegerUnit

_BYTES = 1 << 7  # magnitudes below it


@dataclass(frozen=True, slots=True, eq=False)
class Runnable:
    """A module with quantized parameters, and how it is called."""

    module: nn.Module
    signature: Signature


def reasons(captured: Captured, plan: Plan, units: Mapping[str, IntegerUnit]) -> tuple[Note, ...]:
    """Say why the program must run in place of the author's forward; nothing where it need not.

    Raises:
        QuantizeError: the program would have to read a membrane.
    """
    why = (*_reasons(captured, units, _settable(captured, plan)), *_host_notes(captured))
    read = [
        c.op.neuron.module for c in captured.calls.values() if isinstance(c.op, program.Membrane)
    ]
    if why and read:
        raise QuantizeError(
            read[0], f"its membrane is read, which takes the author's own forward; but {why[0]}"
        )
    return why


def author_runnable(
    captured: Captured,
    plan: Plan,
    units: Mapping[str, IntegerUnit],
    neurons: Mapping[str, tuple[Call, IntegerNeuron]],
) -> Runnable:
    """The author's module, where all weights are parameters of it."""
    own = replace(plan, units=_settable(captured, plan))
    return Runnable(quantized_module(captured, own, units, neurons), captured.signature)


def program_runnable(
    captured: Captured,
    plan: Plan,
    units: Mapping[str, IntegerUnit],
    neurons: Mapping[str, tuple[Call, IntegerNeuron]],
    checked: set[Form] | None = None,
) -> Runnable:
    """The captured program with quantized weights, and the author's neurons in it.

    `checked` is what `check_agreement` has seen float32 compute as float64 does.
    """
    alone = replace(captured, module=_neurons_alone(captured.module))
    holder = quantized_module(alone, replace(plan, units={}), units, neurons)
    norms = frozenset(u.norm for u in plan.units.values() if u.norm is not None)
    captured_forward = Program(captured, holder, _Weights(units), norms, checked=checked)
    asked = captured.signature
    results = tuple(_of_program(i, result) for i, result in enumerate(asked.results))
    signature = Signature(
        layout=asked.canonical,
        results=results,
        per_sample=asked.per_sample,
        maps=captured.hosts,
    )
    return Runnable(captured_forward.eval(), signature)


def _of_program(index: int, result: Result) -> Result:
    """The same answer of a program, which pools steps itself, and shows them where they count."""
    if not result.keeps_steps:
        return Result(name=result.name, leaf=index)
    over_time = STEPS if result.is_hosts else result.over_time
    return replace(result, leaf=index, time=0, batch=1, over_time=over_time, dropped=())


def _settable(captured: Captured, plan: Plan) -> dict[str, Unit]:
    return {name: unit for name, unit in plan.units.items() if not _is_derived(captured, name)}


@dataclass(frozen=True, slots=True, eq=False)
class _Weights(Mapping[str, tuple[Tensor | WholeNumbers, Tensor | None]]):
    """Weight and bias of each unit, made when it is asked for: of bytes, or in real numbers."""

    units: Mapping[str, IntegerUnit]

    def __getitem__(self, name: str) -> tuple[Tensor | WholeNumbers, Tensor | None]:
        unit = self.units[name]
        whole = _bytes(unit)
        weight = torch.from_numpy(unit.real_weight) if whole is None else whole
        return weight, torch.from_numpy(unit.real_bias)

    def __iter__(self) -> Iterator[str]:
        return iter(self.units)

    def __len__(self) -> int:
        return len(self.units)


def _bytes(unit: IntegerUnit) -> WholeNumbers | None:
    """The integers of a unit as they are, times a power of two; None if they are no bytes."""
    exponent = unit.weight.exponent
    integers = unit.weight.mantissa if exponent else unit.weight
    scale = unit.weight_scale * 2**exponent
    if unit.factors or not is_power(scale) or not 0 < integers.range.magnitude < _BYTES:
        return None
    negative, positive = integers.row_sums
    kernel = torch.from_numpy(integers.stored.astype(np.int8))  # a copy: torch's may be written to
    return WholeNumbers(kernel, float(scale), float((positive - negative).max()))


def _neurons_alone(model: nn.Module) -> nn.Module:
    """A copy without the parameters of all that is no neuron: the program has the weights.

    The parameters of its neurons are the model's own.
    """
    holder = copied(model, kept=model.parameters())
    neurons = [m for m in holder.modules() if adapter_of(m) is not None]
    kept = {id(part) for neuron in neurons for part in neuron.modules()}
    for module in holder.modules():
        if id(module) not in kept:
            for name, _ in list(module.named_parameters(recurse=False)):
                setattr(module, name, None)
    return holder


def _synapse(captured: Captured, name: str) -> program.Synapse:
    op = captured.calls[name].op
    if not isinstance(op, program.Synapse):
        raise TypeError(f"{name} is no linear map")
    return op


def _is_derived(captured: Captured, name: str) -> bool:
    op = _synapse(captured, name)
    return op.weight in captured.constants or op.bias in captured.constants


def _host_notes(captured: Captured) -> tuple[Note, ...]:
    """The author's forward does not show the values of each step that the host's map takes."""
    if not captured.hosts:
        return ()
    text = (
        "its end is the host's; in PyTorch, the captured program runs up to there in place of the "
        "author's forward"
    )
    return (Note(NoteKind.CAPTURED_PROGRAM, ROOT, text),)


def _reasons(
    captured: Captured, units: Mapping[str, IntegerUnit], settable: Mapping[str, object]
) -> tuple[Note, ...]:
    """Notes that name each linear map whose quantized weights the module cannot hold."""
    why: list[Note] = []
    held: dict[str, tuple[object, ...]] = {}
    for name, unit in units.items():
        op, path = _synapse(captured, name), captured.calls[name].path or ROOT
        if name in settable:
            mine = unit.weight, unit.weight_scale, unit.factors
            if held.setdefault(op.weight, mine) != mine:
                text = (
                    f"{op.weight} is used at two scales; in PyTorch, the captured program runs in "
                    "place of the author's forward"
                )
                why.append(Note(NoteKind.CAPTURED_PROGRAM, path, text))
        elif not _is_exact(captured, op, unit):
            what = "the constants that it adds are rounded to the unit of the current"
            if not op.constant:
                what = "its weights are computed from the parameters"
            text = (
                f"{what}; in PyTorch, the captured program with quantized weights runs in place of "
                "the author's forward"
            )
            why.append(Note(NoteKind.CAPTURED_PROGRAM, path, text))
    for call in captured.calls.values():
        if isinstance(call.op, program.Neuron) and call.op.rescaled:
            text = (
                "its thresholds take up the factors in front of it; in PyTorch, the captured "
                "program runs in place of the author's forward"
            )
            why.append(Note(NoteKind.CAPTURED_PROGRAM, call.op.module, text))
    return tuple(why)


def _is_exact(captured: Captured, op: program.Synapse, unit: IntegerUnit) -> bool:
    """Whether rounding changed nothing, as in an average pool's kernel of ones."""
    weight, bias = unit.real_weight, unit.real_bias
    given = np.zeros_like(bias) if op.bias is None else captured.array(op.bias)
    return np.array_equal(weight, captured.array(op.weight)) and np.array_equal(bias, given)
