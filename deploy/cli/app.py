"""The command line. Each command prints a table, or with --json the same facts."""

from __future__ import annotations

import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lapilli.deploy.cli import exchange as cli_exchange
from lapilli.deploy.cli import files as cli_files
from lapilli.deploy.cli import frame
from lapilli.deploy.cli.conformance import conformance
from lapilli.deploy.cli.doctor import examine, fix, need
from lapilli.deploy.cli.files import DIGITS, AsJson, NetworkFile
from lapilli.deploy.cli.frame import print_json, printable
from lapilli.deploy.comparison.targets import NAMES, target
from lapilli.ir.errors import InputError
from lapilli.ir.version import __version__
from lapilli.simulators.lava.shared.run_config import SIMULATED

if TYPE_CHECKING:
    from lapilli.simulators.protocol import Executable

app = typer.Typer(add_completion=False)
app.command("import")(cli_exchange.import_nir)
app.command()(cli_exchange.golden)
for command in (cli_files.inspect, cli_files.show, cli_files.export, cli_files.check, conformance):
    app.command()(command)

Config = Annotated[
    str | None, typer.Option(help="The model's configuration as JSON, if the file has none.")
]
Preset = Annotated[
    str | None, typer.Option(help="The published model it is: see `lapilli inspect`.")
]
Numbers = Annotated[str, typer.Option(help="Comma-separated, one per channel, of pixel / 255.")]
Arguments = Annotated[
    list[str] | None, typer.Option(help="name=value for CLASS_OR_FACTORY; repeat for several.")
]
Unused = Annotated[
    list[str] | None, typer.Option(help="Pattern of keys in --checkpoint that nothing uses.")
]
Layout = Annotated[str, typer.Option(help="Of its images: BCHW, BTCHW or TBCHW.")]
Counts = Annotated[bool, typer.Option(help="The images are numbers of events.")]
Result = Annotated[
    str | None, typer.Option(help="Which result holds the logits: an index or a key.")
]
PerSample = Annotated[
    bool, typer.Option(help="Where state leaks between samples, take batches of one.")
]
Bits = Annotated[int, typer.Option(min=2, max=8, help="Bits of a weight.")]
RunConfig = Annotated[
    str, typer.Option(help="Of Lava: PACKAGE.MODULE:NAME, or FILE.py:NAME; see docs/lava.md.")
]
SIMULATORS = f"One of {', '.join(NAMES)}; or your own: FILE.py:NAME, or PACKAGE.MODULE:NAME."
Source = Annotated[str, typer.Option(help="'digits', or an .npz with uint8 'images', 'labels'.")]


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
    from lapilli.deploy.cli import report
    from lapilli.deploy.cli.demo import demo as run
    from lapilli.deploy.cli.progress import Bars

    results = []
    with Bars(quiet=as_json) as bars:
        for result in run(out, bars, lava_images=lava_images, lava=lava):
            results.append(result)
            if not as_json:
                bars.hide()
                report.print_result(result)
    if as_json:
        print_json({"models": [report.result_facts(r) for r in results]})
    else:
        picture, network = (
            shlex.quote(printable(str(f))) for f in (out / "digit.png", results[0].files[0])
        )
        own = shlex.quote(frame.program())
        typer.echo(f"\nnow try: {own} run {network} {picture}\n         {own} show {network}")
    if not all(r.exact for r in results):
        raise typer.Exit(1)


