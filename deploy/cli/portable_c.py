"""`lapilli export --c`: a folder of portable C, with the vectors that prove it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lapilli.deploy.cli.frame import printable

if TYPE_CHECKING:
    from lapilli.ir.network import Network

Folder = Annotated[
    Path | None, typer.Option("--c", help="The folder of C99 to write, new or empty.")
]
Name = Annotated[
    str, typer.Option("--c-name", help="In C: what its files and functions begin with.")
]
Golden = Annotated[
    Path | None,
    typer.Option(help="With --c: the golden.npz that its program compares with; else random."),
]
Flash = Annotated[
    int | None, typer.Option("--c-flash", min=1, help="KiB of constants that C may take.")
]
Ram = Annotated[
    int | None, typer.Option("--c-ram", min=1, help="KiB of RAM that a whole sample in C may take.")
]
StepRam = Annotated[
    int | None,
    typer.Option("--c-step-ram", min=1, help="KiB of RAM that one step per call in C may take."),
]


def write_c(
    network: Network,
    folder: Path,
    name: str,
    golden: Path | None,
    kib: tuple[int | None, int | None, int | None],
) -> dict[str, Any]:
    """Write the folder, and return what is told of it.

    Args:
        network: loaded.
        folder: to write.
        name: of the network in C.
        golden: the vectors; None for random ones.
        kib: limits of constants, of a whole sample's RAM, and of one step's.
    """
    from lapilli.deploy.comparison.vectors import silent, vectors_of
    from lapilli.export.c.sources import sources
    from lapilli.export.c.writer import Limits, check_limits, save_c

    flash, sample, step = (None if k is None else k << 10 for k in kib)
    limits = Limits(flash=flash, sample=sample, step=step)
    check_limits(sources(network.graph, name), limits)  # before minutes on the reference
    vectors = vectors_of(network, golden)
    written = save_c(network, folder, vectors, name=name, limits=limits)
    if names := silent(network, vectors):
        told = printable(", ".join(names))
        typer.echo(f"never fire on these vectors, and show nothing: {told}", err=True)
    return {
        "file": str(folder),
        "format": "c99",
        "constants": written.flash,
        "sample_ram": written.sample,
        "step_ram": written.step,
        "samples": written.samples,
        "values": written.values,
        "next": f"make -C {shlex.quote(str(folder))} check",
    }
