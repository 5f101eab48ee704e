"""The command line. Each command prints a table, or with --json the same facts."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from lapilli import __version__
from lapilli.deploy import cli_exchange
from lapilli.deploy import images as image_files
from lapilli.deploy.doctor import examine, fix
from lapilli.deploy.progress import Bars
from lapilli.deploy.targets import NAMES, target
from lapilli.export.file import load_network, save_network
from lapilli.export.nir_dialect import Flavour
from lapilli.ir import text
from lapilli.ir.errors import InputError, LapilliError, SimulatorUnavailableError
from lapilli.simulators.lava.run_config import SIMULATED
from lapilli.simulators.lava.stock.running import StockExecutable
from lapilli.simulators.protocol import Executable

app = typer.Typer(
    help="Put trained Spiking Transformers on neuromorphic hardware; prove that nothing changed.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_errors = Console(stderr=True)
app.command("import")(cli_exchange.import_nir)
app.command()(cli_exchange.golden)

AsJson = Annotated[bool, typer.Option("--json", help="Print the facts as JSON.")]
NetworkFile = Annotated[Path, typer.Argument(help="A .lapilli file.")]
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
Source = Annotated[str, typer.Option(help="'digits', or an .npz with uint8 'images', 'labels'.")]


def main() -> None:
    """Run; an error of ours is one sentence and status 2, everything else is a bug."""
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    try:
        app()
    except LapilliError as error:
        if debug:
            raise
        _errors.print(f"lapilli: {error}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        _errors.print("lapilli: interrupted")
        sys.exit(130)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the files.")] = Path("lapilli-demo"),
    lava_images: Annotated[int, typer.Option(min=1, max=360, help="Images through Lava.")] = 64,
    lava: Annotated[bool, typer.Option(help="Run Lava too.")] = True,
    as_json: AsJson = False,
) -> None:
    """The whole flow on real images: two trained networks, PyTorch to Lava and back."""
    _need_torch()
    from lapilli.deploy import report
    from lapilli.deploy.demo import demo as run

    results = []
    with Bars(quiet=as_json) as bars:
        for result in run(out, bars, lava_images=lava_images, lava=lava):
            results.append(result)
            if not as_json:
                bars.hide()
                report.print_result(result)
    if as_json:
        _print_json({"models": [report.result_facts(r) for r in results]})
    else:
        picture, network = out / "digit.png", results[0].files[0]
        typer.echo(f"\nnow try: lapilli run {network} {picture}\n         lapilli show {network}")
    if not all(r.exact for r in results):
        raise typer.Exit(1)


@app.command()
def inspect(
    file: Annotated[Path, typer.Argument(help="A checkpoint or a .lapilli file.")],
    latency: Annotated[
        bool, typer.Option("--latency", help="Of a .lapilli file: when Lava shows each node.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say what a checkpoint or a graph file is, and what to run next."""
    from lapilli.deploy import report

    if latency:
        _need_scipy()
        from lapilli.deploy.latency import lava_latencies

        found = lava_latencies(load_network(file).graph)
        if as_json:
            _print_json(report.latency_facts(found))
        else:
            report.print_latencies(found)
        return
    if file.suffix == ".lapilli":
        facts = report.network_facts(load_network(file))
        facts["next"] = f"lapilli run {file} IMAGE.png"
    else:
        _need_torch()
        from lapilli.deploy.inspection import checkpoint_facts

        facts = checkpoint_facts(file)
    if as_json:
        _print_json(facts)
    else:
        report.print_facts(str(file), facts)


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
    calibration: Source = image_files.DIGITS,
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
    _need_torch()
    from lapilli.deploy import flow, modules, report

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
        _print_json({**facts, "file": str(output)})
    else:
        report.print_facts(str(output), facts)


@app.command()
def run(
    network: NetworkFile,
    images: Annotated[list[Path], typer.Argument(help="Picture files.")],
    simulator: Annotated[str, typer.Option(help=", ".join(NAMES))] = "reference",
    run_config: RunConfig = SIMULATED,
    as_json: AsJson = False,
) -> None:
    """Classify pictures on a simulator; needs no PyTorch."""
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
        _print_json(
            [
                {"image": str(i), "answer": a, "logits": row, "simulator": simulator}
                for i, a, row in zip(images, answers, logits.tolist(), strict=True)
            ]
        )
        return
    for image, answer in zip(images, answers, strict=True):
        typer.echo(f"{image}: {answer}")


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
    images: Source = image_files.DIGITS,
    count: Annotated[int | None, typer.Option(min=1, help="Only the first images.")] = None,
    calibration: Source = image_files.DIGITS,
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
    from lapilli.deploy import report, runners
    from lapilli.deploy.compare import compare as compare_runs

    _check_for_lava(run_config, simulator or [])
    loaded = load_network(network)
    test = image_files.test_images(images).first(count)
    expected: runners.Runner = runners.Simulated(loaded, target("reference"))
    if arg and module is None:
        raise InputError("--arg is for a class of your own; name it: --module FILE.py:CLASS")
    if checkpoint is not None or module is not None:
        _need_torch()
        from lapilli.deploy import flow, modules

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
        _print_json({"comparisons": [report.comparison_facts(c) for c in done]})
    else:
        report.print_comparisons(done)
        report.print_rates(done[0])
    if not all(c.exact for c in done):
        raise typer.Exit(1)


@app.command()
def show(network: NetworkFile, as_json: AsJson = False) -> None:
    """Print the graph, a line per node, with what is proved of each value."""
    loaded = load_network(network)
    listing = text.dumps(loaded.graph)
    if as_json:
        _print_json({"digest": loaded.graph.digest, "graph": listing.splitlines()})
    else:
        typer.echo(listing, nl=False)


