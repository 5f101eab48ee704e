"""A chain of 1 x 1 convolutions and LIF neurons: lapilli's Lava processes by Lava's own.

`python benchmarks/conv_chain.py`: medians of interleaved pairs in one run, the spikes of both
compared. Our side also records every spike and a digest of every current, Lava's records its
last layer. Batches of our side run in one network.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import typer

from lapilli.ir import ops
from lapilli.ir.graph import Graph, Node
from lapilli.ir.tensor import IntArray, IntTensor
from lapilli.ir.types import TensorType
from lapilli.simulators.lava.host.adapter import Lava
from lapilli.simulators.lava.host.environment import LAVA

SIDE, VTH = 8, 60
PEER = Path(__file__).with_name("stock_chain.py")


def chain(weights: list[IntArray], steps: int) -> Graph:
    """The same chain as a graph; the last neuron is its output."""
    nodes = [Node("x", ops.Input(type=TensorType.spikes(len(weights[0]), SIDE, SIDE)))]
    for k, w in enumerate(weights):
        conv = ops.Conv2d(
            weight=IntTensor(w[..., None, None]), bias=IntTensor.of(np.zeros(len(w), np.int64))
        )
        nodes.append(Node(f"conv{k}", conv, (nodes[-1].name,)))
        lif = ops.Neuron(threshold=IntTensor.of([64 * VTH + 1]), dv=2048)
        nodes.append(Node(f"lif{k}", lif, (nodes[-1].name,)))
    return Graph(tuple(nodes), (nodes[-1].name,), steps)


def stock(folder: Path) -> tuple[float, IntArray]:
    """Seconds for each step, and spikes (T, C, H, W)."""
    command = [str(LAVA.find()), str(PEER), str(folder), str(VTH)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1]), np.load(folder / "spikes.npy")


def ours(graph: Graph, x: IntArray, batch: int, *, own_neurons: bool) -> tuple[float, IntArray]:
    """Seconds for each step of `batch` samples of (T, B, C, H, W), and the spikes of all."""
    lava = Lava(batch=batch, own_neurons=own_neurons)
    got = lava.compile(graph).run({"x": x})
    return float(got.seconds or 0) / (got.steps or 1), got.values[graph.outputs[0]]


def compare(
    channels: int, layers: int, steps: int, pairs: int, batches: list[int], rounds: int
) -> None:
    """Print medians and ratios for one width; `rounds` batches of ours, one behind the other."""
    rng = np.random.default_rng(0)
    weights = [2 * rng.integers(-60, 62, (channels, channels)) for _ in range(layers)]
    x = (rng.random((steps, max(batches) * rounds, channels, SIDE, SIDE)) < 0.2).astype(np.int64)
    graph = chain(weights, steps)
    peer: list[float] = []
    compared: list[IntArray] = []
    mine: dict[tuple[bool, int], list[float]] = {(o, b): [] for o in (False, True) for b in batches}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.savez(folder / "weights.npz", *weights)
        np.save(folder / "x.npy", x[:, 0])
        for _ in range(pairs):
            seconds, want = stock(folder)
            peer.append(seconds / layers)
            compared.append(want)
            for (own, batch), taken in mine.items():
                seconds, got = ours(graph, x[:, : batch * rounds], batch, own_neurons=own)
                taken.append(seconds / layers)
                if not np.array_equal(got[:, 0], want):
                    raise SystemExit("the spikes differ")
    base = statistics.median(peer)
    print(f"C = {channels}, {SIDE} x {SIDE} tokens, {layers} layers, {steps} steps, {pairs} pairs")
    last = compared[-1]
    print(f"  {last.size} spikes compared, equal; last layer fires at {last.mean():.1%}")
    print(f"  stock Conv + LIF: {base * 1e3:.2f} ms per layer and step")
    for (own, batch), taken in mine.items():
        per_step = statistics.median(taken)
        name = f"lapilli, {'own' if own else 'Lava'} LIF, batch {batch}"
        print(
            f"  {name:29} {per_step * 1e3:7.2f} ms, "
            f"{base / per_step:6.1f} x per step, {base / per_step * batch:7.1f} x per sample"
        )


def main(pairs: int = 7, narrow: bool = True, wide: bool = True) -> None:
    """Run both widths, or leave one out."""
    if narrow:
        compare(64, 3, 100, pairs, [1, 4, 16, 32], rounds=4)
    if wide:
        compare(384, 1, 10, pairs, [1, 2, 4, 8], rounds=16)


if __name__ == "__main__":
    typer.run(main)
