"""What any command says: facts as rows, notes, warnings, and what rounding lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from lapilli.deploy.cli.frame import printable
from lapilli.ir.recipe import Note
from lapilli.ir.tensor import IntArray

if TYPE_CHECKING:  # printing needs no PyTorch and no onnx
    from lapilli.quantize.health import Health


def print_facts(title: str, facts: dict[str, Any], *, err: bool = False) -> None:
    """Print flat facts, a row each; on standard error where standard output takes a file."""
    table = Table("", escape(printable(title)))
    for key, value in facts.items():
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        table.add_row(key.replace("_", " "), Text(printable(text) or "none"))
    Console(stderr=err).print(table)


def note_facts(note: Note) -> dict[str, Any]:
    """A note as JSON."""
    return {"kind": note.kind.value, "path": note.path, "text": note.text}


def print_warnings(notes: Sequence[Note], *, err: bool = False) -> None:
    """What speaks against a network, however exact it is."""
    console = Console(stderr=err)
    for note in notes:
        if note.is_warning:
            console.print(printable(f"warning: {note}"), markup=False, soft_wrap=True)


def health_facts(health: Health, labels: IntArray | None) -> dict[str, Any]:
    """What rounding lost, and how float and integers answer some images of the calibration."""
    worst = max(health.zeroed, key=lambda n: health.zeroed[n], default="")
    facts: dict[str, Any] = {
        "examined": len(health.images),
        "weights_zeroed": {n: round(share, 4) for n, share in health.zeroed.items()},
        "most_zeroed": f"{worst}: {health.zeroed[worst]:.1%}" if worst else "",
        "same_answers": sum(
            a == b for a, b in zip(health.float_answers, health.integer_answers, strict=True)
        ),
    }
    if labels is not None and health.integer_answers:
        own = labels[list(health.images)].tolist()
        for name, answers in (("float", health.float_answers), ("integer", health.integer_answers)):
            facts[f"{name}_right"] = sum(a == b for a, b in zip(answers, own, strict=True))
    return facts
