"""Run every adapter beside its framework; write docs/adapters.md from what was seen.

make adapters                                           writes the page
PYTHONPATH=tests python -m frameworks.page --facts NAME  facts of one group, as JSON
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from frameworks.examples import EXAMPLES, FOLDERS, T
from frameworks.facts import LANES, NEURONS, Fact, look

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "adapters.md"
APART: Mapping[str, tuple[str, ...]] = {
    "spikingjelly-14": ("spikingjelly==0.0.0.0.14",),
    "spikingjelly-old": ("spikingjelly==0.0.0.0.12",),
    "braincog": ("braincog==0.2.7.19",),
}
GROUPS = tuple(EXAMPLES)


def facts(group: str) -> list[Fact]:
    """Facts of one group, from another process if it needs packages of its own."""
    if group not in APART or os.environ.get("LAPILLI_GROUP") == group:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # frameworks use what PyTorch deprecates
            return [look(example) for example in EXAMPLES[group]()]
    folder = FOLDERS / group
    if not folder.is_dir():
        _install(group, folder)
    path = os.pathsep.join([str(folder), str(ROOT / "src"), str(ROOT / "tests")])
    done = subprocess.run(
        [sys.executable, "-m", "frameworks.page", "--facts", group],
        env={**os.environ, "PYTHONPATH": path, "LAPILLI_GROUP": group},
        check=True,
        capture_output=True,
        text=True,
    )
    return [Fact(**fact) for fact in json.loads(done.stdout)]


def _install(group: str, folder: Path) -> None:
    """Whole or not at all: another process may be at it as well."""
    FOLDERS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDERS) as draft:
        target = Path(draft) / group
        command = ["pip", "install", "--quiet", "--no-deps", "--target", str(target)]
        subprocess.run([sys.executable, "-m", *command, *APART[group]], check=True)
        with suppress(OSError):  # the other one was faster
            target.rename(folder)


HEAD = """# Neurons that lapilli knows

Written by `make adapters`; a test fails when it is not what the
frameworks do. A row is an instance, run in float64 by its framework's own code beside the rule
that lapilli reads off it, T = {T}, on {count} random currents of which many meet the threshold.

In the order of a step: *current* i <- keeps * i + x; *membrane* h <- rest + keeps * (v - rest) +
input * i; it fires where the condition holds; a reset goes to a value, or subtracts an amount
before the next decay (a framework that subtracts after the decay subtracts threshold / decay
here). `x` below is times. Where floats would round, the integer neuron stands on both sides:
spikes are then compared with the rule in float64, away from ties, and membranes are not.
Where constants differ from step to step or from channel to channel, the lowest and the highest are
told; `at least 0` is a floor that h meets before it is compared.

Your own class: `quantize(model, ..., neurons={{"package.module.Class": NeuronRule(...)}})`. It
takes currents (T, ...), and is probed against its own forward before it is believed. In text
(`model/neurons/described.py`): `CLASS=integer-spike:D=4`, `CLASS=neuron:decay=1/2,gain=1/2,
v_threshold=1`, `CLASS=general:taps=1/2,decay=1/2,thresholds=1,floored=true`, or `CLASS=NAME` with
the dotted name of a class below, for the same neuron under another name. A subclass that overrides
nothing but its constructor needs none of it. Where CuPy is missing, `backend='cupy'` is taken for
`'torch'` (`model/neurons/without_cuda.py`).

The last column says which membrane a neuron of one time step a call shows to a forward that reads
it. One without spikes is compared where its membrane reaches 1.

| neuron | rule | starts at | integers | compared | differ | fires | membrane |
|---|---|---|---|---:|---:|---:|---|
"""


def page(seen: Mapping[str, list[Fact]]) -> str:
    """The text of docs/adapters.md."""
    lines = [
        f"| `{group}` {f.label} | {f.rule.replace('|', chr(92) + '|')} | {f.start} "
        f"| {f.integers} | {f.compared:,} | {f.differ} | {f.rate:.0%} | {f.shows} |"
        for group, rows in seen.items()
        for f in rows
    ]
    return HEAD.format(T=T, count=T * LANES * NEURONS) + "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--facts", metavar="NAME", choices=GROUPS)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    if options.facts:
        print(json.dumps([asdict(fact) for fact in facts(options.facts)]))  # noqa: T201
    elif options.write:
        PAGE.write_text(page({group: facts(group) for group in GROUPS}))
    else:
        parser.error("say --write, or --facts NAME")
