"""Simulators that ran a network, and what each was compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lapilli.deploy.network_report.sources import Facts, Sources


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A simulator that was compared with something.

    Attributes:
        simulator, against: what ran, and what it was compared with.
        images, compared, mismatches: how many were compared, and how many values.
        kinds: the same by kind: compared, mismatches; empty where nobody counted.
        first: the first divergence, or None.
        vacuous: layers whose equality shows nothing.
        renamed: classes that the model calls otherwise: its name, the network's.
    """

    simulator: str
    against: str
    images: int
    compared: int
    mismatches: int
    kinds: Mapping[str, Sequence[int]]
    first: Facts | None
    vacuous: Sequence[str]
    renamed: Sequence[Sequence[str]]

    @property
    def verdict(self) -> str:
        """Say exact, differs, vacuous, or not compared."""
        if self.mismatches or self.renamed:
            return "differs"
        if not self.compared:
            return "not compared"
        return "vacuous" if self.vacuous else "exact"


def runs_of(sources: Sources) -> tuple[Run, ...]:
    """Return every run that the sources tell of."""
    found = [
        Run(
            simulator=results.simulator,
            against="PyTorch",
            images=results.summary["images_compared"],
            compared=results.summary["compared"],
            mismatches=results.summary["mismatches"],
            kinds=results.summary["kinds"],
            first=results.summary["first"],
            vacuous=results.summary["vacuous"],
            renamed=results.summary["renamed"],
        )
        for results in sources.results
    ]
    return (*found, *(_compared(facts) for facts in sources.comparisons))


def _compared(facts: Facts) -> Run:
    against = str(facts["expected"])
    return Run(
        simulator=str(facts["got"]),
        against="PyTorch" if against == "pytorch" else against,
        images=facts["images"],
        compared=facts["compared"],
        mismatches=facts["mismatches"],
        kinds=facts["kinds"],
        first=facts["first"],
        vacuous=facts["vacuous"],
        renamed=facts["renamed"],
    )
