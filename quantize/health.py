"""Whether integers are any good: what rounding lost, what fell silent, what answers the same.

Exact is not enough: a network whose first layer became zeros is exact, and blind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lapilli.ir import ops
from lapilli.ir.network import InputQuantizer
from lapilli.ir.recipe import Note, NoteKind
from lapilli.model.capture import program
from lapilli.model.capture.layers import Directly, inside_layers
from lapilli.model.capture.program import neuron_of
from lapilli.model.capture.signature import Signature
from lapilli.model.neurons.copies import copied
from lapilli.quantize.fit import Fitted
from lapilli.quantize.image_scale import quantized_images
from lapilli.quantize.lower import Lowered
from lapilli.quantize.neurons import IntegerNeuron
from lapilli.quantize.plan import Plan
from lapilli.quantize.preparation import Prepared
from lapilli.quantize.pytorch.recorder import NeuronCall, NeuronRecorder, recorder
from lapilli.quantize.pytorch.reference import PyTorchReference

NEARLY_ALL = 0.9  # of the weights of a synapse: what is left of the layer is not the layer
_HUGE = 1e6  # times the median of a synapse's weights: one weight takes all the bits
_PIXELS = 1 << 19  # shown at a time
_OTHERWISE = 8  # images: of fewer, most may come to one answer by chance
_SWALLOWED = 0.75  # of them: what answers so hardly tells classes apart
SATURATED = 0.999  # of all events that a neuron can send


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
        float_answers, integer_answers: the largest logit of each image; empty of an answer that
            names no class.
        notes: warnings that follow.
    """

    images: tuple[int, ...]
    zeroed: Mapping[str, float]
    rates: Mapping[str, Rates]
    float_answers: tuple[int, ...]
    integer_answers: tuple[int, ...]
    notes: tuple[Note, ...]


@dataclass(frozen=True, slots=True)
class WeightHealth:
    """What rounding did to weights.

    Attributes:
        zeroed: see `Health`.
        notes: warnings that follow.
    """

    zeroed: Mapping[str, float]
    notes: tuple[Note, ...]


def examine_weights(plan: Plan, fitted: Fitted) -> WeightHealth:
    """Compare the integers of every synapse with what they stand for."""
    zeroed: dict[str, float] = {}
    notes: list[Note] = []
    for node, name in fitted.lowered.synapses.items():
        real = fitted.folded[name].weight
        zeroed[node] = _zeroed(real, fitted.units[name].weight.stored)
        if not plan.units[name].constant:
            notes += _weight_notes(plan.units[name].path, np.abs(real), zeroed[node])
    return WeightHealth(zeroed, tuple(notes))


def examine(
    prepared: Prepared,
    lowered: Lowered,
    weights: WeightHealth,
    reference: PyTorchReference,
    source: InputQuantizer,
    calibration: Tensor,
    most: int,
) -> Health:
    """Run float and integers on up to `most` images of the calibration; all that was found."""
    captured = prepared.captured
    numbers = chosen_images(len(calibration), most)
    images = calibration[list(numbers)]
    module = copied(captured.module)  # whatever its forward leaves behind stays here
    with inside_layers(Directly()):
        in_float = _run(module, captured.signature, lowered, images)
    integers = torch.from_numpy(quantized_images(source, images).astype(np.float64))
    in_integers = _run(
        reference.module, reference.signature, lowered, integers * float(reference.image_scale)
    )
    rates = {node: Rates(rate, in_integers.rates[node]) for node, rate in in_float.rates.items()}
    return Health(
        numbers,
        weights.zeroed,
        rates,
        _largest(in_float.logits),
        _largest(in_integers.logits),
        (
            *weights.notes,
            *_rate_notes(rates),
            *_answer_notes(in_float.logits, in_integers.logits, images),
        ),
    )


def _largest(logits: npt.NDArray[np.float64]) -> tuple[int, ...]:
    return tuple(logits.argmax(-1).tolist()) if logits.ndim == 2 else ()


def chosen_images(count: int, most: int) -> tuple[int, ...]:
    """Numbers of at most so many of `count` images, spread over all of them."""
    chosen = np.linspace(0, count - 1, min(most, count)).astype(int)
    return tuple(dict.fromkeys(chosen.tolist()))


def _zeroed(real: np.ndarray, integers: np.ndarray) -> float:
    alive = int(np.count_nonzero(real))
    return float(np.count_nonzero((real != 0) & (integers == 0))) / alive if alive else 0.0


