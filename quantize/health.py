"""Whether integers are any good: what rounding lost, what fell silent, what answers the same.

Exact is not enough: a network whose first layer became zeros is exact, and blind.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from lapilli.ir import ops
from lapilli.ir.network import InputQuantizer
from lapilli.ir.recipe import Note, NoteKind
from lapilli.model.capture import program
from lapilli.model.capture.program import Captured, neuron_of
from lapilli.model.neurons.copies import copied
from lapilli.quantize.fit import Fitted
from lapilli.quantize.image_scale import quantized_images
from lapilli.quantize.lower import Lowered
from lapilli.quantize.plan import Plan
from lapilli.quantize.preparation import Prepared
from lapilli.quantize.pytorch.recorder import recorder
from lapilli.quantize.pytorch.reference import PyTorchReference
from lapilli.quantize.weights import Folded

_NEARLY_ALL = 0.9  # of the weights of a synapse: what is left of the layer is not the layer
_HUGE = 1e6  # times the median of a synapse's weights: one weight takes all the bits
_SHIFTED = 1.0  # standard deviations, of most channels
_SPREAD = 4.0  # times the variance, of most channels
_MOST_RECORDED = 1 << 26  # currents, and as many membranes and spikes, of 8 bytes each
_SATURATED = 0.999  # of all events that a neuron can send


@dataclass(frozen=True, slots=True)
class Rates:
    """Mean events per neuron and step, in parts of the most that it can send, on one set of images.

    Attributes:
        in_float: of the author's module; in_integers: of the reference.
    """

    in_float: float
    in_integers: float


@dataclass(frozen=True, slots=True)
class Health:
    """What quantizing did to a network, on some images of the calibration.

    Attributes:
        images: their numbers in the calibration.
        zeroed: synapse node -> share of its weights that are not 0 and became 0.
        rates: firing node -> how often it fired, in float and in integers.
        float_answers, integer_answers: the largest logit of each image.
        notes: warnings that follow.
    """

    images: tuple[int, ...]
    zeroed: Mapping[str, float]
    rates: Mapping[str, Rates]
    float_answers: tuple[int, ...]
    integer_answers: tuple[int, ...]
    notes: tuple[Note, ...]


def examine(
    prepared: Prepared,
    fitted: Fitted,
    reference: PyTorchReference,
    source: InputQuantizer,
    calibration: Tensor,
    most: int,
) -> Health:
    """Look at the weights, and run float and integers on up to `most` images of the calibration."""
    captured, plan, lowered = prepared.captured, prepared.plan, fitted.lowered
    chosen = np.linspace(0, len(calibration) - 1, min(most, len(calibration))).astype(int)
    numbers = tuple(dict.fromkeys(chosen.tolist()))
    images = calibration[list(numbers)]
    zeroed = {
        node: _zeroed(fitted.folded[name].weight, fitted.units[name].weight.array)
        for node, name in lowered.synapses.items()
    }
    float_rates: dict[str, float] = defaultdict(float)
    integer_rates: dict[str, float] = defaultdict(float)
    float_answers: list[int] = []
    answered = []
    normalisation: dict[str, Note] = {}
    for some in images.split(_at_a_time(lowered)):
        fired, answers, warned = _float_run(captured, plan, lowered, some)
        float_answers += answers
        for note in warned:
            normalisation.setdefault(note.path, note)
        recording = reference.run_images(quantized_images(source, some))
        answered.append(recording.values[reference.logits][-1])
        for node, rate in fired.items():
            float_rates[node] += rate * len(some) / len(images)
            sent = float(np.abs(recording.values[node]).mean()) / _most(lowered, node)
            integer_rates[node] += sent * len(some) / len(images)
    logits = np.concatenate(answered)
    rates = {node: Rates(rate, integer_rates[node]) for node, rate in float_rates.items()}
    notes = [
        *normalisation.values(),
        *_weight_notes(plan, fitted.folded, lowered, zeroed),
        *_rate_notes(rates),
        *_answer_notes(logits, images),
    ]
    integer_answers = tuple(logits.argmax(-1).tolist())
    return Health(numbers, zeroed, rates, tuple(float_answers), integer_answers, tuple(notes))


def _at_a_time(lowered: Lowered) -> int:
    """Images whose recording takes a GiB or two; one, if that takes more."""
    types, T = lowered.graph.types, lowered.graph.T
    recorded = T * sum(math.prod(types[node].shape) for node in lowered.neurons)
    return max(1, _MOST_RECORDED // recorded)


def _zeroed(real: np.ndarray, integers: np.ndarray) -> float:
    alive = int(np.count_nonzero(real))
    return float(np.count_nonzero((real != 0) & (integers == 0))) / alive if alive else 0.0


def _most(lowered: Lowered, node: str) -> int:
    """Events that a neuron can send in one step."""
    op = lowered.neurons[node][1].op
    return op.thresholds.shape[0] if isinstance(op, ops.Staircase) else 1


def _float_run(
    captured: Captured, plan: Plan, lowered: Lowered, images: Tensor
) -> tuple[dict[str, float], list[int], list[Note]]:
    """How often each neuron of the author's module fires, its answers, and warnings of images."""
    module = copied(captured.module)  # whatever its forward leaves behind stays here
    firing = {
        node: neuron_of(call)
        for node, (call, _) in lowered.neurons.items()
        if not isinstance(call.op, program.Membrane)
    }
    dtype = next((p.dtype for p in module.parameters()), torch.float32)
    paths = {f.module for f in firing.values()}
    with (
        torch.no_grad(),
        recorder(module, paths) as recorded,
        _first_norm(captured, plan, module) as seen,
    ):
        answers = captured.signature.logits(module, images.to(dtype)).argmax(-1)
    rates = {}
    for node, fire in firing.items():
        events = recorded.trace(fire)[1].double().abs().mean().item() / float(
            fire.rule.output_scale
        )
        rates[node] = events / _most(lowered, node)
    notes = [note for norm, given in seen for note in _normalisation_notes(norm, given)]
    return rates, answers.tolist(), notes


