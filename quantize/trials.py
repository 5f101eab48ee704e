"""Choices that are tried: quantize once more, run, and see how far the network is from float.

A spike that differs changes others behind it, and some of them matter more than others: a choice
for one layer is judged by all spikes of the network and by its logits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn

from lapilli.ir.network import InputQuantizer
from lapilli.ir.types import TensorType
from lapilli.model.capture import program
from lapilli.model.capture.program import neuron_of
from lapilli.model.capture.signature import Signature
from lapilli.model.neurons.copies import copied
from lapilli.quantize.fit import Fitted, Scaling, fit
from lapilli.quantize.image_scale import image_scale, quantized_images
from lapilli.quantize.preparation import Prepared
from lapilli.quantize.pytorch.assembly import quantized_runnable
from lapilli.quantize.pytorch.recorder import NeuronCall, NeuronRecorder, recorder
from lapilli.quantize.pytorch.runnable import reasons

_IMAGES = 64  # of the calibration, that every choice is tried on, at most
_AT_A_TIME = 16


@dataclass(frozen=True, slots=True)
class Score:
    """How far integers are from float.

    Attributes:
        differ: spikes, of each neuron at each step, that are not float's.
        spikes: how many were compared, fired or not.
        logits: mean squared error of the logits, in parts of the variance of float's.
        answers: the largest logit of each image.
    """

    differ: int
    spikes: int
    logits: float
    answers: tuple[int, ...]

    @property
    def loss(self) -> float:
        """The share of spikes that differ, and the logits' error: what a choice makes small."""
        return self.differ / max(1, self.spikes) + self.logits


class Trials:
    """A model in float, whose spikes are kept, and what quantizing it one way or another changes.

    Attributes:
        images: numbers of those that are shown, in the calibration.
        answers: of the float module to each of them.
    """

    def __init__(
        self,
        prepared: Prepared,
        source: InputQuantizer,
        image: TensorType,
        calibration: Tensor,
        *,
        most: int = _IMAGES,
    ) -> None:
        chosen = np.linspace(0, len(calibration) - 1, min(most, len(calibration))).astype(int)
        self.images = tuple(dict.fromkeys(chosen.tolist()))
        self.prepared, self.image = prepared, image
        self._calls = [
            fire
            for call in prepared.merged.calls.values()
            if isinstance(call.op, program.Neuron)
            for fire in (neuron_of(call),)
        ]
        given = calibration[list(self.images)]
        integers = torch.from_numpy(quantized_images(source, given).astype(np.float64))
        self._given = integers * float(image_scale(source))
        module = copied(prepared.captured.module)
        dtype = next((p.dtype for p in module.parameters()), given.dtype)
        self._float = self._run(module, prepared.captured.signature, given.to(dtype))
        self.answers = self._float.answers()

    def score(self, fitted: Fitted) -> Score:
        """Run integers on the images, and compare every spike with float's."""
        program = bool(reasons(self.prepared.merged, self.prepared.plan, fitted.units))
        runs = quantized_runnable(self.prepared, fitted.units, fitted.lowered, program=program)
        run = self._run(runs.module, runs.signature, self._given)
        pairs = list(zip(self._float.spikes, run.spikes, strict=True))
        differ = sum(int((mine != theirs).sum()) for mine, theirs in pairs)
        real = self._float.logits
        error = float((run.logits - real).square().mean() / max(float(real.var()), 1e-12))
        return Score(differ, sum(mine.numel() for mine, _ in pairs), error, run.answers())

    def fitted(self, bits: Mapping[str, int], scaling: Scaling) -> Fitted:
        """Quantize so; see `fit`."""
        return fit(self.prepared.merged, self.prepared.plan, self.image, bits, scaling)

    def _run(self, module: nn.Module, signature: Signature, images: Tensor) -> _Run:
        spikes: list[Tensor] = []
        logits: list[Tensor] = []
        for some in images.split(1 if signature.per_sample else _AT_A_TIME):
            kept = _Spikes()
            with torch.no_grad(), recorder(module, {f.module for f in self._calls}, kept):
                logits.append(signature.logits(module, some).double())
            spikes += [kept.sent[f.module][n] for f in self._calls for n in f.steps or (f.call,)]
        return _Run(spikes, torch.cat(logits))


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """Spikes of each call of each neuron and part of the images; logits (B, classes)."""

    spikes: list[Tensor]
    logits: Tensor

    def answers(self) -> tuple[int, ...]:
        """The largest logit of each image; of a map, of all its places."""
        return tuple(self.logits.flatten(1).argmax(-1).tolist())


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Spikes(NeuronRecorder):
    """Keeps what each call sends, small: a few events, in parts of a few."""

    sent: dict[str, list[Tensor]] = field(default_factory=dict)

    def add(self, path: str, call: NeuronCall) -> None:
        """Add one call."""
        self.sent.setdefault(path, []).append(call.spikes.to(torch.bfloat16))


def least_mismatch(trials: Trials, bits: Mapping[str, int], scaling: Scaling) -> Scaling:
    """Find for each group the scale, the chosen one or a neighbour, that stays nearest to float.

    One group after the other, from the image to the logits; what is settled stays. Groups that no
    neuron hears keep what was chosen.
    """
    plan = trials.prepared.plan
    heard = {
        plan.groups[unit]
        for call, units in plan.feeds.items()
        if call not in trials.prepared.merged.outputs
        for unit in units
    }
    least = trials.score(trials.fitted(bits, scaling)).loss
    for group in dict.fromkeys(plan.groups.values()):
        for step in (-1, 1) if group in heard else ():
            tried = replace(scaling, coarser={**scaling.coarser, group: step})
            loss = trials.score(trials.fitted(bits, tried)).loss
            if loss < least:
                least, scaling = loss, tried
    return scaling
