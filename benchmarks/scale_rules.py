"""Our rules for the scales of weights beside those of other tools, re-stated, in our integers.

`python benchmarks/scale_rules.py CHECKPOINT DATA`: a trained network, post-training, everything
but the scales of weights alike (batch norm folded, 200 calibration images, an image of 8 bits);
right answers of the test set by the integer graph, and beside the best of the peers in the same
run the paired difference with its 95 % interval. The peers' rules:

- max-abs: the finest power of two that holds a layer's largest weight.
- fixed step: SpikingJelly's `lava_exchange` and lava-dl's `slayer` round weights to multiples of
  2 / 64 between -4 and 4, whatever they are: 8 bits; of fewer bits, as many in the same range.
- Brevitas, per channel: each output channel's largest weight is the largest integer
  (`Int8WeightPerChannelFloat`), its scale here rounded up to five significant bits.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from unittest import mock

import numpy as np
import numpy.typing as npt
import typer
from torch import nn

from lapilli.deploy.cli.image_set import Images
from lapilli.deploy.cli.images import held_out_images, training_images
from lapilli.deploy.data.reading import How
from lapilli.ir.errors import LapilliError
from lapilli.ir.network import Network
from lapilli.model.loading.checkpoint import build, load_checkpoint
from lapilli.model.loading.preprocess import Preprocessing
from lapilli.quantize import channel_scales, pipeline, quantize
from lapilli.quantize.fit import Scaling
from lapilli.quantize.options import QuantizeOptions
from lapilli.simulators.fast import Fast

Right = npt.NDArray[np.bool_]
PEERS = ("max-abs", "fixed step", "Brevitas, per channel")
CALIBRATION, AT_A_TIME = 200, 250


@dataclass(frozen=True)
class Rule:
    """How the scales of weights are chosen: options of ours, or a peer's rule in their place."""

    options: QuantizeOptions
    peer: str = ""

    def quantized(
        self, model: nn.Module, images: Images, known: Preprocessing, bits: int
    ) -> Network:
        """Make the integers."""
        options: QuantizeOptions = {
            **self.options, "weight_bits": bits, "mean": known.mean, "std": known.std
        }  # fmt: skip
        calibration = known.normalise(images.pixels[:CALIBRATION])
        with self._in_place():
            made = quantize(model, calibration, **options)
        return made.network

    def _in_place(self) -> AbstractContextManager[object]:
        if self.peer not in ("fixed step", "Brevitas"):
            return nullcontext()
        if self.peer == "fixed step":
            scaling = Scaling(chosen=lambda _, bits: Fraction(8, 1 << bits))
            return mock.patch.object(pipeline, "scaling_of", return_value=scaling)
        return mock.patch.object(channel_scales, "_FINER", 0)


OURS = {
    "ours, one scale a layer": Rule({}),
    "ours, by spikes": Rule({"weight_scale": "spikes"}),
    "ours, per channel": Rule({"scales": "channel"}),
    "ours, per channel, by spikes": Rule({"scales": "channel", "weight_scale": "spikes"}),
}
RULES = {
    "max-abs": Rule({"weight_scale": "max"}, "max-abs"),
    "fixed step": Rule({}, "fixed step"),
    "Brevitas, per channel": Rule({"scales": "channel"}, "Brevitas"),
    **OURS,
    **{
        f"{name}, reconstruction": Rule({**rule.options, "rounding": "reconstruction"})
        for name, rule in OURS.items()
    },
}


def right(network: Network, test: Images) -> Right:
    """Which images the integer graph answers right."""
    engine = Fast(record=False, threads=1).compile(network.graph)
    answers = [
        engine.run(network.encode(some)).values[network.graph.outputs[0]][-1].argmax(-1)
        for some in _parts(test.pixels)
    ]
    return np.asarray(np.concatenate(answers) == test.labels)


def _parts(pixels: npt.NDArray[np.uint8]) -> Iterator[npt.NDArray[np.uint8]]:
    for start in range(0, len(pixels), AT_A_TIME):
        yield pixels[start : start + AT_A_TIME]


def paired(mine: Right, theirs: Right) -> str:
    """Points by which the first is better, and the half width of its 95 % interval."""
    difference = mine.astype(float) - theirs
    half = 1.96 * float(difference.std()) / len(mine) ** 0.5
    return f"{100 * float(difference.mean()):+.2f} +- {100 * half:.2f}"


def main(
    checkpoint: Path,
    data: str,
    bits: str = "8,6,5,4,3,2",
    most: int | None = None,
    ours: str = "",
) -> None:
    """Quantize by every rule, or the peers' and those of ours named, and print right answers."""
    chosen = {*PEERS, *ours.split("; ")} if ours else RULES.keys()
    stored = load_checkpoint(checkpoint)
    model, known = build(stored).eval(), stored.preprocessing
    if known is None:
        raise typer.BadParameter(f"{checkpoint} states no normalisation")
    training = training_images(data, How(), CALIBRATION)
    test = held_out_images(data, How(), most)
    spent = time.process_time()
    typer.echo(
        f"{checkpoint.name}, {len(test.pixels):,} test images; load {os.getloadavg()[0]:.1f}"
    )
    for width in map(int, bits.split(",")):
        found: dict[str, Right] = {}
        for name, rule in RULES.items():
            if name not in chosen:
                continue
            try:
                found[name] = right(rule.quantized(model, training, known, width), test)
            except LapilliError as error:
                typer.echo(f"| {width} | {name} | refused: {error} | |")
        best = max((name for name in found if name in PEERS), key=lambda n: found[n].sum())
        for name, answers in found.items():
            beside = "the best peer" if name == best else paired(answers, found[best])
            typer.echo(f"| {width} | {name} | {answers.sum():,} | {beside} |")
    typer.echo(f"{time.process_time() - spent:.0f} CPU-seconds; load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    typer.run(main)
