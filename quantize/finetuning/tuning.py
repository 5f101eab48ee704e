"""Fine-tune a trained module, so that its integers answer as well as its floats."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import Unpack

from lapilli.ir.errors import InputError, MismatchError
from lapilli.model import fit
from lapilli.model.capture.signature import Signature
from lapilli.model.fit import Epoch, Prepare, Split
from lapilli.model.neurons.adapters import reset_states
from lapilli.model.neurons.copies import copied
from lapilli.quantize.finetuning.fake_quantized import FakeQuantized, learning
from lapilli.quantize.finetuning.samples import Samples, check_labels, taken
from lapilli.quantize.options import QuantizeOptions, by_currents, by_rates, check_options
from lapilli.quantize.pipeline import Quantized, quantize

LEARNING_RATE = 2e-3  # half of what trains a model from nothing
_TAUGHT = 0.7  # of the loss: to answer as the module did in float; the rest is the labels


@dataclass(frozen=True, slots=True, kw_only=True)
class TunedEpoch(Epoch):
    """What an epoch of fine-tuning gave.

    Attributes:
        weight_steps: of weights by name of the linear map, where they learn: what `quantize` and a
            run that goes on take.
    """

    weight_steps: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class FineTuned:
    """The result of `finetune`.

    Attributes:
        module: of the author's class, with the trained parameters, in evaluation mode.
        quantized: what `quantize` makes of it with the same options and calibration.
        epochs: what each gave; `right` is of the integers.
        weight_steps: of weights by name of the linear map, where they learn: `quantize` takes them
            with the same options.
    """

    module: nn.Module
    quantized: Quantized
    epochs: tuple[TunedEpoch, ...]
    weight_steps: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


def finetune(
    model: nn.Module,
    images: Samples,
    labels: npt.NDArray[np.int64],
    *,
    training: fit.Options | None = None,
    held_out: Split | None = None,
    calibration: int | None = None,
    resumed: nn.Module | None = None,
    done: int = 0,
    after: Callable[[nn.Module, TunedEpoch], None] | None = None,
    **options: Unpack[QuantizeOptions],
) -> FineTuned:
    """Train a module by the answers of its integers.

    Statistics of batch norms, thresholds and time constants stay what they are; all weights and
    biases learn. Scales are chosen anew after each epoch; with `weight_scale="learned"` they learn
    too, from those that would be chosen, or from `weight_steps`.

    Args:
        model: trained in float, in evaluation mode; never changed.
        images: bytes (count, C, H, W), or (count, T, C, H, W) with time; of another layout floats,
            of token ids whole numbers, samples first, then time, then the other axes.
        labels: (count,), the number of the class of each.
        training: epochs, learning rate and the like; 10 epochs at 0.002 by default.
        held_out: images to count right answers on after each epoch.
        calibration: how many of the first images calibrate; all by default.
        resumed: what an earlier run on this `model` has come to.
        done: the epochs that it has done.
        after: called after each epoch with the module as it is, in which to save it.
        options: of `quantize`; a run that goes on takes the `weight_steps` of its latest epoch.

    Raises:
        InputError: images and labels that do not fit each other, the layout or the model; training
            options that integers do not have.
        CaptureError, QuantizeError, RangeError: the model has no integers, or cannot be trained
            in them; before any time is spent.
    """
    check_options(options)
    training = training or fit.Options(epochs=10, learning_rate=LEARNING_RATE)
    if training.bfloat16:
        raise InputError("integers are trained in float32: bfloat16 would round them")
    if options.get("weight_scale") == "spikes":
        raise InputError("scales are found anew after each epoch, by weights alone: mse or max")
    if by_currents(options) or by_rates(options):
        raise InputError("integers are trained as the nearest, with the trained thresholds")
    split = Split(images, np.asarray(labels))
    given = taken(split, "images", options, training)
    check_labels(split, "images")
    shown = images[:calibration]
    trained = copied(model if resumed is None else resumed)
    fake = FakeQuantized(trained, given.prepare(shown), given.options, given.encoding)
    classes = fake.graph.types[fake.graph.outputs[0]].shape[-1]
    check_labels(split, "images", classes)
    if held_out is not None:
        taken(held_out, "held_out", options, training)
        check_labels(held_out, "held_out", classes)
    epochs = []
    runs = tuned(fake, model, split, given.prepare, training, held_out=held_out, done=done)
    for epoch in runs:
        fake.copy_into(trained)
        epochs.append(epoch)
        if after is not None:
            after(trained, epoch)
    if steps := fake.weight_steps:
        options["weight_steps"] = steps
    made = quantize(trained.eval(), given.calibration(shown), **options)
    require_trained(fake, made)
    return FineTuned(trained, made, tuple(epochs), steps)


def tuned(
    fake: FakeQuantized,
    teacher: nn.Module,
    training: Split,
    prepare: Prepare,
    options: fit.Options,
    *,
    held_out: Split | None = None,
    done: int = 0,
) -> Iterator[TunedEpoch]:
    """Train in place, from epoch `done`; after each, scales are those of the new parameters.

    `teacher` is the module in float, before any training of integers; see `model.fit.fit`.
    """
    loss = _Taught(learning(copied(teacher).eval()), fake.signature, options)
    for epoch in fit.fit(fake, training, prepare, options, done=done, loss=loss):
        fake.requantize()
        right = None if held_out is None else fit.count_right(fake, held_out, prepare)
        yield TunedEpoch(
            number=epoch.number,
            loss=epoch.loss,
            right=right,
            cpu_seconds=epoch.cpu_seconds,
            weight_steps=fake.weight_steps,
        )
    fake.eval()


@dataclass(frozen=True, slots=True, eq=False)
class _Taught:
    """The loss of a batch: part labels, part the answers of the module in float.

    Its probabilities say more than a label of what is like what; see Hinton et al., "Distilling
    the Knowledge in a Neural Network", 2015, here at temperature 1.
    """

    teacher: nn.Module
    signature: Signature
    options: fit.Options

    def __call__(self, images: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        dtype = next((p.dtype for p in self.teacher.parameters()), torch.float32)
        with torch.no_grad():
            reset_states(self.teacher)
            wanted = self.signature.logits(self.teacher, images.to(dtype)).softmax(-1)
        taught = functional.kl_div(logits.log_softmax(-1), wanted, reduction="batchmean")
        own = fit.cross_entropy(self.options, images, logits, labels)
        return _TAUGHT * taught + (1 - _TAUGHT) * own


def require_trained(fake: FakeQuantized, made: Quantized) -> None:
    """Check that a network has each integer that was trained: weights, biases, thresholds.

    Raises:
        MismatchError: it has others; names the first node.
    """
    for mine, theirs in zip(fake.graph.nodes, made.network.graph.nodes, strict=True):
        if mine != theirs:
            raise MismatchError(f"node {mine.name!r} is not what was trained: a bug of lapilli")
