"""Run the same images twice and compare every neuron at every time step. No tolerance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lapilli.deploy.comparison.divergence import Divergence, facts, first_divergence
from lapilli.deploy.comparison.runners import Pixels, Runner, Simulated
from lapilli.ir.errors import MismatchError
from lapilli.ir.graph import Graph
from lapilli.ir.network import Network
from lapilli.ir.recording import Recording
from lapilli.ir.tensor import IntArray
from lapilli.simulators.protocol import ReadsMembranes

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What was compared, and what came out.

    Attributes:
        expected, got: names of the two runs.
        images: how many; compared: how many values, logits included.
        mismatches: values that differ.
        rates: node that fires -> mean spikes per neuron and time step, of `got`, in parts of
            the most that it can fire.
        still: membranes that are read and were one number everywhere.
        answers: index of the largest logit of each image, of `got`.
        first: the first divergence, if there is one.
        synops, steps, seconds: what `got` counted, if it does: accumulates, algorithmic
            steps of a pipelined target, and the time for them.
    """

    expected: str
    got: str
    images: int
    compared: int
    mismatches: int
    rates: dict[str, float]
    still: tuple[str, ...] = ()
    answers: tuple[int, ...] = ()
    first: Divergence | None = None
    synops: int = 0
    steps: int = 0
    seconds: float = 0.0

    @property
    def vacuous(self) -> tuple[str, ...]:
        """Nodes whose equality shows nothing: never or always fired, or a membrane at rest."""
        return (*(n for n, rate in self.rates.items() if rate in (0.0, 1.0)), *self.still)

    @property
    def exact(self) -> bool:
        """Whether everything agrees, something was compared, and every layer was alive."""
        return self.compared > 0 and not self.mismatches and not self.vacuous

    def __str__(self) -> str:
        head = (
            f"{self.got} against {self.expected}: {self.compared:,} values of {self.images} "
            f"images compared, {self.mismatches:,} mismatches"
        )
        if self.first is not None:
            return f"{head}\n{self.first}"
        if self.vacuous:
            return f"{head}; shows nothing about {', '.join(self.vacuous)}: silent or saturated"
        if not self.rates:
            return head
        return (
            f"{head}; firing rates {min(self.rates.values()):.1%} to {max(self.rates.values()):.1%}"
        )

    def require(self) -> None:
        """Do nothing if exact.

        Raises:
            MismatchError: with the first divergence, or the layers that never fired.
        """
        if not self.exact:
            raise MismatchError(str(self))


def compare(
    network: Network,
    expected: Runner,
    got: Runner,
    pixels: Pixels,
    *,
    batch: int = 60,
    progress: Progress | None = None,
) -> Comparison:
    """Run both on the same images, `batch` at a time, and compare what both recorded.

    Args:
        network: whose graph both run.
        expected: usually `PyTorch(network, quantized.reference)`.
        got: usually `Simulated(network, simulator)`.
        pixels: images (count, C, H, W) of bytes.
        batch: images per run; memory grows with it.
        progress: called with the number of images done.
    """
    (comparison,) = compare_all(network, expected, [got], pixels, batch=batch, progress=progress)
    return comparison


def compare_all(
    network: Network,
    expected: Runner,
    others: Sequence[Runner],
    pixels: Pixels,
    *,
    batch: int = 60,
    progress: Progress | None = None,
) -> list[Comparison]:
    """Like `compare`, with several runs against one that runs once."""
    parts: list[list[Comparison]] = [[] for _ in others]
    for start in range(0, len(pixels), batch):
        images = pixels[start : start + batch]
        want = expected.run(images)
        for runner, done in zip(others, parts, strict=True):
            have = runner.run(images)
            part = compare_recordings(network.graph, want, have, first_sample=start)
            part = _with_membrane(part, runner, images, want, start)
            done.append(replace(part, expected=expected.name, got=runner.name))
        if progress:
            progress(start + len(images))
    return [_total(done, e.name, expected.name) for done, e in zip(parts, others, strict=True)]


def compare_recordings(
    graph: Graph, expected: Recording, got: Recording, *, first_sample: int = 0
) -> Comparison:
    """Compare two recordings of one batch.

    Raises:
        MismatchError: something of `Graph.recorded` is missing, or has another shape.
    """
    for name in graph.recorded:
        if name not in expected.values or name not in got.values:
            raise MismatchError(f"nothing was recorded of {name!r}")
    compared = mismatches = 0
    for fact in facts(graph, expected, got):
        if fact.expected.shape != fact.got.shape:
            raise MismatchError(
                f"{fact.kind} of {fact.node!r}: shape {fact.got.shape}, "
                f"expected {fact.expected.shape}"
            )
        compared += fact.got.size
        mismatches += int(np.count_nonzero(fact.expected != fact.got))
    return Comparison(
        expected="expected",
        got="got",
        images=_images(graph, got),
        compared=compared,
        mismatches=mismatches,
        rates={n: _rate(graph, n, got.values[n]) for n in graph.firing},
        still=tuple(n for n in graph.membranes if np.ptp(got.values[n]) == 0),
        answers=tuple(got.values[graph.outputs[0]][-1].argmax(axis=-1).tolist()),
        synops=got.synops or 0,
        steps=got.steps or 0,
        seconds=got.seconds or 0.0,
        first=first_divergence(graph, expected, got, first_sample) if mismatches else None,
    )


def _with_membrane(
    part: Comparison, runner: Runner, pixels: Pixels, want: Recording, first_sample: int
) -> Comparison:
    """Go back for the membrane of a first divergence, where a run did not record it."""
    first = part.first
    if first is None or first.node not in want.membranes or first.membranes[1] is not None:
        return part
    if not isinstance(runner, Simulated) or not isinstance(runner.executable, ReadsMembranes):
        return part
    inputs, sample = runner.network.encode(pixels), first.sample - first_sample
    mine = want.membranes[first.node][first.t, sample]
    read = runner.executable.membrane(inputs, first.node, first.t, sample)
    index = first.index
    if len(differs := np.argwhere(mine != read)):
        index = tuple(int(i) for i in differs[0])
    current = int(want.currents[first.node][first.t, sample][index])
    return replace(
        part,
        first=replace(
            first,
            index=index,
            membranes=(int(mine[index]), int(read[index])),
            currents=(current, first.currents[1]),
        ),
    )


def _rate(graph: Graph, name: str, values: IntArray) -> float:
    """Mean spikes per neuron and step, of the most that it can fire in one."""
    return float(np.abs(values).mean()) / graph.types[name].range.magnitude


def _images(graph: Graph, recording: Recording) -> int:
    some: IntArray = recording.values[graph.outputs[0]]
    return int(some.shape[1])


def _total(parts: Sequence[Comparison], got: str, expected: str) -> Comparison:
    images = sum(p.images for p in parts)
    firsts = [p.first for p in parts if p.first is not None]
    names = parts[0].rates if parts else {}
    return Comparison(
        expected=expected,
        got=got,
        images=images,
        compared=sum(p.compared for p in parts),
        mismatches=sum(p.mismatches for p in parts),
        rates={n: sum(p.rates[n] * p.images for p in parts) / images for n in names},
        still=tuple(n for n in parts[0].still if all(n in p.still for p in parts)) if parts else (),
        answers=tuple(a for p in parts for a in p.answers),
        first=min(firsts, key=lambda d: d.t, default=None),
        synops=sum(p.synops for p in parts),
        steps=sum(p.steps for p in parts),
        seconds=sum(p.seconds for p in parts),
    )
