"""Spikformer-4-384 (9.3 M parameters, 64 tokens, T = 4), whole, in Lava: exact, timed, weighed.

`python benchmarks/spikformer_4_384.py`: random parameters, batch-norm statistics of random
images. Ten images through PyTorch and through Lava at each batch size, every spike and logit
and a digest of every current compared. Start-up is part of the time; memory is the largest
proportional set size of all processes of the session together, ours included.
"""

from __future__ import annotations

import time

import numpy as np
import typer

from lapilli.deploy.comparison.compare import compare
from lapilli.deploy.surveys.memory import Weight
from lapilli.model.families.presets import PRESETS
from lapilli.model.trial import alive, trial_images
from lapilli.quantize import quantize
from lapilli.simulators.lava.host.adapter import Lava

PRESET, SIZE = "spikformer-cifar10-4-384", 32


def main(images: int = 10, batches: str = "1,4,16") -> None:
    """Quantize once, run at each batch size."""
    start = time.perf_counter()
    model = alive(PRESETS[PRESET], SIZE)
    made = quantize(model, trial_images(PRESETS[PRESET], SIZE), mean=(0.5,) * 3, std=(0.25,) * 3)
    network = made.network
    seconds = time.perf_counter() - start
    print(f"{PRESET}: {len(network.graph.nodes)} nodes, built in {seconds:.1f} s")
    noise = np.random.default_rng(0).integers(0, 256, (max(images, 16), 3, SIZE, SIZE))
    pixels = noise.astype(np.uint8)
    for batch in map(int, batches.split(",")):
        weight, start = Weight(), time.perf_counter()
        weight.start()
        lava = Lava(batch=batch).compile(network.graph)
        count = max(images, batch)
        got = compare(network, made.reference, lava, pixels[:count])
        weight.over.set()
        weight.join()
        print(f"batch {batch}: {got}")
        print(
            f"  {time.perf_counter() - start:.1f} s in all, {weight.most / 2**30:.2f} GiB; Lava: "
            f"{got.seconds / got.steps * 1e3:.1f} ms a step, {got.seconds / count:.2f} s an image, "
            f"{got.seconds / got.steps * network.graph.T / batch:.2f} s without the way through"
        )
        got.require()


if __name__ == "__main__":
    typer.run(main)
