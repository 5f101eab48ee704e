"""Networks in C beside onnxruntime's Scan model: CPU-milliseconds an image on one core.

`python benchmarks/portable_c.py NETWORK.lapilli ... [--rounds 5]`: 360 test images of digits. C
runs in a process of its own, its start included; onnxruntime has one thread. Both give the logits
of every step and record nothing. The least of the rounds counts.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from lapilli.export.native import load_network
from lapilli.export.onnx.writer import to_onnx
from lapilli.ir.graph import Graph
from lapilli.ir.network import Network
from lapilli.ir.tensor import IntArray
from lapilli.model.digits import load_digits
from lapilli.simulators.c import PortableC, compiler
from lapilli.simulators.c.simulator import OPTIONS

BATCHES = (1, 20, 60, 360)


def session(graph: Graph) -> Any:
    """The Scan model on one thread that sleeps where it waits."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    model = to_onnx(graph).SerializeToString()
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def least(run: Callable[[], object], rounds: int, images: int, who: int) -> float:
    """CPU-milliseconds an image of this process, or of those that it starts."""
    found = []
    for _ in range(rounds):
        before = resource.getrusage(who)
        run()
        after = resource.getrusage(who)
        spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        found.append(1000 * spent / images)
    return min(found)


def quiet(network: Network, inputs: Mapping[str, IntArray], way: str) -> Callable[[], object]:
    """A program that writes the outputs alone."""
    compiled = PortableC().compile(network.graph)
    program = str(compiled.folder / "quiet")
    subprocess.run(
        [compiler() or "cc", *OPTIONS, "record.c", "-o", program], cwd=compiled.folder, check=True
    )
    (name,) = network.graph.inputs
    kind = compiled.made.plan.types[name].name.removesuffix("_t")
    data = inputs[name].swapaxes(0, 1).astype(kind).tobytes()
    command = [program, way, str(inputs[name].shape[1])]

    def run() -> object:
        done = subprocess.run(command, input=data, capture_output=True, check=True)
        return compiled, done  # the folder lives as long as what is compiled

    return run


def in_batches(made: Any, inputs: Mapping[str, npt.NDArray[Any]], batch: int) -> None:
    """All images through a session."""
    images = next(iter(inputs.values())).shape[1]
    for b in range(0, images, batch):
        made.run(None, {n: x[:, b : b + batch] for n, x in inputs.items()})


def main() -> None:
    """Print a row for each network and runtime."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    _, test = load_digits()
    count = len(test.images)
    for file in given.networks:
        network = load_network(file)
        inputs = network.encode(test.images)
        for told, way in (("whole samples", "still"), ("one step per call", "step")):
            run = quiet(network, inputs, way)
            spent = least(run, given.rounds, count, resource.RUSAGE_CHILDREN)
            print(f"{file.stem}: c, {told}: {spent:.3f}")
        made, small = session(network.graph), {n: x.astype(np.int8) for n, x in inputs.items()}
        for batch in BATCHES:
            run = partial(in_batches, made, small, batch)
            spent = least(run, given.rounds, count, resource.RUSAGE_SELF)
            print(f"{file.stem}: onnx, Scan, batches of {batch}: {spent:.3f}")


if __name__ == "__main__":
    main()
