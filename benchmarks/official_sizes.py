"""The largest official models, quantized and certified: processor time and memory of all processes.

`python benchmarks/official_sizes.py [PRESETS]`: a row for each, each in a process of its own, with
one thread. Random parameters, two images of 224 x 224. Unlike docs/sizes.md, which counts its own
process, this counts the children that capture forks, too (they show that a model remembers
nothing): their time is added, and memory is the largest proportional set size of all together.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys

from lapilli.deploy.surveys.memory import Weight
from lapilli.deploy.surveys.sizes import LARGEST, SIZE
from lapilli.model.families.presets import PRESETS
from lapilli.model.trial import random_model, trial_images
from lapilli.quantize import quantize

BEYOND = "meta-spikeformer-imagenet-8-768-t4"  # takes longer than a row of docs/sizes.md may


def measure(preset: str) -> str:
    """Quantize one model here; a row of the table."""
    weight = Weight()
    weight.start()
    config = PRESETS[preset]
    model = random_model(config)
    made = quantize(model, trial_images(config, SIZE, 2))
    weight.over.set()
    own, forked = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    seconds = sum(used.ru_utime + used.ru_stime for used in (own, forked))
    most = max(weight.most, own.ru_maxrss << 10) / 2**30  # Linux counts kilobytes
    bits = max((bounds.state_bits for bounds in made.bounds), default=0)
    parameters = sum(p.numel() for p in model.parameters())
    cells = (preset, f"{parameters:,}", f"{seconds:.0f}", f"{most:.1f}", bits)
    return f"| {' | '.join(map(str, cells))} |"


def main(presets: list[str]) -> None:
    """Print a row for each preset."""
    print("| preset | parameters | seconds | GiB | state bits |")
    print("|---|---|---|---|---|", flush=True)
    for preset in presets:
        command = [sys.executable, __file__, "--here", preset]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


if __name__ == "__main__":
    if sys.argv[1:2] == ["--here"]:
        print(measure(sys.argv[2]), flush=True)
    else:
        main(sys.argv[1:] or [*LARGEST, BEYOND])
