"""Spikformer-4-384 as an `.onnx` file, beside SpikingJelly's float model: images a CPU-second.

`python benchmarks/onnx_export.py`: the graph, its firing rate, the peer and the rounds are those of
`fast_engine.py` beside it; the file is run by onnxruntime, one thread, with nothing recorded. A
path to another `.onnx` file of the same network (an older lapilli's: `--older FILE`, with the
network it was written from in `--network FILE`) is measured in the same rounds.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnxruntime
import torch
import typer
from fast_engine import at_rate, inputs, network, peer, rate_of, verify

from lapilli.export.native.reader import load_network
from lapilli.export.onnx.writer import to_onnx
from lapilli.ir.graph import Graph
from lapilli.simulators.onnx import Onnx


def session(model: str | bytes) -> Any:
    """The model on one thread that sleeps where it waits."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def pixels(graph: Graph, batch: int) -> dict[str, Any]:
    """Random images in the type that the file takes."""
    return {name: x.astype(np.int8) for name, x in inputs(graph, batch).items()}


def main(
    rounds: int = 7,
    batches: str = "4,8,16",
    older: Annotated[Path | None, typer.Option(help="a .onnx file of the same network")] = None,
    source: Annotated[Path | None, typer.Option("--network", help=".lapilli, for --older")] = None,
) -> None:
    """Print every round, then medians, and of each pair of files the median of their ratios."""
    torch.set_num_threads(1)
    graph = load_network(source).graph if source else at_rate(network(), 0.2)
    print(f"{verify(graph, Onnx()):,} values equal to the reference")
    files = {"onnx": session(to_onnx(graph).SerializeToString())}
    if older is not None:
        files["older onnx"] = session(str(older))
    float_ = peer()
    works: dict[str, tuple[Callable[[], object], int]] = {}
    for batch in map(int, batches.split(",")):
        given = pixels(graph, batch)
        for label, file in files.items():
            works[f"{label}, batch {batch}"] = (lambda f=file, x=given: f.run(None, x)), batch
        works[f"SpikingJelly, batch {batch}"] = (lambda b=batch: float_(b)), batch
    measured: dict[str, list[tuple[float, float]]] = {label: [] for label in works}
    answers = {file.run(None, pixels(graph, 2))[0].tobytes() for file in files.values()}
    if len(answers) != 1:
        raise SystemExit("the files answer differently: they are not of one network")
    for work, _ in works.values():
        work()
    print(f"load {os.getloadavg()[0]:.1f}, one thread, {rounds} interleaved rounds")
    for _ in range(rounds):
        for label, (work, images) in works.items():
            measured[label].append(rate_of(work, images))
        print("  ".join(f"{m[-1][0]:.1f}" for m in measured.values()), flush=True)
    medians = {label: statistics.median(c for c, _ in m) for label, m in measured.items()}
    best = max(value for label, value in medians.items() if label.startswith("Spiking"))
    for label, value in medians.items():
        wall = statistics.median(w for _, w in measured[label])
        print(
            f"{label:26} {value:6.1f} images/CPU-s {wall:6.1f} images/s {value / best:5.2f} x peer"
        )
    for label, rates in measured.items():
        if before := measured.get(f"older {label}"):
            pairs = list(zip(rates, before, strict=True))
            cpu, wall = (statistics.median(new[i] / old[i] for new, old in pairs) for i in (0, 1))
            print(f"{label} by older: {cpu:.2f} x in CPU-seconds, {wall:.2f} x in wall time")
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    typer.run(main)