@contextmanager
def _first_norm(
    captured: Captured, plan: Plan, module: nn.Module
) -> Iterator[list[tuple[tuple[str, nn.Module], Tensor]]]:
    """Hear what the batch norm behind the image's own linear map is given, if there is one."""
    heard: list[tuple[tuple[str, nn.Module], Tensor]] = []
    hooks = []
    for unit in plan.units.values():
        call = captured.calls.get(unit.norm or "")
        first = captured.calls.get(unit.call)
        if call is None or first is None or not isinstance(call.op, program.BatchNorm):
            continue
        source = captured.calls[first.inputs[0]]
        while isinstance(source.op, program.Reshape | program.Permute | program.Expand):
            source = captured.calls[source.inputs[0]]
        if isinstance(source.op, program.Input):
            path = call.op.module
            norm = module.get_submodule(path)

            def hear(_: nn.Module, args: tuple[Tensor, ...], of: tuple[str, nn.Module]) -> None:
                heard.append((of, args[0].detach()))

            hooks.append(norm.register_forward_pre_hook(partial(hear, of=(path, norm))))
    try:
        yield heard
    finally:
        for hook in hooks:
            hook.remove()


def _normalisation_notes(named: tuple[str, nn.Module], given: Tensor) -> list[Note]:
    """Compare what a trained batch norm is given with what it was given in training."""
    path, norm = named
    mean, var = getattr(norm, "running_mean", None), getattr(norm, "running_var", None)
    if mean is None or var is None or not int(getattr(norm, "num_batches_tracked", 0) or 0):
        return []
    channels = [a for a in range(1, given.ndim) if given.shape[a] == len(mean)]
    if not channels:
        return []
    axes = [a for a in range(given.ndim) if a != channels[0]]
    own_mean, own_var = given.double().mean(axes), given.double().var(axes)
    shift = float(((own_mean - mean).abs() / (var + norm.eps).sqrt()).median())
    spread = float((own_var / (var + norm.eps)).median())
    if shift <= _SHIFTED and 1 / _SPREAD <= spread <= _SPREAD:
        return []
    text = (
        f"is given values whose mean lies {shift:.2g} standard deviations from that of training, "
        f"with {spread:.2g} times its variance: were the images normalised as in training?"
    )
    return [Note(NoteKind.NORMALISATION, path, text)]


def _weight_notes(
    plan: Plan, folded: Mapping[str, Folded], lowered: Lowered, zeroed: Mapping[str, float]
) -> list[Note]:
    notes = []
    for node, name in lowered.synapses.items():
        weight, path = np.abs(folded[name].weight), plan.units[name].path
        if not weight.any():
            notes.append(Note(NoteKind.UNUSUAL_WEIGHTS, path, "all its weights are 0"))
        elif zeroed[node] >= _NEARLY_ALL:
            text = f"{zeroed[node]:.1%} of its weights became 0: the layer is lost"
            notes.append(Note(NoteKind.LOST_WEIGHTS, path, text))
        median = float(np.median(weight[weight > 0])) if weight.any() else 0.0
        if median and float(weight.max()) > _HUGE * median:
            text = (
                f"its largest weight is {float(weight.max()):.3g}, its median {median:.3g}: "
                "one weight decides the scale of all"
            )
            notes.append(Note(NoteKind.UNUSUAL_WEIGHTS, path, text))
    return notes


def _rate_notes(rates: Mapping[str, Rates]) -> list[Note]:
    notes = []
    for node, rate in rates.items():
        if rate.in_float > 0 and rate.in_integers == 0:
            text = f"fires {rate.in_float:.2%} in float and never in integers"
            notes.append(Note(NoteKind.SILENT, node, text))
        if rate.in_float < _SATURATED <= rate.in_integers:
            text = f"fires {rate.in_float:.2%} in float and always in integers"
            notes.append(Note(NoteKind.SATURATED, node, text))
    return notes


def _answer_notes(logits: np.ndarray, images: Tensor) -> list[Note]:
    """The same logits for images that differ: the network does not see them."""
    differ = len(images) > 1 and bool((images != images[:1]).any())
    if not differ or (logits != logits[:1]).any():
        return []
    text = f"has the same logits for {len(images)} different images: it does not see them"
    return [Note(NoteKind.SAME_ANSWER, "", text)]
