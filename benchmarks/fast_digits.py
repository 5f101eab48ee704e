"""The trained digits Spike-driven network in `fast`, beside Lava and the reference.

`python benchmarks/fast_digits.py`: integers of `--target stock`, so that the neurons in Lava are
Intel's; 16 samples side by side on every simulator, recorded as each records. A cost is that of 352
samples less that of 16, in CPU-seconds of the process and its children, so that starting and
compiling are in none. Rounds are interleaved, all of them are printed, then medians and ratios;
values of 16 samples are compared first.
"""

from __future__ import annotations

import os
import resource
import statistics
import time
from collections.abc import Mapping
from pathlib import Path

import typer

from lapilli.deploy.comparison.compare import compare_recordings
from lapilli.ir.graph import Graph
from lapilli.ir.recording import Recording
from lapilli.ir.tensor import IntArray
from lapilli.model.digits import PREPROCESSING, load_digits
from lapilli.model.loading.checkpoint import build, load_checkpoint
from lapilli.quantize import quantize
from lapilli.simulators.fast import Fast
from lapilli.simulators.lava.host.adapter import Lava
from lapilli.simulators.protocol import Executable
from lapilli.simulators.reference import Reference

CHECKPOINT = Path(__file__).parents[1] / "model" / "checkpoints" / "digits_spike_driven.safetensors"
FEW, MANY = 16, 352


def cpu() -> float:
    """CPU-seconds of this process and of children that have ended."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in spent)


def marginal(executable: Executable, inputs: Mapping[str, IntArray], T: int) -> tuple[float, float]:
    """CPU- and wall seconds of one sample and step, without any start."""
    costs = []
    for count in (FEW, MANY):
        given = {name: steps[:, :count] for name, steps in inputs.items()}
        spent, began = cpu(), time.perf_counter()
        for start in range(0, count, FEW):  # sixteen at a time; Lava keeps its own lanes full
            if isinstance(executable, _Whole):
                executable.run(given)
                break
            executable.run({n: s[:, start : start + FEW] for n, s in given.items()})
        costs.append((cpu() - spent, time.perf_counter() - began))
    steps = (MANY - FEW) * T
    return (costs[1][0] - costs[0][0]) / steps, (costs[1][1] - costs[0][1]) / steps


class _Whole:
    """Takes all samples at once, and runs sixteen side by side itself."""

    def __init__(self, graph: Graph) -> None:
        self._compiled = Lava(batch=FEW).compile(graph)

    def run(self, inputs: Mapping[str, IntArray]) -> Recording:
        return self._compiled.run(inputs)


def main(rounds: int = 7) -> None:
    """Measure and print."""
    training, test = load_digits()
    model = build(load_checkpoint(CHECKPOINT)).eval()
    images = PREPROCESSING.normalise(training.images[:200])
    mean, std = PREPROCESSING.mean, PREPROCESSING.std
    network = quantize(model, images, mean=mean, std=std, target="stock").network
    graph, given = network.graph, network.encode(test.images[:MANY])
    first = {name: steps[:, :FEW] for name, steps in given.items()}
    fast, slow, lava = Fast(threads=1).compile(graph), Reference().compile(graph), _Whole(graph)
    want = slow.run(first)
    for name, got in (("fast", fast.run(first)), ("Lava", lava.run(first))):
        found = compare_recordings(graph, want, got)
        found.require()
        typer.echo(f"{name}: {found.compared:,} values, {found.mismatches} mismatches")
    sides = {"fast": fast, "reference": slow, "Lava": lava}
    costs: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    typer.echo(f"load {os.getloadavg()[0]:.1f}; microseconds of CPU (and wall) a sample and step")
    for _ in range(rounds):
        for name, side in sides.items():
            costs[name].append(marginal(side, given, graph.T))
        told = (f"{n} {c[-1][0] * 1e6:.0f} ({c[-1][1] * 1e6:.0f})" for n, c in costs.items())
        typer.echo("  ".join(told))
    middle = {name: statistics.median(c for c, _ in each) for name, each in costs.items()}
    for name in ("reference", "Lava"):
        typer.echo(f"fast is {middle[name] / middle['fast']:.0f} times as fast as {name}")
    typer.echo(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    typer.run(main)