@app.command()
def quantize(
    model: Annotated[
        str,
        typer.Argument(
            help="A checkpoint (.safetensors, .pt, .pth), or FILE.py:CLASS_OR_FACTORY, "
            "or PACKAGE.MODULE:CLASS_OR_FACTORY."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .lapilli file to write.")],
    calibration: Source = DIGITS,
    config: Config = None,
    preset: Preset = None,
    mean: Numbers = "",
    std: Numbers = "",
    arg: Arguments = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Parameters of CLASS_OR_FACTORY's model.")
    ] = None,
    unused: Unused = None,
    layout: Layout = "BCHW",
    counts: Counts = False,
    result: Result = None,
    per_sample: PerSample = False,
    bits: Bits = 8,
    input_bits: Annotated[int, typer.Option(min=2, max=16, help="Bits of a pixel.")] = 8,
    as_json: AsJson = False,
) -> None:
    """Turn a checkpoint, or a model of your own, into an integer graph."""
    need("torch")
    from lapilli.deploy.cli import flow, modules, report
    from lapilli.deploy.cli import images as image_files
    from lapilli.export.native import save_network

    training = image_files.training_images(calibration)
    if modules.is_source(model):
        own = modules.OwnModel(
            source=model,
            arguments=modules.arguments_from(arg or ()),
            checkpoint=checkpoint,
            unused=tuple(unused or ()),
            mean=_numbers(mean),
            std=_numbers(std),
            layout=layout,
            counts=counts,
            output=_index_or_key(result),
            per_sample=per_sample,
        )
        quantized = modules.quantize_own(own, training, weight_bits=bits, input_bits=input_bits)
    else:
        overrides = flow.Overrides(
            config=config, preset=preset, mean=_numbers(mean), std=_numbers(std)
        )
        opened = flow.open_checkpoint(Path(model), overrides)
        quantized = flow.quantize_checkpoint(
            opened, training, weight_bits=bits, input_bits=input_bits
        )
    save_network(quantized.network, output)
    facts = {**report.network_facts(quantized.network), "notes": list(quantized.notes)}
    if as_json:
        print_json({**facts, "file": str(output)})
    else:
        report.print_facts(str(output), facts)


@app.command()
def run(
    network: NetworkFile,
    images: Annotated[list[Path], typer.Argument(help="Picture files.")],
    simulator: Annotated[str, typer.Option(help=SIMULATORS)] = "reference",
    run_config: RunConfig = SIMULATED,
    as_json: AsJson = False,
) -> None:
    """Classify pictures on a simulator; needs no PyTorch."""
    from lapilli.deploy.cli import images as image_files
    from lapilli.deploy.cli.progress import Bars
    from lapilli.export.native import load_network

    _check_for_lava(run_config, [simulator])
    loaded = load_network(network)
    pixels = image_files.pictures(images, loaded)
    with Bars(quiet=as_json) as bars:
        executable = target(simulator, bars.lava, run_config).compile(loaded.graph)
        _tell_size(executable, quiet=as_json)
        recording = executable.run(loaded.encode(pixels))
    logits = recording.values[loaded.graph.outputs[0]][-1]
    answers = loaded.classify(logits)
    if as_json:
        print_json(
            [
                {"image": str(i), "answer": a, "logits": row, "simulator": simulator}
                for i, a, row in zip(images, answers, logits.tolist(), strict=True)
            ]
        )
        return
    for image, answer in zip(images, answers, strict=True):
        typer.echo(printable(f"{image}: {answer}"))


@app.command()
def compare(
    network: NetworkFile,
    checkpoint: Annotated[
        Path | None, typer.Option(help="The checkpoint it was made from: compare with PyTorch.")
    ] = None,
    module: Annotated[
        str | None, typer.Option(help="FILE.py:CLASS_OR_FACTORY that it was made from.")
    ] = None,
    simulator: Annotated[
        list[str] | None, typer.Option(help=f"Any of {', '.join(NAMES)}; repeat for several.")
    ] = None,
    images: Source = DIGITS,
    count: Annotated[int | None, typer.Option(min=1, help="Only the first images.")] = None,
    calibration: Source = DIGITS,
    config: Config = None,
    preset: Preset = None,
    mean: Numbers = "",
    std: Numbers = "",
    arg: Arguments = None,
    unused: Unused = None,
    layout: Layout = "BCHW",
    counts: Counts = False,
    result: Result = None,
    per_sample: PerSample = False,
    bits: Bits = 8,
    run_config: RunConfig = SIMULATED,
    as_json: AsJson = False,
) -> None:
    """Compare every neuron at every step; status 1 if a single one differs.

    With --checkpoint, or --module for a class of your own, the other side is PyTorch, else the
    reference simulator. The other options are those with which the network was quantized.
    """
    from lapilli.deploy.cli import images as image_files
    from lapilli.deploy.cli import report
    from lapilli.deploy.cli.progress import Bars
    from lapilli.deploy.comparison import runners
    from lapilli.deploy.comparison.compare import compare as compare_runs
    from lapilli.export.native import load_network

    _check_for_lava(run_config, simulator or [])
    loaded = load_network(network)
    test = image_files.test_images(images).first(count)
    expected: runners.Runner = runners.Simulated(loaded, target("reference"))
    if arg and module is None:
        raise InputError("--arg is for a class of your own; name it: --module FILE.py:CLASS")
    if checkpoint is not None or module is not None:
        need("torch")
        from lapilli.deploy.cli import flow, modules

        training = image_files.training_images(calibration)
        if module is not None:
            own = modules.OwnModel(
                source=modules.check_source(module),
                arguments=modules.arguments_from(arg or ()),
                checkpoint=checkpoint,
                unused=tuple(unused or ()),
                mean=_numbers(mean),
                std=_numbers(std),
                layout=layout,
                counts=counts,
                output=_index_or_key(result),
                per_sample=per_sample,
            )
            again = modules.quantize_own(own, training, weight_bits=bits)
        else:
            overrides = flow.Overrides(
                config=config, preset=preset, mean=_numbers(mean), std=_numbers(std)
            )
            opened = flow.open_checkpoint(checkpoint or Path(), overrides)
            again = flow.quantize_checkpoint(opened, training, weight_bits=bits)
        expected = runners.PyTorch(loaded, again.reference)
    names = simulator or (
        ["event-driven"] if expected.name == "reference" else ["reference", "event-driven"]
    )
    done = []
    with Bars(quiet=as_json) as bars:
        for name in names:
            bars.stage(name, len(test.pixels))
            runner = runners.Simulated(loaded, target(name, bars.lava, run_config))
            _tell_size(runner.executable, quiet=as_json)
            batch = len(test.pixels) if name.startswith("lava") else 60
            done.append(
                compare_runs(
                    loaded, expected, runner, test.pixels, batch=batch, progress=bars.advance
                )
            )
    if as_json:
        print_json({"comparisons": [report.comparison_facts(c) for c in done]})
    else:
        report.print_comparisons(done)
        report.print_rates(done[0])
    if not all(c.exact for c in done):
        raise typer.Exit(1)


@app.command()
def doctor(
    repair: Annotated[bool, typer.Option("--fix", help="Build Lava's environment.")] = False,
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


def _tell_size(executable: Executable, *, quiet: bool) -> None:
    """What a stock network takes, before it is built in Lava."""
    from lapilli.simulators.lava.host.stock import StockExecutable

    if isinstance(executable, StockExecutable) and not quiet:
        typer.echo(f"stock Lava: {executable.size}")


def _check_for_lava(run_config: str, simulators: list[str]) -> None:
    if run_config != SIMULATED and not any(name.startswith("lava") for name in simulators):
        raise InputError("--run-config is Lava's; name it: --simulator lava, or lava-stock")


def _index_or_key(result: str | None) -> int | str | None:
    return int(result) if result and result.isdecimal() else result


def _numbers(given: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in given.split(",") if part)
    except ValueError as error:
        raise typer.BadParameter(f"{given!r} is no list of numbers") from error
