"""Golden vectors: what any runtime of an exported network must answer, spike for spike."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lapilli.deploy.comparison.compare import firing_rate
from lapilli.export.atomic import make_folder, write_atomic
from lapilli.ir.errors import InputError
from lapilli.ir.network import Network
from lapilli.ir.tensor import IntArray, narrowest_dtype
from lapilli.ir.types import IntRange
from lapilli.simulators.reference import Reference

NAME, SCRIPT = "golden.npz", "check_golden.py"


@dataclass(frozen=True, slots=True)
class Golden:
    """What was written.

    Attributes:
        files: the vectors, and the script that compares with them.
        rates: node -> events for each neuron and step, in parts of the most that it can send; a
            node at 0 or 1 shows nothing.
        values: numbers to compare.
    """

    files: tuple[Path, Path]
    rates: Mapping[str, float]
    values: int


def write_golden(network: Network, pixels: npt.NDArray[Any], folder: Path) -> Golden:
    """Run images on the reference simulator, and write what every neuron answers.

    Args:
        network: as exported.
        pixels: images (B, C, H, W), or (B, T, C, H, W) with time.
        folder: gets `golden.npz` and `check_golden.py`.

    The archive holds `input` (T, B, ...), `spikes:<node>` (T, B, ...) for every node that
    fires, in topological order, `logits` (B, classes) at the last step (`logits:<name>` of
    several answers, `steps:<name>` (T, B, ...) where all steps count), and the graph's
    `digest`; NumPy alone reads it, and equal networks and images give equal bytes.

    Raises:
        InputError: images that do not fit, or a node whose name cannot stand in an archive.
        OutputError: the folder or its files cannot be written.
    """
    graph = network.graph
    given = network.encode(pixels)
    recording = Reference().compile(graph).run(given)
    arrays: dict[str, npt.NDArray[Any]] = {"input": _narrow(next(iter(given.values())))}
    for name in graph.firing:
        if not name.isprintable() or "/" in name or "\\" in name:
            raise InputError(f"node {name!r} cannot be named in an archive")
        arrays[f"spikes:{name}"] = _narrow(recording.values[name])
    for node, answer in zip(graph.outputs, network.every_answer, strict=True):
        values = recording.values[node]
        if answer.sees_steps:
            arrays[f"steps:{answer.name}"] = _narrow(values)
        else:
            key = f"logits:{answer.name}" if len(graph.outputs) > 1 else "logits"
            arrays[key] = _narrow(values[-1])
    count = sum(a.size for name, a in arrays.items() if name != "input")
    arrays["digest"] = np.array(graph.digest)
    make_folder(folder)
    files = folder / NAME, folder / SCRIPT
    archive = io.BytesIO()
    np.savez_compressed(archive, allow_pickle=False, **arrays)
    write_atomic(files[0], archive.getvalue())
    write_atomic(files[1], Path(__file__).with_name(SCRIPT).read_bytes())
    rates = {n: firing_rate(graph, n, recording.values[n]) for n in graph.firing}
    return Golden(files, rates, count)


def _narrow(values: IntArray) -> npt.NDArray[np.signedinteger[Any]]:
    return values.astype(narrowest_dtype(IntRange(int(values.min()), int(values.max()))))
