"""Spoiled calls of every command: make monkey ARGS="[--count 2000] [--first 0]"

A number is a call: `--first 4711 --count 1` makes it again.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from monkey.calls import call, folder_of_files
from monkey.trying import attempt


def main() -> int:
    """Make the calls, print what went wrong; 1 if something did."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    given = parser.parse_args()

    from lapilli.model.digits import PREPROCESSING, load_digits, trained
    from lapilli.quantize import quantize

    training, _ = load_digits()
    made = quantize(
        trained("spikformer"),
        PREPROCESSING.normalise(training.images[:64]),
        mean=PREPROCESSING.mean,
        std=PREPROCESSING.std,
        classes=PREPROCESSING.classes,
    )
    import lapilli.model

    checkpoints = Path(str(lapilli.model.__file__)).parent / "checkpoints"
    failed, started = 0, time.monotonic()
    with tempfile.TemporaryDirectory(prefix="lapilli-monkey-") as name:
        folder = Path(name)
        folder_of_files(folder, made.network, checkpoints / "digits_spikformer.safetensors")
        for number in range(given.first, given.first + given.count):
            if problem := attempt(call(number), folder):
                failed += 1
                print(problem, flush=True)
            if (number + 1) % 100 == 0:
                print(f"{number + 1 - given.first} calls, {failed} wrong", file=sys.stderr)
    seconds = time.monotonic() - started
    print(f"{given.count} calls in {seconds:.0f} s: {failed} wrong")
    return int(failed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
