"""Will this `.nir` file run in that framework as NIR says? Node by node, before anybody tries."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import nir

from lapilli.export.nir_rules import IMPORTERS, Importer, Rule, Verdict
from lapilli.ir.errors import FormatError, InputError

_LOOP = Rule(Verdict.APPROXIMATE, "is part of a loop: NIR says no order, and importers differ")
_TWO_ENTRIES = Rule(Verdict.REFUSED, "a graph can have one of these")
_LONGER = Rule(Verdict.APPROXIMATE, "several edges arrive here, and nobody adds them up")
_TWIN = Rule(Verdict.APPROXIMATE, "has the name of another node when '.' becomes '_'")


@dataclass(frozen=True, slots=True)
class Finding:
    """The verdict on one node; nodes of nested graphs are called `outer.inner`."""

    node: str
    kind: str
    verdict: Verdict
    reason: str


def check_file(path: Path, framework: str) -> list[Finding]:
    """Judge every node of a `.nir` file; see `check`.

    Raises:
        FormatError: it cannot be read.
        InputError: a framework that nobody knows.
    """
    try:
        graph = nir.read(path)
    except Exception as error:  # whatever h5py and nir raise on a file that is none
        raise FormatError(path, f"no NIR file ({type(error).__name__}: {error})") from error
    return check(graph, framework)


def check(graph: Any, framework: str) -> list[Finding]:
    """Judge every node of a `nir.NIRGraph` for one framework's importer.

    Raises:
        InputError: a framework that nobody knows.
    """
    if framework not in IMPORTERS:
        raise InputError(f"no rules for {framework!r}; there are {', '.join(IMPORTERS)}")
    return _checked(graph, IMPORTERS[framework], "")


def _checked(graph: Any, importer: Importer, prefix: str) -> list[Finding]:
    arriving = Counter(target for _, target in graph.edges)
    looped = _looped(graph)
    twins = Counter(name.replace(".", "_") for name in graph.nodes)
    ends = Counter(type(node).__name__ for node in graph.nodes.values())
    findings = []
    for name, node in graph.nodes.items():
        kind = type(node).__name__
        if kind == "NIRGraph":
            findings += _checked(node, importer, f"{prefix}{name}.")
            continue
        rules = []
        if kind in ("Input", "Output") and ends[kind] > 1:
            rules.append(_TWO_ENTRIES)
        if twins[name.replace(".", "_")] > 1:
            rules.append(_TWIN)
        if arriving[name] > 1:
            if importer.branches:
                rules.append(importer.branches)
            elif kind == "Output":
                rules.append(_LONGER)
        if name in looped:
            rules.append(_LOOP)
        own = importer.table.get(kind, (importer.unknown,))
        rules.append(next(rule for rule in own if rule.when(node)))
        worst = max(rules, key=lambda rule: _SEVERITY.index(rule.verdict))
        findings.append(Finding(prefix + name, kind, worst.verdict, worst.reason))
    return findings


_SEVERITY = (Verdict.EXACT, Verdict.APPROXIMATE, Verdict.DROPPED, Verdict.REFUSED)


def _looped(graph: Any) -> set[str]:
    """Names of the nodes of one loop, if there is any."""
    before: dict[str, set[str]] = {name: set() for name in graph.nodes}
    for source, target in graph.edges:
        before[target].add(source)
    try:
        TopologicalSorter(before).prepare()
    except CycleError as error:
        return set(error.args[1])
    return set()