@app.command()
def export(
    network: NetworkFile,
    nir: Annotated[Path | None, typer.Option(help="The .nir file to write.")] = None,
    onnx: Annotated[
        Path | None, typer.Option(help="The .onnx file to write: all time steps in one Scan.")
    ] = None,
    onnx_step: Annotated[
        Path | None, typer.Option(help="The .onnx file to write: one time step, state in and out.")
    ] = None,
    net: Annotated[
        Path | None, typer.Option(help="The .net file of lava-dl to write, if it is a chain.")
    ] = None,
    inlined: Annotated[
        bool, typer.Option(help="Neurons in ONNX as plain operators, not as functions.")
    ] = False,
    flavour: Annotated[
        Flavour, typer.Option(help="For whom: integers as they are; every importer; chain readers.")
    ] = Flavour.CANONICAL,
    max_neurons: Annotated[
        int, typer.Option(min=1, help="Refuse a NIR graph of more binary neurons than this.")
    ] = 1_000_000,
    as_json: AsJson = False,
) -> None:
    """Write the graph in other formats; says how many neurons NIR takes before it is built."""
    from lapilli.deploy import report

    if nir is None and onnx is None and onnx_step is None and net is None:
        raise typer.BadParameter("nothing to write: give --nir, --onnx, --onnx-step or --net")
    loaded = load_network(network)
    written: list[dict[str, Any]] = []
    if nir is not None:
        from lapilli.export.nir import save_nir
        from lapilli.ir.passes.binary import size

        found = size(loaded.graph)
        if not as_json:
            typer.echo(f"as binary neurons: {found}")
        save_nir(loaded, nir, max_neurons, flavour)
        cost = {"neurons": found.neurons, "depth": found.depth, "synapses": found.synapses}
        written.append(
            {
                "file": str(nir),
                "format": f"nir {flavour.value}",
                "bytes": nir.stat().st_size,
                **cost,
            }
        )
    if net is not None:
        from lapilli.export.net import save_net

        written.append({"file": str(net), "format": "net", **asdict(save_net(loaded, net))})
    for file, step in ((onnx, False), (onnx_step, True)):
        if file is not None:
            _need_onnx()
            from lapilli.export.onnx import save_onnx

            model = save_onnx(loaded, file, step=step, inlined=inlined)
            written.append({"file": str(file), **report.onnx_facts(model)})
    if as_json:
        _print_json({"files": written})
        return
    for facts in written:
        told = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in facts.items()
                         if key != "file" and value != [])  # fmt: skip
        typer.echo(f"wrote {facts['file']}: {told}")


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="A .nir file, of lapilli or not.")],
    framework: Annotated[str, typer.Option("--for", help="Whose importer: snntorch, norse, ...")],
    as_json: AsJson = False,
) -> None:
    """Say what a framework's importer makes of each node of a .nir file; status 1 unless exact."""
    from lapilli.export.nir_check import check_file
    from lapilli.export.nir_rules import Verdict

    findings = check_file(file, framework)
    if as_json:
        facts = [{**asdict(f), "verdict": f.verdict.value} for f in findings]
        _print_json({"file": str(file), "for": framework, "nodes": facts})
    else:
        for f in findings:
            typer.echo(f"{f.node:30} {f.kind:10} {f.verdict.value}: {f.reason}")
    if any(f.verdict is not Verdict.EXACT for f in findings):
        raise typer.Exit(1)


@app.command()
def doctor(
    repair: Annotated[bool, typer.Option("--fix", help="Build Lava's environment.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say what is installed, what is missing, and the command that mends it."""
    if repair:
        fix(lambda step: _errors.print(f"lapilli: {step}", markup=False))
    findings = examine()
    if as_json:
        _print_json({"lapilli": __version__, "findings": [asdict(f) for f in findings]})
    else:
        for f in findings:
            state = f.version or f"missing; {f.remedy}"
            typer.echo(f"{f.what:13} {state}  ({f.gives})")
    if any(f.remedy for f in findings):
        raise typer.Exit(1)


def _tell_size(executable: Executable, *, quiet: bool) -> None:
    """What a stock network takes, before it is built in Lava."""
    if isinstance(executable, StockExecutable) and not quiet:
        typer.echo(f"stock Lava: {executable.size}")


def _check_for_lava(run_config: str, simulators: list[str]) -> None:
    if run_config != SIMULATED and not any(name.startswith("lava") for name in simulators):
        raise InputError("--run-config is Lava's; name it: --simulator lava, or lava-stock")


def _print_json(facts: object) -> None:
    typer.echo(json.dumps(facts, indent=2))


def _index_or_key(result: str | None) -> int | str | None:
    return int(result) if result and result.isdecimal() else result


def _numbers(given: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in given.split(",") if part)
    except ValueError as error:
        raise typer.BadParameter(f"{given!r} is no list of numbers") from error


def _need_onnx() -> None:
    try:
        importlib.import_module("onnx")
    except ImportError as error:
        raise SimulatorUnavailableError(
            "writing ONNX files needs onnx: pip install 'lapilli[onnx]'"
        ) from error


def _need_scipy() -> None:
    try:
        importlib.import_module("scipy")
    except ImportError as error:
        raise SimulatorUnavailableError(
            "balancing delays needs SciPy: pip install 'lapilli[lava]'"
        ) from error


def _need_torch() -> None:
    try:
        importlib.import_module("torch")
    except ImportError as error:
        raise SimulatorUnavailableError(
            "this command needs PyTorch: pip install 'lapilli[torch]' "
            "(run, show and inspect of a .lapilli file work without)"
        ) from error
