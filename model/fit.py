"""Train any model on images that lie in memory: epochs, a schedule, shifts and flips, bfloat16.

A run that was cut goes on from the parameters and the number of epochs done: the learning rate is
that of the epoch, after a short warm-up; order and changes of images depend on the epoch alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from lapilli.model.families.lif import LIF
from lapilli.model.neurons.adapters import reset_states

Prepare = Callable[[npt.NDArray[Any]], Tensor]
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]  # of images, logits and labels: a number


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Images uint8 (count, C, H, W), or frames (count, T, C, H, W), and labels int64 (count,).

    What is no image stands in their place: floats, or whole numbers of tokens, samples first.
    """

    images: npt.NDArray[Any]
    labels: npt.NDArray[np.int64]

    def without_last(self, count: int) -> tuple[Split, Split]:
        """All but the last `count` samples, and those: what choices are made on."""
        at = len(self.images) - count
        return (
            Split(self.images[:at], self.labels[:at]),
            Split(self.images[at:], self.labels[at:]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to train.

    Attributes:
        epochs: of the whole schedule, those of earlier runs among them.
        learning_rate: the highest; AdamW's. It rises over the first tenth of all steps and falls
            to zero as a cosine.
        warmup: steps in which a run that goes on reaches the rate of its epoch.
        shift: images move by up to so many pixels on both axes; what comes in is 0.
        flip: half of the images are mirrored, left to right.
        bfloat16: products, convolutions and batch norm compute with 8 bits of mantissa, membranes
            and updates with 24; accuracies are always those of float32.
    """

    epochs: int
    batch: int = 128
    learning_rate: float = 4e-3
    weight_decay: float = 0.02
    label_smoothing: float = 0.1
    warmup: int = 200
    shift: int = 0
    flip: bool = False
    bfloat16: bool = False
    seed: int = 0

    def rate(self, step: int, steps: int, since: int) -> float:
        """The learning rate of step `step` of `steps`, the `since`-th of this run."""
        rise = steps / 10
        shape = (
            step / rise
            if step < rise
            else (1 + math.cos(math.pi * (step - rise) / (steps - rise))) / 2
        )
        return self.learning_rate * shape * min(1.0, (since + 1) / self.warmup)


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """What an epoch gave.

    Attributes:
        number: epochs that are done, this one among them.
        loss: mean over its batches.
        right: of the held-out images, how many are answered right; None if there are none.
        cpu_seconds: that it took, without that answer.
    """

    number: int
    loss: float
    right: int | None
    cpu_seconds: float


def begin(seed: int, threads: int | None = None) -> None:
    """Fix what random parameters a model will get, and how many threads PyTorch uses."""
    torch.manual_seed(seed)
    if threads is not None:
        torch.set_num_threads(threads)


def fit(
    model: nn.Module,
    training: Split,
    prepare: Prepare,
    options: Options,
    *,
    held_out: Split | None = None,
    done: int = 0,
    loss: Loss | None = None,
) -> Iterator[Epoch]:
    """Train `model` in place, from epoch `done`; after each epoch the caller may save it.

    Args:
        model: takes a batch of what `prepare` returns, gives logits (B, classes).
        training: what it is trained on.
        prepare: makes tensors of images, such as `Preprocessing.normalise`.
        options: how to train.
        held_out: images to count right answers on.
        done: epochs that earlier runs have done.
        loss: of a batch; cross entropy with `options.label_smoothing` by default.
    """
    loss = loss or partial(cross_entropy, options)
    lay_out(model, torch.channels_last)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay
    )
    per_epoch = -(-len(training.images) // options.batch)
    for epoch in range(done, options.epochs):
        model.train()
        start, total = time.process_time(), 0.0
        generator = np.random.default_rng((options.seed, epoch))
        torch.manual_seed(int(generator.integers(1 << 62)))  # dropout, if the model has any
        order = generator.permutation(len(training.images))
        for i in range(per_epoch):
            chosen = order[i * options.batch : (i + 1) * options.batch]
            step = epoch * per_epoch + i
            rate = options.rate(step, options.epochs * per_epoch, step - done * per_epoch)
            for group in optimiser.param_groups:
                group["lr"] = rate
            images = augmented(training.images[chosen], options, generator)
            labels = torch.from_numpy(training.labels[chosen])
            total += _step(model, optimiser, _laid_out(prepare(images)), labels, options, loss)
        seconds = time.process_time() - start
        right = None if held_out is None else count_right(model, held_out, prepare)
        yield Epoch(number=epoch + 1, loss=total / per_epoch, right=right, cpu_seconds=seconds)
    lay_out(model, torch.contiguous_format)


def _step(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    images: Tensor,
    labels: Tensor,
    options: Options,
    loss: Loss,
) -> float:
    reset_states(model)
    with torch.autocast("cpu", torch.bfloat16, enabled=options.bfloat16):
        logits = model(images)
    value = loss(images, logits.float(), labels)
    optimiser.zero_grad()
    value.backward()
    optimiser.step()
    return float(value.detach())


def cross_entropy(options: Options, images: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean over a batch, of smoothed labels."""
    del images
    return functional.cross_entropy(logits, labels, label_smoothing=options.label_smoothing)


def lay_out(model: nn.Module, layout: torch.memory_format) -> None:
    """Keep kernels in the order of this layout, in place."""
    for parameter in model.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=layout)


def _laid_out(images: Tensor) -> Tensor:
    """Channels last: convolutions and batch norms are two to three times as fast."""
    return images.to(memory_format=torch.channels_last) if images.dim() == 4 else images


def augmented(
    images: npt.NDArray[np.uint8], options: Options, generator: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """Move and mirror each image at random; see `Options`."""
    if by := options.shift:
        height, width = images.shape[-2:]
        around = [(0, 0)] * (images.ndim - 2) + [(by, by)] * 2
        wide = np.pad(images, around)
        moved = np.empty_like(images)
        for i, (y, x) in enumerate(generator.integers(0, 2 * by + 1, (len(images), 2))):
            moved[i] = wide[i, ..., y : y + height, x : x + width]
        images = moved
    if options.flip:
        mirrored = generator.random(len(images)) < 0.5
        images = images.copy()
        images[mirrored] = images[mirrored][..., ::-1]
    return images


def count_right(model: nn.Module, split: Split, prepare: Prepare, batch: int = 250) -> int:
    """How many images the model answers right, in evaluation mode and float32."""
    model.eval()
    for module in model.modules():
        if type(module) is LIF:
            module.train()  # the same spikes, sooner
    right = 0
    with torch.no_grad():
        for start in range(0, len(split.images), batch):
            reset_states(model)
            images = _laid_out(prepare(split.images[start : start + batch]))
            answers = model(images).argmax(1).numpy()
            right += int((answers == split.labels[start : start + batch]).sum())
    reset_states(model)
    model.eval()
    return right
