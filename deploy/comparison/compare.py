"""Run the same images twice and compare every neuron at every time step. No tolerance."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lapilli.deploy.comparison.divergence import Divergence, facts, first_divergence, first_input
from lapilli.ir.errors import MismatchError
from lapilli.ir.graph import Graph
from lapilli.ir.network import InputQuantizer, Network
from lapilli.ir.recipe import Note
from lapilli.ir.recording import Recording
from lapilli.ir.tensor import IntArray
from lapilli.pictures.tables import paragraphs, table
from lapilli.simulators.protocol import Executable, ReadsMembranes

Progress = Callable[[int], None]
Pixels = npt.NDArray[Any]  # bytes of images, or numbers of what is none
_MOST_BYTES = 3 << 30


@dataclass(frozen=True, slots=True)
class Preprocessed:
    """What a model's own side knows of images and answers, independently of a file.

    Attributes:
        input: how it encodes images.
        classes: its names of the answers; empty if it has none.
    """

    input: InputQuantizer
    classes: tuple[str, ...] = ()

    def renamed(self, others: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
        """Pairs of names, its own and another's, that differ."""
        if not self.classes:
            return ()
        pairs = zip_longest(self.classes, others, fillvalue="(none)")
        return tuple((mine, other) for mine, other in pairs if mine != other)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What was compared, and what came out.

    Attributes:
        expected, got: names of the two runs.
        images: how many; compared: how many values, logits included.
        mismatches: values that differ.
        kinds: of inputs, currents, membranes, spikes, logits and other values, how many were
            compared and how many differ.
        rates: node that fires -> mean spikes per neuron and time step, of `got`, in parts of
            the most that it can fire.
        still: membranes that are read and were one number everywhere.
        answers: index of the largest logit of each image, of `got`; none where the answer names
            no class, or one for each place.
        maps: the class of each place (H, W) of each image, of `got`, where there are such.
        renamed: classes that the model's own side calls otherwise: expected, got.
        warnings: what the network's recipe says against it; exact is not enough.
        preprocessing_checked: whether the encoded images of both sides were made independently.
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
    kinds: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    still: tuple[str, ...] = ()
    answers: tuple[int, ...] = ()
    maps: tuple[IntArray, ...] = field(default=(), repr=False, compare=False)
    renamed: tuple[tuple[str, str], ...] = ()
    warnings: tuple[Note, ...] = ()
    preprocessing_checked: bool = False
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
        agrees = not self.mismatches and not self.renamed
        return self.compared > 0 and agrees and not self.vacuous

    def __str__(self) -> str:
        head = (
            f"{self.got} against {self.expected}: {self.compared:,} values of {self.images} "
            f"images compared, {self.mismatches:,} mismatches"
        )
        if self.first is not None:
            return f"{head}\n{self.first}"
        if self.renamed:
            expected, got = self.renamed[0]
            return f"{head}; class names differ: expected {expected!r}, got {got!r}"
        if self.vacuous:
            return f"{head}; shows nothing about {', '.join(self.vacuous)}: silent or saturated"
        if not self.rates:
            return head
        return (
            f"{head}; firing rates {min(self.rates.values()):.1%} to {max(self.rates.values()):.1%}"
        )

    def _repr_html_(self) -> str:
        """Show a notebook what was compared, and the first divergence."""
        facts = {
            "verdict": "exact" if self.exact else "differs" if self.mismatches else "not shown",
            "expected": self.expected,
            "got": self.got,
            "images": f"{self.images:,}",
            "values compared": f"{self.compared:,}",
            "mismatches": f"{self.mismatches:,}",
            **({"shows nothing about": ", ".join(self.vacuous)} if self.vacuous else {}),
        }
        told = table((), list(facts.items()), caption=f"{self.got} against {self.expected}")
        return told + (paragraphs(str(self.first).splitlines()) if self.first else "")

    def require(self) -> None:
        """Do nothing if exact.

        Raises:
            MismatchError: with the first divergence, or the layers that never fired.
        """
        if not self.exact:
            raise MismatchError(str(self))


def compare(
    network: Network,
    expected: Executable,
    got: Executable,
    pixels: Pixels,
    *,
    names: tuple[str, str] = ("pytorch", "simulator"),
    batch: int | None = None,
    progress: Progress | None = None,
    preprocessing: Preprocessed | None = None,
) -> Comparison:
    """Run both on the same images, some at a time, and compare what both recorded.

    Args:
        network: whose graph both run.
        expected: usually `quantized.reference`: the author's module in PyTorch.
        got: usually a simulator's, `Reference().compile(network.graph)`.
        pixels: images (count, C, H, W) of bytes, or (count, T, C, H, W).
        names: of the two, for reports.
        batch: images per run; by default as many as memory takes, see `affordable_batch`.
        progress: called with the number of images done.
        preprocessing: what the model's own side knows of images and answers; then encoded images
            and names of classes are compared as well.
    """
    (comparison,) = compare_all(
        network,
        expected,
        {names[1]: got},
        pixels,
        name=names[0],
        batch=batch,
        progress=progress,
        preprocessing=preprocessing,
    )
    return comparison


