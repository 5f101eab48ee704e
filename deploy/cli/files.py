"""Commands that read one file and say what it is, or write it in another format."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from lapilli.deploy.cli import portable_c
from lapilli.deploy.cli.doctor import need
from lapilli.deploy.cli.frame import print_json as print_json
from lapilli.deploy.cli.frame import printable
from lapilli.deploy.cli.options import (
    Arguments,
    Attributes,
    Neurons,
    Parameters,
    Preset,
    PythonPath,
)
from lapilli.deploy.cli.outputs import check_outputs, destination
from lapilli.export import limits
from lapilli.export.atomic import check_new_folder
from lapilli.export.nir.write.flavour import Flavour
from lapilli.ir.targets.table import NAMES, named

AsJson = Annotated[bool, typer.Option("--json", help="Print the facts as JSON.")]
NetworkFile = Annotated[Path, typer.Argument(help="A .lapilli file.")]

MemoryLimit = Annotated[
    int | None,
    typer.Option(
        min=1, help="MiB that the numbers of a file may take; trusted files may need more."
    ),
]


def in_bytes(memory_limit: int | None) -> int | None:
    """Return bytes for what --memory-limit gives in MiB."""
    return None if memory_limit is None else memory_limit << 20


def inspect(
    file: Annotated[
        Path,
        typer.Argument(
            help="A checkpoint, or a .lapilli, .onnx, .nir, .net, .npz or .py file; with --for "
            "FILE.py:CLASS or PACKAGE.MODULE:CLASS, too."
        ),
    ],
    latency: Annotated[
        bool, typer.Option("--latency", help="Of a .lapilli file: when Lava shows each node.")
    ] = False,
    key: Annotated[
        str | None, typer.Option(help="Of a checkpoint with several sets of parameters: which.")
    ] = None,
    certificate: Annotated[
        str, typer.Option(help="Of a .lapilli file: what each node needs of this target's bits.")
    ] = "",
    chip: Annotated[
        str,
        typer.Option(
            "--for",
            help="What a model, trained or not, needs of this chip: loihi1, loihi2, speck, ..., or "
            "your own FILE.json. A class is imported and called.",
        ),
    ] = "",
    shape: Annotated[
        str | None,
        typer.Option(help="With --for: of an input, 3x32x32; of frames of events 10x2x34x34."),
    ] = None,
    arg: Arguments = None,
    attributes: Attributes = None,
    checkpoint: Parameters = None,
    preset: Preset = None,
    pythonpath: PythonPath = None,
    neuron: Neurons = None,
    as_json: AsJson = False,
) -> None:
    """Say what a file is, and what to run next; runs no code of the file, but with --for."""
    from lapilli.deploy.cli import network_tables, tables

    if chip:
        from lapilli.deploy.cli.chip_needs import print_needs
        from lapilli.deploy.cli.models import ModelOptions

        asked = ModelOptions(
            checkpoint=checkpoint,
            key=key,
            preset=preset,
            no_normalisation=True,
            arg=arg,
            attributes=attributes,
            pythonpath=pythonpath,
        )
        print_needs(str(file), chip, shape, asked, neuron or [], as_json=as_json)
        return
    if any(option is not None for option in (shape, arg, attributes, checkpoint, preset, neuron)):
        raise typer.BadParameter("--shape, --arg, --checkpoint and the like are for --for CHIP")
    if certificate:
        from lapilli.deploy.cli import certificates
        from lapilli.export.native import load_network

        if certificate not in NAMES:
            raise typer.BadParameter(f"{certificate!r} is none of {', '.join(NAMES)}")
        held = certificates.certificate_facts(load_network(file).graph, named(certificate))
        if as_json:
            print_json(held)
        else:
            certificates.print_certificate(held)
        return
    if latency:
        need("scipy")
        from lapilli.deploy.cli.latency import lava_latencies
        from lapilli.export.native import load_network

        found = lava_latencies(load_network(file).graph)
        if as_json:
            print_json(network_tables.latency_facts(found))
        else:
            network_tables.print_latencies(found)
        return
    facts = file_facts(file, key)
    if as_json:
        print_json(facts)
    else:
        tables.print_facts(str(file), facts)


def file_facts(file: Path, key: str | None = None) -> dict[str, Any]:
    """What `inspect` says of a file; runs no code of it.

    Raises:
        LapilliError: it cannot be read.
    """
    from lapilli.deploy.cli import network_tables
    from lapilli.deploy.cli.other_files import other_facts

    if file.suffix == ".lapilli":
        from lapilli.export.native import load_network

        facts = network_tables.network_facts(load_network(file))
        return {**facts, "next": f"lapilli run {file} IMAGE.png"}
    if file.suffix == ".onnx":
        need("onnx")
        from lapilli.export.onnx.reader import read_onnx

        return network_tables.onnx_file_facts(read_onnx(file))
    if (other := other_facts(file)) is not None:
        return other
    need("torch")
    from lapilli.deploy.cli.inspection import checkpoint_facts

    return checkpoint_facts(file, key)


def export(
    network: NetworkFile,
    nir: Annotated[
        Path | None, typer.Option(help="The .nir file to write; - for standard output.")
    ] = None,
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
    c: portable_c.Folder = None,
    c_name: portable_c.Name = "network",
    c_flash: portable_c.Flash = None,
    c_ram: portable_c.Ram = None,
    c_step_ram: portable_c.StepRam = None,
    golden: portable_c.Golden = None,
    memory_limit: MemoryLimit = None,
    as_json: AsJson = False,
) -> None:
    """Write the graph in other formats; says how many neurons NIR takes before it is built."""
    from lapilli.deploy.cli import network_tables
    from lapilli.export.native import load_network

    outputs = [file for file in (nir, net, onnx, onnx_step) if file is not None]
    if not outputs and c is None:
        raise typer.BadParameter("nothing to write: give --nir, --onnx, --onnx-step, --net or --c")
    to_stream = check_outputs(outputs, [network])
    if c is not None:
        check_new_folder(c)
    elif any(option is not None for option in (c_flash, c_ram, c_step_ram, golden)):
        raise typer.BadParameter("--golden and limits of memory are of C: give --c, too")
    loaded = load_network(network)
    written: list[dict[str, Any]] = []
    if nir is not None:
        need("nir")
        from lapilli.deploy.cli.progress import Bars
        from lapilli.export.nir.write.writer import save_nir
        from lapilli.ir.passes.binary import size

        found = size(loaded.graph)
        if not as_json:
            typer.echo(f"as binary neurons: {found}", err=to_stream)
        facts: dict[str, Any] = {"format": f"nir {flavour.value}"}
        with destination(nir) as file, Bars(quiet=as_json) as bars:
            bars.stage("nodes", None)
            needed = save_nir(loaded, file, flavour, in_bytes(memory_limit), bars.advance)
            facts["bytes"] = file.stat().st_size
        if needed > limits.justified(facts["bytes"]):
            facts["to_check_or_import"] = limits.enough(needed)
        cost = {"neurons": found.neurons, "depth": found.depth, "synapses": found.synapses}
        written.append({"file": str(nir), **facts, **cost})
    if net is not None:
        from lapilli.export.net.writer import save_net

        with destination(net) as file:
            facts = asdict(save_net(loaded, file))
        written.append({"file": str(net), "format": "net", **facts})
    for output, step in ((onnx, False), (onnx_step, True)):
        if output is not None:
            need("onnx")
            from lapilli.export.onnx.writer import save_onnx

            with destination(output) as file:
                model = save_onnx(loaded, file, step=step, inlined=inlined)
            written.append({"file": str(output), **network_tables.onnx_facts(model)})
    if c is not None:
        kib = (c_flash, c_ram, c_step_ram)
        written.append(portable_c.write_c(loaded, c, c_name, golden, kib))
    if as_json:
        print_json({"files": written}, err=to_stream)
        return
    for facts in written:
        told = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in facts.items()
                         if key != "file" and value != [])  # fmt: skip
        typer.echo(printable(f"wrote {facts['file']}: {told}"), err=to_stream)


def check(
    file: Annotated[Path, typer.Argument(help="A .nir file, of lapilli or not.")],
    framework: Annotated[
        str,
        typer.Option(
            "--for", help="Whose importer: snntorch, norse, ...; any other name lists them."
        ),
    ],
    memory_limit: MemoryLimit = None,
    as_json: AsJson = False,
) -> None:
    """Say what a framework's importer makes of each node of a .nir file; status 1 unless exact."""
    need("h5py")
    from lapilli.export.nir.check.check import check_file, summary
    from lapilli.export.nir.check.frameworks import Verdict

    findings = check_file(file, framework, in_bytes(memory_limit))
    verdict = summary(findings, framework)
    exact = all(f.verdict is Verdict.EXACT for f in findings)
    if as_json:
        facts = [{**asdict(f), "verdict": f.verdict.value} for f in findings]
        whole = {"exact": exact, "verdict": verdict}
        print_json({"file": str(file), "for": framework, **whole, "nodes": facts})
    else:
        for f in findings:
            typer.echo(printable(f"{f.node:30} {f.kind:10} {f.verdict.value}: {f.reason}"))
        typer.echo(printable(f"{file}: {verdict}"))
    if not exact:
        raise typer.Exit(1)
