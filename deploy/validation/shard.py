"""What is found of one shard: answers and mismatches of each sample, and of each layer."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lapilli.deploy.comparison.compare import Pixels, Preprocessed
from lapilli.deploy.comparison.divergence import facts, first_divergence, first_input
from lapilli.deploy.validation.images import ImageSet
from lapilli.deploy.validation.layers import Layers, Row
from lapilli.deploy.validation.machine import machine
from lapilli.deploy.validation.plan import Plan
from lapilli.ir.errors import MismatchError
from lapilli.ir.network import Network
from lapilli.ir.recording import Recording
from lapilli.ir.tensor import IntArray
from lapilli.simulators.protocol import Executable

if TYPE_CHECKING:
    from lapilli.quantize.pytorch.float_module import FloatRun


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """PyTorch's side.

    Attributes:
        reference: the quantized module.
        in_float: runs the author's own model, before any integer.
        preprocessing: how it prepares images, where something but the file says so.
    """

    reference: Executable
    in_float: Callable[[Pixels], FloatRun]
    preprocessing: Preprocessed | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """A network, what runs its graph, and PyTorch's side, if there is one."""

    network: Network
    executable: Executable
    witness: Witness | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What was found of one shard.

    Attributes:
        samples: a row for each image; layers: a row for each node that is recorded.
        first: the first divergence, as JSON; None if there is none.
        whole: whether all images were run; not, where one differed and that was to end it.
        run: seconds and machine.
    """

    samples: list[Row]
    layers: list[Row]
    first: str | None
    whole: bool
    run: Row = field(default_factory=dict)


def validate_shard(
    sides: Sides,
    images: ImageSet,
    plan: Plan,
    shard: int,
    *,
    batch: int,
    stop: bool = False,
    advance: Callable[[int], None] | None = None,
) -> Result:
    """Run the images of a shard, `batch` at a time.

    Args:
        sides: what is run.
        images: the images.
        plan: which are in the shard, and which of them are compared.
        shard: its number.
        batch: images at a time; memory grows with it.
        stop: go no further than the first batch in which something differs.
        advance: called with the number of images that another batch had.

    Raises:
        ImageError: an image cannot be read, or the network does not take it.
        MismatchError: a side recorded nothing of a node, or another shape.
    """
    began, numbers = time.perf_counter(), plan.samples(shard)
    samples, layers, first = [], Layers(sides.network.graph), None
    for start in range(0, len(numbers), batch):
        some = numbers[start : start + batch]
        read = images.read(some)
        rows = _lost(some, read.indices.tolist(), read.unreadable)
        if len(read.indices):
            rows += _Batch(sides, plan, layers, read.indices.tolist(), read.pixels).rows()
        rows.sort(key=lambda row: int(row["sample"]))
        for row in rows:
            if images.labels is not None:
                row["label"] = int(images.labels[row["sample"]])
        samples += rows
        told = [row["divergence"] for row in rows if "divergence" in row]
        first = first or (told[0] if told else None)
        if advance is not None:
            advance(len(some))
        if stop and first is not None:
            break
    return Result(
        samples=samples,
        layers=layers.rows(),
        first=first,
        whole=len(samples) == len(numbers),
        run={"shard": shard, "seconds": time.perf_counter() - began, **machine()},
    )


def _lost(some: range, readable: list[int], sentences: tuple[str, ...]) -> list[Row]:
    missing = sorted({*some} - {*readable})
    return [
        {"sample": number, "compared": 0, "mismatches": 0, "unreadable": sentence}
        for number, sentence in zip(missing, sentences, strict=True)
    ]


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    """Images that run at once."""

    sides: Sides
    plan: Plan
    layers: Layers
    numbers: list[int]
    pixels: Pixels

    def rows(self) -> list[Row]:
        """Run them, and return a row for each."""
        network, witness = self.sides.network, self.sides.witness
        output = network.graph.outputs[0]
        given = network.encode(self.pixels)
        got = self.sides.executable.run(given)
        rows: list[Row] = [
            {"sample": n, "integer": best, "compared": 0, "mismatches": 0}
            for n, best in zip(self.numbers, _best(got.values[output][-1]), strict=True)
        ]
        self.layers.add(got)
        if witness is None:
            return rows
        real = witness.in_float(self.pixels)
        for row, best in zip(rows, _best(real.logits), strict=True):
            row["float"], row["float_mismatches"] = best, 0
        for node, spikes in real.spikes.items():
            differs = _by_sample(spikes, got.values[node])
            self.layers.add_float(node, spikes, int(differs.sum()))
            for row, count in zip(rows, differs.tolist(), strict=True):
                row["float_mismatches"] += count
        chosen = [i for i, n in enumerate(self.numbers) if self.plan.is_compared(n)]
        if chosen:
            self._compare(witness, given, got, np.array(chosen, np.intp), rows)
        return rows

    def _compare(
        self,
        witness: Witness,
        given: dict[str, IntArray],
        got: Recording,
        chosen: npt.NDArray[np.intp],
        rows: list[Row],
    ) -> None:
        """Compare the chosen images with the quantized module, and add what differs to rows."""
        network, graph = self.sides.network, self.sides.network.graph
        own = network
        if witness.preprocessing is not None:
            own = replace(network, input=witness.preprocessing.input)
        mine = own.encode(self.pixels[chosen])
        want, have = witness.reference.run(mine), _chosen(got, chosen)
        for i, best in zip(chosen, _best(want.values[graph.outputs[0]][-1]), strict=True):
            rows[i]["pytorch"] = best

        def count(node: str, one: IntArray, other: IntArray) -> None:
            if one.shape != other.shape:
                raise MismatchError(f"{node!r}: shape {other.shape}, expected {one.shape}")
            differs = _by_sample(one, other)
            for i, found in zip(chosen, differs.tolist(), strict=True):
                rows[i]["compared"] += one.size // len(chosen)
                rows[i]["mismatches"] += found
            self.layers.add_compared(node, one.size, int(differs.sum()))

        for fact in facts(graph, want, have):
            count(fact.node, fact.expected, fact.got)
        first = first_divergence(graph, want, have)
        if witness.preprocessing is not None:
            shown = {name: array[:, chosen] for name, array in given.items()}
            for name, array in shown.items():
                count(name, mine[name], array)
            first = first_input(mine, shown) or first
        if first is not None:
            at = int(chosen[first.sample])
            told = replace(first, sample=rows[at]["sample"])
            rows[at]["divergence"] = json.dumps({**asdict(told), "text": str(told)}, sort_keys=True)


def _best(logits: npt.NDArray[Any]) -> list[Any]:
    """Return the classes of the five largest logits; of equal ones the first class first."""
    best: list[Any] = np.argsort(-logits, axis=-1, kind="stable")[:, :5].tolist()
    return best


def _by_sample(one: IntArray, other: IntArray) -> npt.NDArray[np.int64]:
    """Count what differs between arrays (T, B, ...), for each sample."""
    differs = np.moveaxis(one != other, 1, 0)
    counted: npt.NDArray[np.int64] = differs.reshape(len(differs), -1).sum(axis=1)
    return counted


def _chosen(got: Recording, chosen: npt.NDArray[np.intp]) -> Recording:
    """Return what was recorded of some samples of a batch."""
    values, membranes, currents, digests = (
        {name: array[:, chosen] for name, array in kept.items()}
        for kept in (got.values, got.membranes, got.currents, got.current_digests)
    )
    return Recording(values, membranes, currents, digests)
