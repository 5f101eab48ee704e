"""Spikformer-4-384 in the fast engine, beside SpikingJelly's float model: images a CPU-second.

`python benchmarks/fast_engine.py`: random parameters; thresholds of the integer graph are set so
that each neuron layer fires at a stated rate. The peer is SpikingJelly's `spikformer_cifar10`
(`backend="torch"`, `inference_mode`), each side with its best batch of those tried. Rounds are
interleaved; a round of everything is one line, medians and ratios stand at the end.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numba
import numpy as np
import torch
import typer

from lapilli.ir import ops
from lapilli.ir.graph import Graph, Node
from lapilli.ir.tensor import IntArray, IntTensor
from lapilli.model.families.presets import PRESETS
from lapilli.model.trial import alive, trial_images
from lapilli.quantize import quantize
from lapilli.simulators.fast import Fast
from lapilli.simulators.fast.kernels.multiplying import dot_rows_8_3
from lapilli.simulators.fast.stepwise import neurons
from lapilli.simulators.protocol import Simulator
from lapilli.simulators.reference import Reference

PRESET, SIZE = "spikformer-cifar10-4-384", 32
GMAC = 3.736  # of one image, T = 4: stem 1.874, linear maps 1.812, attention 0.050


def network() -> Graph:
    """The integer graph of a random model whose neurons are alive."""
    made = quantize(
        alive(PRESETS[PRESET], SIZE), trial_images(PRESETS[PRESET], SIZE),
        mean=(0.5,) * 3, std=(0.25,) * 3,
    )  # fmt: skip
    return made.network.graph


def inputs(graph: Graph, batch: int) -> dict[str, IntArray]:
    """Random pixels within the input's range, (T, B, *shape), the same at every step."""
    (name,) = graph.inputs
    proven = graph.types[name]
    rng = np.random.default_rng(0)
    one = rng.integers(proven.range.lo, proven.range.hi + 1, (1, batch, *proven.shape))
    return {name: np.repeat(one, graph.T, axis=0)}


def at_rate(graph: Graph, rate: float) -> Graph:
    """The graph with the threshold of each neuron layer moved until it fires at `rate`.

    Attention's neurons follow from their operands, as they do when a model is trained.
    """
    given = inputs(graph, 2)
    for name in graph.neurons:
        op = graph[name].op
        if not isinstance(op, ops.Neuron) or name.endswith("attn_lif"):
            continue
        currents = Fast().compile(graph).run(given).currents[name]
        folded = currents.reshape(-1, *currents.shape[2:])
        low, high = 1, int(op.threshold.range.hi) * 64
        while low < high:
            middle = (low + high) // 2
            tried = replace(op, threshold=IntTensor.of([middle]))
            spikes = neurons(tried, folded, graph.T).spikes
            if spikes is not None and spikes.mean() > rate:
                low = middle + 1
            else:
                high = middle
        raised = replace(op, threshold=IntTensor.of([low]))
        nodes = tuple(Node(n.name, raised, n.inputs) if n.name == name else n for n in graph.nodes)
        graph = Graph(nodes, graph.outputs, graph.T)
    return graph


def peer() -> Callable[[int], None]:
    """SpikingJelly's float model on a batch."""
    from spikingjelly.activation_based import functional, neuron
    from spikingjelly.activation_based.model.spikformer import spikformer_cifar10

    torch.manual_seed(0)
    model = spikformer_cifar10(T=4).eval()
    for module in model.modules():
        if isinstance(module, neuron.BaseNode):
            module.backend = "torch"

    def run(batch: int) -> None:
        functional.reset_net(model)
        with torch.inference_mode():
            model(torch.rand(batch, 3, SIZE, SIZE))

    return run


def rate_of(work: Callable[[], object], images: int) -> tuple[float, float]:
    """Images a CPU-second and a second of wall time."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return images / (time.process_time() - cpu), images / (time.perf_counter() - wall)


@numba.njit
def _products(rows: Any, packed: Any, total: Any, times: int) -> None:
    zeros = np.zeros(48, np.int32)
    for _ in range(times):
        dot_rows_8_3(rows, 0, 384, 96, packed, 0, zeros, total, 0, 48)


def dense_limit() -> float:
    """Images a CPU-second if products of bytes in the nearest cache were all there is to do."""
    rows, packed = np.ones(8 * 384, np.uint8), np.ones((3, 96, 64), np.int8)
    total, times = np.zeros(8 * 48, np.int32), 20_000
    _products(rows, packed, total, 1)
    work = partial(_products, rows, packed, total, times)
    products = times * 8 * 48 * 384
    return max(rate_of(work, 1)[0] for _ in range(7)) * products / 1e9 / GMAC


def verify(graph: Graph, simulator: Simulator) -> int:
    """Values of two images equal to `reference`: every spike, membrane, current, output."""
    given = inputs(graph, 2)
    want, got = Reference().compile(graph).run(given), simulator.compile(graph).run(given)
    for name in graph.firing:
        if not 0 < want.values[name].mean() < 1:
            raise SystemExit(f"{name} is silent or saturated: equality would show nothing")
    compared = 0
    for kind in ("membranes", "currents", "values"):
        ours, theirs = getattr(got, kind), getattr(want, kind)
        for name in ours:
            if not np.array_equal(ours[name], theirs[name]):
                raise SystemExit(f"{kind} of {name} differ")
            compared += ours[name].size
    return compared


def main(
    rounds: int = 7, batch: int = 16, rates: str = "0.2,0.09,0.02", check: bool = True
) -> None:
    """Print every round, then medians."""
    torch.set_num_threads(1)
    base = network()
    float_ = peer()
    print(f"load {os.getloadavg()[0]:.1f}, one thread, {rounds} interleaved rounds, batch {batch}")
    works: dict[str, Callable[[], object]] = {
        "SpikingJelly, batch 8": lambda: float_(8),
        "SpikingJelly, batch 16": lambda: float_(16),
    }
    sizes = {"SpikingJelly, batch 8": 8}
    for rate in map(float, rates.split(",")):
        graph = at_rate(base, rate)
        given = inputs(graph, batch)
        if check:
            print(f"rate {rate:.0%}: {verify(graph, Fast()):,} values equal to the reference")
        for label, simulator in {
            "fast": Fast(record=False),
            "fast, dense only": Fast(record=False, path="dense"),
            "fast, all recorded": Fast(),
        }.items():
            executable = simulator.compile(graph)
            works[f"{label}, {rate:.0%}"] = partial(executable.run, given)
        works[name := f"reference, {rate:.0%}"] = partial(
            Reference().compile(graph).run, inputs(graph, 1)
        )
        sizes[name] = 1
    measured: dict[str, list[tuple[float, float]]] = {label: [] for label in works}
    for work in works.values():
        work()  # compiled, and its path chosen
    for _ in range(rounds):
        for label, work in works.items():
            measured[label].append(rate_of(work, sizes.get(label, batch)))
        print("  ".join(f"{m[-1][0]:.1f}" for m in measured.values()), flush=True)
    medians = {label: statistics.median(c for c, _ in m) for label, m in measured.items()}
    best = max(value for label, value in medians.items() if label.startswith("Spiking"))
    limit = dense_limit()
    print(f"dense int8 limit of this core: {limit:.0f} images/CPU-s")
    for label, value in medians.items():
        wall = statistics.median(w for _, w in measured[label])
        print(
            f"{label:26} {value:6.1f} images/CPU-s {wall:6.1f} images/s "
            f"{value / best:5.2f} x peer {value / limit:4.0%} of the limit"
        )
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    typer.run(main)
