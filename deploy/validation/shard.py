"""What is found of one shard: answers, mismatches of each sample, rates of each layer."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lapilli.deploy.comparison.compare import Pixels, Preprocessed
from lapilli.deploy.comparison.divergence import facts, first_divergence
from lapilli.deploy.validation.plan import Plan
from lapilli.deploy.validation.store import Row
from lapilli.ir.errors import MismatchError
from lapilli.ir.graph import Graph
from lapilli.ir.network import Network
from lapilli.ir.recording import Recording
from lapilli.simulators.protocol import Executable

Logits = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """PyTorch's side.

    Attributes:
        reference: the quantized module.
        logits: of the author's own model, (count, classes), before any integer.
        preprocessing: how it prepares images, where something but the file says so.
    """

    reference: Executable
    logits: Callable[[Pixels], Logits]
    preprocessing: Preprocessed | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """A network, what runs its graph, and PyTorch's side, if there is one."""

    network: Network
    executable: Executable
    witness: Witness | None


def validate_shard(
    sides: Sides,
    plan: Plan,
    shard: int,
    pixels: Pixels,
    labels: npt.NDArray[np.int64] | None,
    batch: int,
) -> tuple[list[Row], list[Row]]:
    """Run the images of a shard, `batch` at a time.

    Args:
        sides: what is run.
        plan: which samples are compared.
        shard: its number.
        pixels: its images (count, C, H, W), or (count, T, C, H, W), as bytes.
        labels: their classes (count,), where they are known.
        batch: images at a time; memory grows with it.

    Returns:
        A row for each sample, and one for each node that is recorded.

    Raises:
        MismatchError: a side recorded nothing of a node, or another shape.
    """
    numbers = plan.samples(shard)
    samples: list[Row] = []
    layers: dict[str, Row] = {}
    for start in range(0, len(numbers), batch):
        own = numbers[start : start + batch]
        images = pixels[start : start + batch]
        got = sides.executable.run(sides.network.encode(images))
        rows = _rows(sides, got, own, images)
        if labels is not None:
            for row, label in zip(rows, labels[start : start + batch].tolist(), strict=True):
                row["label"] = label
        _add_rates(sides.network.graph, got, layers)
        chosen = np.array([i for i, n in enumerate(own) if plan.is_compared(n)], np.intp)
        if sides.witness is not None and len(chosen):
            _compare(sides.network, sides.witness, images, got, chosen, rows, layers)
        samples += rows
    return samples, list(layers.values())


def _rows(sides: Sides, got: Recording, own: range, images: Pixels) -> list[Row]:
    integer = _best(got.values[sides.network.graph.outputs[0]][-1])
    real: list[Any] = [None] * len(own)
    if sides.witness is not None:
        real = _best(sides.witness.logits(images))
    return [
        {"sample": n, "float": f, "integer": i, "compared": 0, "mismatches": 0}
        for n, f, i in zip(own, real, integer, strict=True)
    ]


def _best(logits: npt.NDArray[Any]) -> list[Any]:
    """Return the classes of the five largest logits; of equal ones the first class first."""
    best: list[Any] = np.argsort(-logits, axis=-1, kind="stable")[:, :5].tolist()
    return best


def _add_rates(graph: Graph, got: Recording, layers: dict[str, Row]) -> None:
    for name in graph.recorded:
        values = got.values[name]
        row = layers.setdefault(name, {"node": name, "compared": 0, "mismatches": 0})
        if name in graph.firing:
            most = values.size * graph.types[name].range.magnitude
            row["events"] = row.get("events", 0) + int(np.abs(values).sum())
            row["most"] = row.get("most", 0) + most
        state = values if name in graph.membranes else got.membranes.get(name)
        if state is not None:
            row["lowest"] = min(row.get("lowest", int(state.min())), int(state.min()))
            row["highest"] = max(row.get("highest", int(state.max())), int(state.max()))


def _compare(
    network: Network,
    witness: Witness,
    images: Pixels,
    got: Recording,
    chosen: npt.NDArray[np.intp],
    rows: list[Row],
    layers: dict[str, Row],
) -> None:
    """Compare the chosen samples of a batch, and add what differs to its rows."""
    own = network
    if witness.preprocessing is not None:
        own = replace(network, input=witness.preprocessing.input)
    want, have = witness.reference.run(own.encode(images[chosen])), _chosen(got, chosen)
    logits = want.values[network.graph.outputs[0]][-1]
    for i, best in zip(chosen, _best(logits), strict=True):
        rows[i]["pytorch"] = best
    for fact in facts(network.graph, want, have):
        if fact.expected.shape != fact.got.shape:
            raise MismatchError(f"{fact.node!r}: shape {fact.got.shape}, not {fact.expected.shape}")
        differs = np.moveaxis(fact.expected != fact.got, 1, 0).reshape(len(chosen), -1)
        for i, found in zip(chosen, differs, strict=True):
            rows[i]["compared"] += found.size
            rows[i]["mismatches"] += int(found.sum())
        if fact.node in layers:
            layers[fact.node]["compared"] += differs.size
            layers[fact.node]["mismatches"] += int(differs.sum())
    first = first_divergence(network.graph, want, have)
    if first is not None:
        at = int(chosen[first.sample])
        told = replace(first, sample=rows[at]["sample"])
        rows[at]["divergence"] = json.dumps({**asdict(told), "text": str(told)}, sort_keys=True)


def _chosen(got: Recording, chosen: npt.NDArray[np.intp]) -> Recording:
    """Return what was recorded of some samples of a batch."""
    values, membranes, currents, digests = (
        {name: array[:, chosen] for name, array in kept.items()}
        for kept in (got.values, got.membranes, got.currents, got.current_digests)
    )
    return Recording(values, membranes, currents, digests)