def compare_all(
    network: Network,
    expected: Executable,
    others: Mapping[str, Executable],
    pixels: Pixels,
    *,
    name: str = "pytorch",
    batch: int | None = None,
    progress: Progress | None = None,
    preprocessing: Preprocessed | None = None,
) -> list[Comparison]:
    """Like `compare`, with several executables by name against one that runs once."""
    parts: dict[str, list[Comparison]] = {other: [] for other in others}
    batch = batch or affordable_batch(network.graph)
    for start in range(0, len(pixels), batch):
        images = pixels[start : start + batch]
        for other, part in _compared(network, expected, others, images, preprocessing, start):
            parts[other].append(part)
        if progress:
            progress(start + len(images))
    renamed = preprocessing.renamed(network.classes) if preprocessing else ()
    warnings = tuple(n for n in network.recipe.notes if n.is_warning) if network.recipe else ()
    return [
        replace(
            _total(done, other, name),
            renamed=renamed,
            warnings=warnings,
            preprocessing_checked=preprocessing is not None,
        )
        for other, done in parts.items()
    ]


def _compared(
    network: Network,
    expected: Executable,
    others: Mapping[str, Executable],
    images: Pixels,
    preprocessing: Preprocessed | None,
    first_sample: int,
) -> Iterator[tuple[str, Comparison]]:
    """Compare one batch; its recordings end with it, before the next one is run."""
    given = network.encode(images)
    own = given
    if preprocessing is not None:
        own = replace(network, input=preprocessing.input).encode(images)
    want = expected.run(own)
    for other, executable in others.items():
        have = executable.run(given)
        part = compare_recordings(network.graph, want, have, first_sample=first_sample)
        part = _with_labels(part, network.labels(have))
        del have
        part = _with_membrane(part, executable, given, want, first_sample)
        yield other, part if preprocessing is None else _with_inputs(part, own, given, first_sample)


def affordable_batch(graph: Graph, most: int | None = None) -> int:
    """Images at a time so that two recordings take `most` bytes; one, if that takes more.

    Each has currents, membranes and spikes of every neuron, in 64 bits. By default 3 GiB, or a
    quarter of the memory that is free, if that is less.
    """
    recorded = graph.T * sum(math.prod(graph.types[name].shape) for name in graph.recorded)
    most = min(_MOST_BYTES, _free_memory() // 4) if most is None else most
    return max(1, most // (2 * 3 * 8 * recorded))


def _free_memory() -> int:
    """Bytes that a process can still take; as many as matter, where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(x.split()[1]) << 10 for x in lines if x.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return 4 * _MOST_BYTES


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
    kinds: dict[str, tuple[int, int]] = {}
    for fact in facts(graph, expected, got):
        if fact.expected.shape != fact.got.shape:
            raise MismatchError(
                f"{fact.kind} of {fact.node!r}: shape {fact.got.shape}, "
                f"expected {fact.expected.shape}"
            )
        differ = int(np.count_nonzero(fact.expected != fact.got))
        kinds = added(kinds, {fact.kind: (fact.got.size, differ)})
    compared, mismatches = (sum(counts[k] for counts in kinds.values()) for k in (0, 1))
    return Comparison(
        expected="expected",
        got="got",
        images=_images(graph, got),
        compared=compared,
        mismatches=mismatches,
        kinds=kinds,
        rates={n: firing_rate(graph, n, got.values[n]) for n in graph.firing},
        still=tuple(n for n in graph.membranes if np.ptp(got.values[n]) == 0),
        synops=got.synops or 0,
        steps=got.steps or 0,
        seconds=got.seconds or 0.0,
        first=first_divergence(graph, expected, got, first_sample) if mismatches else None,
    )


def _with_labels(part: Comparison, labels: IntArray | None) -> Comparison:
    if labels is None:
        return part
    if labels.ndim > 1:
        return replace(part, maps=tuple(labels))
    return replace(part, answers=tuple(labels.tolist()))


def _with_inputs(
    part: Comparison,
    own: Mapping[str, IntArray],
    given: Mapping[str, IntArray],
    first_sample: int,
) -> Comparison:
    """Count encoded images among what was compared; one that differs comes before all else."""
    (name,) = given
    differ = int(np.count_nonzero(own[name] != given[name]))
    part = replace(
        part,
        compared=part.compared + given[name].size,
        mismatches=part.mismatches + differ,
        kinds=added({"input": (given[name].size, differ)}, part.kinds),
    )
    first = first_input(own, given, first_sample)
    return part if first is None else replace(part, first=first)


def _with_membrane(
    part: Comparison,
    executable: Executable,
    inputs: Mapping[str, IntArray],
    want: Recording,
    first_sample: int,
) -> Comparison:
    """Go back for the membrane of a first divergence, where a run did not record it."""
    first = part.first
    if first is None or first.node not in want.membranes or first.membranes[1] is not None:
        return part
    if not isinstance(executable, ReadsMembranes):
        return part
    sample = first.sample - first_sample
    mine = want.membranes[first.node][first.t, sample]
    read = executable.membrane(inputs, first.node, first.t, sample)
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


def added(
    one: Mapping[str, tuple[int, int]], other: Mapping[str, tuple[int, int]]
) -> dict[str, tuple[int, int]]:
    """Add counts of compared and different values, kind by kind."""
    kinds = dict(one)
    for kind, (compared, mismatches) in other.items():
        before = kinds.get(kind, (0, 0))
        kinds[kind] = (before[0] + compared, before[1] + mismatches)
    return kinds


def firing_rate(graph: Graph, name: str, values: IntArray) -> float:
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
        kinds=functools.reduce(added, (p.kinds for p in parts), {}),
        rates={n: sum(p.rates[n] * p.images for p in parts) / images for n in names},
        still=tuple(n for n in parts[0].still if all(n in p.still for p in parts)) if parts else (),
        answers=tuple(a for p in parts for a in p.answers),
        maps=tuple(m for p in parts for m in p.maps),
        first=min(firsts, key=lambda d: d.t, default=None),
        synops=sum(p.synops for p in parts),
        steps=sum(p.steps for p in parts),
        seconds=sum(p.seconds for p in parts),
    )