def _most(neuron: IntegerNeuron) -> int:
    """Events that a neuron can send in one step."""
    op = neuron.op
    if isinstance(op, ops.GeneralNeuron):
        return op.threshold.shape[1]
    return op.thresholds.shape[0] if isinstance(op, ops.Staircase) else 1


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Events(NeuronRecorder):
    """Counts what each call of a neuron sends, and keeps nothing else."""

    sent: dict[str, list[float]] = field(default_factory=dict)

    def add(self, path: str, call: NeuronCall) -> None:
        """Add the mean of one call."""
        total = torch.linalg.vector_norm(call.spikes, 1, dtype=torch.float64).item()
        self.sent.setdefault(path, []).append(total / call.spikes.numel())

    def mean(self, fire: program.Neuron) -> float:
        """Over all steps of a neuron, in real units."""
        calls = self.sent[fire.module]
        return float(np.mean([calls[n] for n in fire.steps or (fire.call,)]))


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """How often each node that fires did, in parts of the most that it can; logits (B, classes)."""

    rates: Mapping[str, float]
    logits: npt.NDArray[np.float64]


def _run(module: nn.Module, signature: Signature, lowered: Lowered, images: Tensor) -> _Run:
    """Show images to a module, so few at a time that memory is what one large image takes."""
    firing = {
        node: (neuron_of(call), neuron)
        for node, (call, neuron) in lowered.neurons.items()
        if not isinstance(call.op, program.Membrane)
    }
    paths = {fire.module for fire, _ in firing.values()}
    dtype = next((p.dtype for p in module.parameters()), images.dtype)
    rates, logits = dict.fromkeys(firing, 0.0), []
    # One of its calls belongs to one sample, where samples are shown one after the other.
    few = 1 if signature.per_sample else max(1, _PIXELS * len(images) // images.numel())
    for some in images.to(dtype).split(few):
        events = _Events()
        with torch.no_grad(), recorder(module, paths, events, membranes=False):
            logits.append(signature.logits(module, some).double().numpy())
        for node, (fire, neuron) in firing.items():
            most = float(fire.rule.output_scale) * _most(neuron)
            rates[node] += events.mean(fire) / most * len(some) / len(images)
    return _Run(rates, np.concatenate(logits))


def _weight_notes(path: str, weight: npt.NDArray[np.float64], zeroed: float) -> list[Note]:
    """What is odd about the magnitudes of one synapse's weights, or about what became of them."""
    notes = []
    alive = np.count_nonzero(weight)
    if not alive:
        notes.append(Note(NoteKind.UNUSUAL_WEIGHTS, path, "all its weights are 0"))
    elif zeroed >= NEARLY_ALL:
        text = f"{zeroed:.1%} of its weights became 0: the layer is lost"
        notes.append(Note(NoteKind.LOST_WEIGHTS, path, text))
    largest = float(weight.max())
    small = np.count_nonzero(weight < largest / _HUGE) - (weight.size - alive)
    is_small = small and 2 * small >= alive  # else the median is not so small
    median = float(np.median(weight[weight > 0])) if is_small else largest
    if largest > _HUGE * median:
        text = (
            f"its largest weight is {largest:.3g}, its median {median:.3g}: "
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
        if rate.in_float < SATURATED <= rate.in_integers:
            text = f"fires {rate.in_float:.2%} in float and always in integers"
            notes.append(Note(NoteKind.SATURATED, node, text))
    return notes


def _answer_notes(
    in_float: npt.NDArray[np.float64], in_integers: npt.NDArray[np.float64], images: Tensor
) -> list[Note]:
    """The same logits for images that differ, or one answer where float gives others."""
    differ = len(images) > 1 and bool((images != images[:1]).any())
    if differ and not (in_integers != in_integers[:1]).any():
        text = f"has the same logits for {len(images)} different images: it does not see them"
        return [Note(NoteKind.SAME_ANSWER, "", text)]
    text = _one_answer(_largest(in_float), _largest(in_integers))
    return [Note(NoteKind.SAME_ANSWER, "", text)] if text else []


def _one_answer(in_float: Sequence[int], in_integers: Sequence[int]) -> str:
    """Say that integers give one answer to most of the images that float answers otherwise.

    Only those images are asked: of a calibration of one class, or mostly of one, float gives that
    answer, too, and nothing is odd about it.
    """
    answer, count = Counter(in_integers).most_common(1)[0] if in_integers else (0, 0)
    otherwise = [i for f, i in zip(in_float, in_integers, strict=True) if f != answer]
    if len(otherwise) < _OTHERWISE or otherwise.count(answer) < _SWALLOWED * len(otherwise):
        return ""
    return (
        f"answers class {answer} (counted from 0) to {count} of {len(in_integers)} images, in "
        f"float to {len(in_float) - len(otherwise)}: it hardly tells classes apart; more bits, "
        "a scale for each channel, or fine-tuning may help"
    )
