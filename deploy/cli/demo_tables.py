"""What `lapilli demo` says of a model: lines for people, and JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console

from lapilli.deploy.cli.comparison_tables import comparison_facts, print_comparisons
from lapilli.deploy.cli.frame import printable
from lapilli.deploy.cli.tables import note_facts

if TYPE_CHECKING:  # printing needs no PyTorch and no onnx
    from lapilli.deploy.cli.demo import Result


def result_facts(result: Result) -> dict[str, Any]:
    """One model of the demo as JSON."""
    return {
        "model": result.model,
        "images": result.images,
        "float_right": result.float_right,
        "int_right": result.int_right,
        "exact": result.exact,
        "simulators": {
            c.got: {"compared": c.compared, "mismatches": c.mismatches, **comparison_facts(c)}
            for c in result.comparisons
        },
        "seconds": result.seconds,
        "notes": [note_facts(note) for note in result.notes],
        "files": [str(f) for f in result.files],
        "report": str(result.report),
    }


def print_result(result: Result) -> None:
    """One model of the demo."""
    Console().rule(f"[bold]{result.model}")
    share = result.images / 100
    Console().print(
        f"accuracy: float {result.float_right / share:.2f} %, int8 {result.int_right / share:.2f} %"
        f" ({result.float_right} and {result.int_right} of {result.images} test images)"
    )
    print_comparisons(result.comparisons)
    for c in result.comparisons:
        if c.steps and c.seconds:
            rate = c.steps / c.seconds
            Console().print(f"{c.got}: {c.steps} steps in {c.seconds:.1f} s, {rate:.0f} steps/s")
    if result.comparisons:
        rates = result.comparisons[0].rates.values()
        Console().print(
            f"firing rates: {min(rates):.1%} to {max(rates):.1%} in {len(rates)} layers"
        )
    for note in result.notes:
        Console().print(f"note: {note}", markup=False)
    stages = ", ".join(f"{name} {s:.1f} s" for name, s in result.seconds.items())
    Console().print(f"time: {stages}")
    files = printable(", ".join(map(str, result.files)))
    Console().print(f"files: {files}", markup=False, soft_wrap=True)
