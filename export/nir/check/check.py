"""Will this `.nir` file run in that framework as NIR says? Node by node, before anybody tries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from lapilli.export.nir.check import gate
from lapilli.export.nir.check.frameworks import IMPORTERS, Importer, Rule, Verdict
from lapilli.export.nir.read.nodes import DEFAULTS, NirNode
from lapilli.export.nir.read.reader import NirFile, read_nir
from lapilli.ir.errors import InputError

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


def check_file(path: Path, framework: str, memory_limit: int | None = None) -> list[Finding]:
    """Judge every node of a `.nir` file of anybody's; see `check_read`.

    Args:
        path: of the file.
        framework: whose importer.
        memory_limit: bytes that its numbers may take; see `limits.justified`.

    Raises:
        FormatError: it cannot be read, or has graphs in its graph.
        InputError: a framework that nobody knows.
    """
    _importer(framework)  # before a large file is read
    return check_read(read_nir(path, memory_limit), framework)


def check_read(file: NirFile, framework: str) -> list[Finding]:
    """Judge every node of a file for one framework's importer, and `nir.read` in front of it.

    A file that `nir.read` refuses has a finding for each reason, and no others: no importer
    sees its nodes.

    Raises:
        InputError: a framework that nobody knows.
    """
    importer = _importer(framework)
    if refused := gate.unsupported(file):
        return [
            Finding(
                r.node,
                file.nodes[r.node].type if r.node in file.nodes else "NIRGraph",
                Verdict.REFUSED,
                f"nir.read refuses the file: {r.reason}",
            )
            for r in refused
        ]
    nodes = {name: (node.type, _fields(node)) for name, node in file.nodes.items()}
    return _checked(nodes, file.edges, importer)


def summary(findings: Sequence[Finding], framework: str) -> str:
    """Return the verdict on a whole file in one line: how many nodes are judged how."""
    counts = Counter(finding.verdict for finding in findings)
    exact = counts.pop(Verdict.EXACT, 0)
    if not counts:
        return f"runs exactly in {framework}, all {exact} nodes"
    others = ", ".join(f"{counts[v]} {v.value}" for v in Verdict if v in counts)
    return f"does not run exactly in {framework}: {others}; exact: {exact}"


def check(graph: Any, framework: str) -> list[Finding]:
    """Judge every node of a `nir.NIRGraph` for one framework's importer.

    Raises:
        InputError: a framework that nobody knows.
    """
    importer = _importer(framework)
    findings = []
    nodes = {name: (type(node).__name__, node) for name, node in graph.nodes.items()}
    for finding in _checked(nodes, graph.edges, importer):
        if finding.kind == "NIRGraph":
            inner = check(graph.nodes[finding.node], framework)
            findings += [replace(f, node=f"{finding.node}.{f.node}") for f in inner]
        else:
            findings.append(finding)
    return findings


def _importer(framework: str) -> Importer:
    if framework not in IMPORTERS:
        raise InputError(f"no rules for {framework!r}; there are {', '.join(IMPORTERS)}")
    return IMPORTERS[framework]


def _fields(node: NirNode) -> SimpleNamespace:
    """Fields by name, as nir's own nodes have them."""
    return SimpleNamespace(**{**DEFAULTS, **node.arrays, **node.texts})


def _checked(
    nodes: Mapping[str, tuple[str, Any]], edges: Iterable[tuple[str, str]], importer: Importer
) -> list[Finding]:
    edges = list(edges)
    arriving = Counter(target for _, target in edges)
    looped = _looped(nodes, edges)
    twins = Counter(name.replace(".", "_") for name in nodes)
    ends = Counter(kind for kind, _ in nodes.values())
    findings = []
    for name, (kind, node) in nodes.items():
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
        with np.errstate(all="ignore"):  # what r = 0 makes infinite equals nothing: not exact
            rules.append(next(rule for rule in own if rule.when(node)))
        worst = max(rules, key=lambda rule: _SEVERITY.index(rule.verdict))
        findings.append(Finding(name, kind, worst.verdict, worst.reason))
    return findings


_SEVERITY = (Verdict.EXACT, Verdict.APPROXIMATE, Verdict.DROPPED, Verdict.REFUSED)


def _looped(nodes: Iterable[str], edges: Iterable[tuple[str, str]]) -> set[str]:
    """Names of the nodes of one loop, if there is any."""
    before: dict[str, set[str]] = {name: set() for name in nodes}
    for source, target in edges:
        before[target].add(source)
    try:
        TopologicalSorter(before).prepare()
    except CycleError as error:
        return set(error.args[1])
    return set()
