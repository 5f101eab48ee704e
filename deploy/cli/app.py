"""The command line. Each command prints a table, or with --json the same facts."""

from __future__ import annotations

import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from lapilli.deploy.cli import exchange as cli_exchange
from lapilli.deploy.cli import files as cli_files
from lapilli.deploy.cli import frame
from lapilli.deploy.cli.comparing import compare
from lapilli.deploy.cli.conformance import conformance
from lapilli.deploy.cli.costing import cost
from lapilli.deploy.cli.doctor import examine, fix, need
from lapilli.deploy.cli.files import AsJson
from lapilli.deploy.cli.finetuning import finetune
from lapilli.deploy.cli.frame import print_json, printable
from lapilli.deploy.cli.quantizing import quantize
from lapilli.deploy.cli.reporting import report
from lapilli.deploy.cli.running import run
from lapilli.deploy.cli.showing import show
from lapilli.deploy.cli.training import train
from lapilli.deploy.cli.validating import validate
from lapilli.ir.version import __version__

app = typer.Typer(add_completion=False)
app.command("import")(cli_exchange.import_nir)
app.command()(cli_exchange.golden)
for command in (
    train,
    finetune,
    quantize,
    run,
    compare,
    validate,
    cost,
    report,
    cli_files.inspect,
    show,
    cli_files.export,
    cli_files.check,
    conformance,
):
    app.command()(command)


def main() -> None:
    """Run the command line; see `frame` for how it ends."""
    sys.exit(frame.run(app, sys.argv[1:] or ["--help"]))


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lapilli {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
    debug: Annotated[  # read by `frame`, wherever it stands
        bool, typer.Option("--debug", help="Show the traceback of whatever ends a command.")
    ] = False,
) -> None:
    """Put trained Spiking Transformers on neuromorphic hardware; prove that nothing changed."""


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the files.")] = Path("lapilli-demo"),
    lava_images: Annotated[int, typer.Option(min=1, max=360, help="Images through Lava.")] = 64,
    lava: Annotated[bool, typer.Option(help="Run Lava too.")] = True,
    as_json: AsJson = False,
) -> None:
    """The whole flow on real images: two trained networks, PyTorch to Lava and back."""
    need("torch")
    need("pyarrow")
    need("jinja2")
    from lapilli.deploy.cli import demo_tables
    from lapilli.deploy.cli.demo import demo as run
    from lapilli.deploy.cli.progress import Bars

    results = []
    with Bars(quiet=as_json) as bars:
        for result in run(out, bars, lava_images=lava_images, lava=lava):
            results.append(result)
            if not as_json:
                bars.hide()
                demo_tables.print_result(result)
    if as_json:
        print_json({"models": [demo_tables.result_facts(r) for r in results]})
    else:
        picture, network = (
            shlex.quote(printable(str(f))) for f in (out / "digit.png", results[0].files[0])
        )
        own = frame.program()
        typer.echo(f"\nnow try: {own} run {network} {picture}\n         {own} show {network}")
        for result in results:
            typer.echo(f"report: {printable(str(result.report))}")
    if not all(r.exact for r in results):
        raise typer.Exit(1)


@app.command()
def doctor(
    repair: Annotated[
        bool, typer.Option("--fix", help="Build the environments of Lava and nengo-loihi.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say what is installed, missing or broken, and the command that mends it.

    Status 1 if something is there and does not work; what is missing is optional.
    """
    if repair:
        fix(lambda step: typer.echo(f"lapilli: {step}", err=True))
    findings = examine()
    if as_json:
        print_json({"lapilli": __version__, "findings": [asdict(f) for f in findings]})
    else:
        for finding in findings:
            typer.echo(printable(str(finding)))
    if any(f.broken for f in findings):
        raise typer.Exit(1)
