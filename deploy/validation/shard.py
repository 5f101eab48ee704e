"""What is found of one shard: answers and mismatches of each sample, and of each layer."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from lapilli.deploy.validation.batch import Batch
from lapilli.deploy.validation.images import ImageSet
from lapilli.deploy.validation.layers import Layers, Row
from lapilli.deploy.validation.machine import machine
from lapilli.deploy.validation.plan import Plan
from lapilli.deploy.validation.sides import Sides


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
            rows += Batch(sides, plan, layers, read.indices.tolist(), read.pixels).rows()
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
