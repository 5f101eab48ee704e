"""Spikformer-4-384 (9.3 M parameters, 64 tokens, T = 4), whole, in Lava: exact, timed, weighed.

`python benchmarks/spikformer_4_384.py`: random parameters, batch-norm statistics of random
images. Ten images through PyTorch and through Lava at each batch size, every spike and logit
and a digest of every current compared. Start-up is part of the time; memory is the largest
proportional set size of all processes of the session together, ours included.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import typer

from lapilli.deploy.comparison.compare import compare
from lapilli.model.families.presets import PRESETS
from lapilli.model.trial import alive, trial_images
from lapilli.quantize import quantize
from lapilli.simulators.lava.host.adapter import Lava

PRESET, SIZE = "spikformer-cifar10-4-384", 32


class Weight(threading.Thread):
    """Watches the memory of this process and of all that descend from it."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most = 0
        self.over = threading.Event()

    def run(self) -> None:
        """Look twice a second."""
        while not self.over.wait(0.5):
            self.most = max(self.most, sum(map(proportional, family())))


def family() -> set[str]:
    """This process and its descendants."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[entry.parent.name] = entry.read_text().rpartition(")")[2].split()[1]
        except OSError:  # it ended
            continue
    found = {str(Path("/proc/self").resolve().name)}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def proportional(pid: str) -> int:
    """Proportional set size in bytes; 0 if the process has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(x.split()[1]) << 10 for x in lines if x.startswith("Pss:")), 0)


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
