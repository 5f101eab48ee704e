"""The digits networks in C beside onnxruntime's Scan model, on one core: benchmarks/portable_c.py.

    python benchmarks/portable_c.py NETWORK.lapilli ... [--rounds 5]

Both record every spike and the logits of 360 test images; each takes the time that its own run
says, start-up excluded, the shortest of the rounds. onnxruntime gets whichever batch is faster.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np
import onnxruntime

from lapilli.export.native import load_network
from lapilli.export.onnx.writer import to_onnx
from lapilli.ir.graph import Graph
from lapilli.ir.tensor import IntArray
from lapilli.model.digits import load_digits
from lapilli.simulators.c import PortableC
from lapilli.simulators.onnx import Onnx
from lapilli.simulators.protocol import Executable


def milliseconds(
    compiled: Executable, inputs: dict[str, IntArray], batch: int, rounds: int
) -> float:
    """The shortest time of an image, in batches."""
    images = next(iter(inputs.values())).shape[1]
    found = []
    for _ in range(rounds):
        seconds = 0.0
        for b in range(0, images, batch):
            run = compiled.run({n: x[:, b : b + batch] for n, x in inputs.items()})
            seconds += run.seconds or 0.0
        found.append(seconds)
    return 1000 * min(found) / images


def plain(graph: Graph, inputs: dict[str, IntArray], batch: int, rounds: int) -> float:
    """The shortest time of an image in onnxruntime, one thread, with nothing recorded."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        to_onnx(graph).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    given = {n: x.astype(np.int8) for n, x in inputs.items()}
    images = next(iter(given.values())).shape[1]
    found = []
    for _ in range(rounds):
        start = time.perf_counter()
        for b in range(0, images, batch):
            session.run(None, {n: x[:, b : b + batch] for n, x in given.items()})
        found.append(time.perf_counter() - start)
    return 1000 * min(found) / images


def main() -> None:
    """Print a row for each network and runtime."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # threads that start later, too
    _, test = load_digits()
    for file in given.networks:
        network = load_network(file)
        inputs = network.encode(test.images)
        for told, compiled, batches in (
            ("c, whole samples", PortableC().compile(network.graph), [360]),
            ("c, one step per call", PortableC(step=True).compile(network.graph), [360]),
            ("onnx, Scan", Onnx().compile(network.graph), [1, 60, 360]),
        ):
            each = {b: milliseconds(compiled, inputs, b, given.rounds) for b in batches}
            best = min(each, key=lambda b: each[b])
            print(f"{file.stem}: {told}: {each[best]:.3f} ms an image (batches of {best})")
        alone = {b: plain(network.graph, inputs, b, given.rounds) for b in (1, 60, 360)}
        best = min(alone, key=lambda b: alone[b])
        print(
            f"{file.stem}: onnx, Scan, logits alone: {alone[best]:.3f} ms an image "
            f"(batches of {best}); batches of 1: {alone[1]:.3f}"
        )


if __name__ == "__main__":
    main()
