"""The command `validate`: a whole test set, shard by shard, resumable."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lapilli.deploy.cli.comparing import expected_side
from lapilli.deploy.cli.doctor import need
from lapilli.deploy.cli.files import DIGITS, AsJson, NetworkFile
from lapilli.deploy.cli.frame import print_json
from lapilli.deploy.cli.models import ModelOptions, open_model
from lapilli.deploy.cli.options import SIMULATORS
from lapilli.deploy.comparison.targets import target
from lapilli.ir.errors import InputError

if TYPE_CHECKING:
    from lapilli.deploy.validation.shard import Witness
    from lapilli.ir.network import Network


def validate(
    network: NetworkFile,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of results; resumes there.")],
    data: Annotated[str, typer.Option(help="'digits', or an .npz of images and labels.")] = DIGITS,
    checkpoint: Annotated[
        Path | None, typer.Option(help="The checkpoint it was made from.")
    ] = None,
    module: Annotated[
        str | None, typer.Option(help="FILE.py:CLASS_OR_FACTORY that it was made from.")
    ] = None,
    simulator: Annotated[str, typer.Option("--simulator", "--on", help=SIMULATORS)] = "reference",
    count: Annotated[int | None, typer.Option(min=1, help="Only the first images.")] = None,
    shard_size: Annotated[int, typer.Option(min=1, help="Images of a shard.")] = 256,
    share: Annotated[str, typer.Option(help="Of the images, compared spike by spike.")] = "1",
    batch: Annotated[
        int | None, typer.Option(min=1, help="Images at a time; by default what 3 GiB take.")
    ] = None,
    shard: Annotated[str, typer.Option(help="K/N: only the part of machine K of N.")] = "1/1",
    stop: Annotated[bool, typer.Option("--stop", help="End at the first divergence.")] = False,
    as_json: AsJson = False,
) -> None:
    """Validate a network on a whole test set; killed at any point, it resumes.

    Status 1 if a value differs, a layer shows nothing, or shards are missing at the end.
    """
    need("pyarrow")
    from lapilli.deploy.cli import images as image_files
    from lapilli.deploy.cli.progress import Bars
    from lapilli.deploy.comparison.compare import affordable_batch
    from lapilli.deploy.validation.plan import Plan, slice_of
    from lapilli.deploy.validation.run import validate as validate_set
    from lapilli.deploy.validation.shard import Sides
    from lapilli.deploy.validation.store import Store
    from lapilli.export.native import load_network

    loaded = load_network(network)
    test = image_files.held_out_images(data, image_files.how_for(loaded), count)
    test.require_fit(loaded)
    plan = Plan(images=len(test.pixels), shard=shard_size, share=_fraction(share))
    witness = _witness(loaded, checkpoint, module)
    size = batch or affordable_batch(loaded.graph)
    options = {
        "network": loaded.digest,
        "data": test.facts()["sha256"],
        "images": plan.images,
        "shard_size": shard_size,
        "share": str(plan.share),
        "simulator": simulator,
        "batch": size,
        "with_model": witness is not None,
    }
    store, own = Store(out, options), slice_of(shard, plan.shards)
    with Bars(quiet=as_json) as bars:
        executable = target(simulator, bars.lava).compile(loaded.graph)
        sides = Sides(network=loaded, executable=executable, witness=witness)
        bars.stage("shards", len(own))
        facts = validate_set(
            store, sides, plan, own, test.pixels, test.labels,
            batch=size, stop=stop, progress=bars.advance,
        )  # fmt: skip
    if facts is None:
        missing = [s for s in range(plan.shards) if not store.is_done(s)]
        facts = {"verdict": "incomplete", "missing": missing}
    if as_json:
        print_json(facts)
    else:
        typer.echo(f"{out}: {facts['verdict']}")
        if "compared" in facts:
            typer.echo(f"{facts['compared']:,} values, {facts['mismatches']:,} mismatches")
            for side, found in facts["accuracy"].items():
                typer.echo(f"{side}: {found['top1']} of {found['of']} right")
    if facts["verdict"] not in ("exact", "not compared with PyTorch"):
        raise typer.Exit(1)


def _fraction(share: str) -> Fraction:
    try:
        return Fraction(share)
    except (ValueError, ZeroDivisionError) as error:
        raise InputError(f"--share {share}: say a number such as 0.1") from error


def _witness(network: Network, checkpoint: Path | None, module: str | None) -> Witness | None:
    if checkpoint is None and module is None:
        return None
    need("torch")
    from lapilli.deploy.cli.flow import float_logits, normalised_as
    from lapilli.deploy.cli.modules import check_source
    from lapilli.deploy.validation.shard import Witness

    asked = ModelOptions(checkpoint=checkpoint).remembered(network)
    source = str(checkpoint) if module is None else check_source(module)
    model = open_model(source, asked, len(network.input.mean))
    reference, preprocessing = expected_side(network, model, other_parameters=False)
    made, own = network.recipe, normalised_as(model, network)
    if made is None:  # `expected_side` has refused
        return None
    return Witness(
        reference=reference,
        logits=lambda pixels: float_logits(own, pixels, made),
        preprocessing=preprocessing,
    )
