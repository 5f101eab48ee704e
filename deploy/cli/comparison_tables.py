"""What commands say of comparisons and of accuracy: tables for people, and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lapilli.deploy.cli.frame import printable
from lapilli.deploy.cli.tables import note_facts
from lapilli.deploy.comparison.overlap import mean_overlap
from lapilli.ir.tensor import IntArray

if TYPE_CHECKING:  # printing needs no PyTorch and no onnx
    from lapilli.deploy.comparison.compare import Comparison


def comparison_facts(comparison: Comparison) -> dict[str, Any]:
    """One comparison as JSON."""
    first = comparison.first
    return {
        "expected": comparison.expected,
        "got": comparison.got,
        "images": comparison.images,
        "compared": comparison.compared,
        "mismatches": comparison.mismatches,
        "kinds": {kind: list(counts) for kind, counts in comparison.kinds.items()},
        "exact": comparison.exact,
        "vacuous": list(comparison.vacuous),
        "renamed": [list(pair) for pair in comparison.renamed],
        "warnings": [note_facts(note) for note in comparison.warnings],
        "preprocessing_checked": comparison.preprocessing_checked,
        "rates": comparison.rates,
        "synops": comparison.synops,
        "steps": comparison.steps,
        "seconds": comparison.seconds,
        "first": None
        if first is None
        else {
            "node": first.node,
            "kind": first.kind,
            "t": first.t,
            "sample": first.sample,
            "index": list(first.index),
            "expected": first.expected,
            "got": first.got,
            "membranes": list(first.membranes),
            "currents": list(first.currents),
            "threshold": first.threshold,
            "cause": first.cause,
            "text": str(first),
            "around": None if first.around is None else asdict(first.around),
        },
    }


def print_comparisons(comparisons: Sequence[Comparison]) -> None:
    """A row for each; the first divergence below; firing rates if all is well."""
    table = Table("simulator", "against", "images", "values compared", "mismatches", "verdict")
    for c in comparisons:
        verdict = "[green]exact[/]" if c.exact else "[red]vacuous[/]"
        if c.mismatches:
            verdict = "[red]differs[/]"
        numbers = (f"{c.images}", f"{c.compared:,}", f"{c.mismatches:,}")
        table.add_row(c.got, c.expected, *numbers, verdict)
    Console().print(table)
    for c in comparisons:
        if not c.exact:
            Console().print(str(c), markup=False, soft_wrap=True)


def print_rates(comparison: Comparison) -> None:
    """Firing rate of every neuron node."""
    table = Table("neurons", "spikes per neuron and step")
    for name, rate in comparison.rates.items():
        table.add_row(Text(printable(name)), f"{rate:.2%}")
    Console().print(table)


def accuracy_facts(
    comparison: Comparison,
    labels: IntArray | None,
    in_float: int | Fraction | None,
    classes: int,
) -> dict[str, Any]:
    """How many images, or the mean IoU of maps, integers and float have right.

    Nothing without labels, or of answers that name no class.
    """
    if labels is None or not (comparison.answers or comparison.maps):
        return {}
    kind = "mean_iou" if comparison.maps else "right"
    if comparison.maps:
        integers: int | float = float(mean_overlap(comparison.maps, labels, classes))
    else:
        pairs = zip(comparison.answers, labels.tolist(), strict=True)
        integers = sum(a == b for a, b in pairs)
    facts = {"labelled": len(labels), f"integer_{kind}": integers}
    if in_float is None:
        return facts
    return {**facts, f"float_{kind}": float(in_float) if comparison.maps else in_float}


def print_accuracy(facts: dict[str, Any]) -> None:
    """A line, where labels are known."""
    if not facts:
        return
    of, told = facts["labelled"], []
    for name in ("float", "integer"):
        if f"{name}_mean_iou" in facts:
            told.append(f"{name} {facts[f'{name}_mean_iou']:.2%}")
        elif f"{name}_right" in facts:
            right = facts[f"{name}_right"]
            told.append(f"{name.replace('er', 'ers')} {right / of:.2%} ({right} of {of})")
    what = "mean IoU" if "integer_mean_iou" in facts else "accuracy"
    Console().print(f"{what}: {', '.join(told)}")
