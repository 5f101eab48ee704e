"""What a Lava process costs, whatever it computes: each step, and at the start.

`python benchmarks/lava_overhead.py`: chains of N small processes, half of them synapses (8 x 8),
half Lava's neurons; lapilli's by Lava's own `Dense` and `LIF`, interleaved, medians. The spikes of
the last layer are compared. "Start" is all the time of a run but that of its steps: interpreter,
imports, building, ending. Both sides play and record; ours records every layer, Lava's the last.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import matplotlib as mpl
import numpy as np
import typer

from lapilli.ir import ops
from lapilli.ir.graph import Graph, Node
from lapilli.ir.tensor import IntArray, IntTensor
from lapilli.ir.types import TensorType
from lapilli.simulators.lava.host.adapter import Lava
from lapilli.simulators.lava.host.environment import LAVA

WIDTH, T, VTH, WEIGHT = 8, 40, 60, 80
SIZES = (4, 8, 16, 32, 64, 128)
PEER = Path(__file__).with_name("dense_chain.py")
PLOT = Path(__file__).resolve().parents[1] / "docs" / "lava_overhead.svg"
NAMES = ("lapilli", "lava.proc Dense + LIF")

Cost = tuple[float, float]  # seconds for each step, seconds to start


def chain(weights: IntArray) -> Graph:
    """Linear and neuron, again and again; the last neuron is the output."""
    nodes = [Node("x", ops.Input(type=TensorType.spikes(WIDTH)))]
    for k, w in enumerate(weights):
        linear = ops.Linear(weight=IntTensor(w), bias=IntTensor.of([0] * WIDTH))
        nodes.append(Node(f"fc{k}", linear, (nodes[-1].name,)))
        lif = ops.Neuron(threshold=IntTensor.of([64 * VTH + 1]), dv=2048)
        nodes.append(Node(f"lif{k}", lif, (nodes[-1].name,)))
    return Graph(tuple(nodes), (nodes[-1].name,), T)


def peer(folder: Path) -> tuple[Cost, IntArray]:
    """Lava's own chain, and its spikes (T, n)."""
    command = [str(LAVA.find()), str(PEER), str(folder), str(VTH)]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    whole = time.perf_counter() - began
    seconds = json.loads(done.stdout.splitlines()[-1])
    return (seconds, whole - seconds), np.load(folder / "spikes.npy")


def ours(graph: Graph, x: IntArray) -> tuple[Cost, IntArray]:
    """Our chain of as many processes, and its spikes (T, n)."""
    executable = Lava().compile(graph)
    began = time.perf_counter()
    got = executable.run({"x": x[:, None]})
    whole = time.perf_counter() - began
    seconds = got.seconds or 0.0
    return (seconds, whole - seconds), got.values[graph.outputs[0]][:, 0]


def measure(size: int, pairs: int) -> tuple[Cost, Cost]:
    """Medians of ours and of the peer's, for a chain of `size` processes."""
    rng = np.random.default_rng(size)
    layers = size // 2
    weights = WEIGHT * np.stack(
        [np.eye(WIDTH, dtype=int)[rng.permutation(WIDTH)] for _ in range(layers)]
    )
    x = (rng.random((T, WIDTH)) < 0.3).astype(np.int64)
    graph, taken = chain(weights), ([], [])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "weights.npy", weights)
        np.save(folder / "x.npy", x)
        for _ in range(pairs):
            (mine, got), (theirs, want) = ours(graph, x), peer(folder)
            if not np.array_equal(got, want) or not 0.1 < want.mean() < 0.9:
                raise SystemExit(f"the spikes of {size} processes differ, or show nothing")
            for cost, seen in zip((mine, theirs), taken, strict=True):
                seen.append((cost[0] / (T + layers), cost[1]))
    return medians(taken[0]), medians(taken[1])


def medians(seen: list[Cost]) -> Cost:
    """The median of each of the two costs."""
    per_step, start = zip(*seen, strict=True)
    return statistics.median(per_step), statistics.median(start)


def plot(results: dict[int, tuple[Cost, Cost]], file: Path) -> None:
    """Two panels: a step, and the start, against the number of processes."""
    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "lapilli", "svg.fonttype": "none"})  # a small, stable file
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for panel, k, factor, title in (
        (panels[0], 0, 1e3, "a step, ms"),
        (panels[1], 1, 1, "start, s"),
    ):
        for side, name in enumerate(NAMES):
            costs = [cost[side][k] * factor for cost in results.values()]
            panel.loglog(list(results), costs, "os"[side] + "-", label=name, base=2)
        panel.set_xticks(list(results), list(results))
        panel.yaxis.set_major_formatter("{x:g}")
        panel.set_xlabel("processes in the chain")
        panel.set_title(title)
        panel.grid(alpha=0.3)
    panels[0].legend()
    figure.savefig(file, metadata={"Date": None})


def main(pairs: int = 3, most: int = SIZES[-1], file: Path = PLOT) -> None:
    """Print the table and write the plot."""
    results = {}
    print("| processes | step, lapilli | Lava's own | ratio | start, lapilli | Lava's own |")
    print("|---|---|---|---|---|---|")
    for size in (s for s in SIZES if s <= most):
        mine, theirs = results[size] = measure(size, pairs)
        print(
            f"| {size} | {mine[0] * 1e3:.2f} ms | {theirs[0] * 1e3:.2f} ms | "
            f"{mine[0] / theirs[0]:.2f} | {mine[1]:.1f} s | {theirs[1]:.1f} s |",
            flush=True,
        )
    for side, name in enumerate(NAMES):
        for k, factor, unit in ((0, 1e6, "us a step"), (1, 1e3, "ms at the start")):
            slope = np.polyfit(list(results), [cost[side][k] for cost in results.values()], 1)[0]
            print(f"{name}: each process costs {slope * factor:.0f} {unit}")
    plot(results, file)


if __name__ == "__main__":
    typer.run(main)
