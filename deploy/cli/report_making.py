"""What the command `report` does: read, run what is to be run, and write two files."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lapilli.costs import pages
from lapilli.costs.report import CostReport, bounded
from lapilli.deploy.cli.outputs import keep_existing
from lapilli.deploy.cli.report_cores import USUAL, check_chip, cores_on
from lapilli.deploy.network_report import reading
from lapilli.deploy.network_report.html import html
from lapilli.deploy.network_report.report import NetworkReport, report_of
from lapilli.deploy.network_report.sources import Sources
from lapilli.export.atomic import write_atomic
from lapilli.export.native import load_network
from lapilli.ir.errors import InputError, OutputError
from lapilli.ir.network import Network

if TYPE_CHECKING:
    from lapilli.deploy.cli.validation_job import Job

COUNTED = 64  # images of --data on which operations are counted; `cost` takes as many as it is told
_RESULTS = Path("validation")  # as validate's own


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What the command line names.

    Attributes:
        network: the .lapilli file.
        results: folders of validate; with `data`, the one that is written.
        comparisons, cost, quantization: files of JSON.
        chips: by name or file.
        data: images, as the command line says them; empty for none.
    """

    network: Path
    results: list[Path]
    comparisons: list[Path]
    cost: Path | None
    quantization: Path | None
    chips: list[str]
    data: str


def twin_of(output: Path, *, overwrite: bool) -> Path:
    """Return the name of the JSON file beside a page.

    Raises:
        OutputError: the page is no .html, or one of both is there.
    """
    if output.suffix.lower() != ".html":
        raise OutputError(output, "a report is an .html file, with a .json beside it")
    twin = output.with_suffix(".json")
    keep_existing((output, twin), overwrite=overwrite)
    return twin


def made_of(given: Given, job: Job | None, *, quiet: bool) -> NetworkReport:
    """Make the report of what is named; `job` is run first, where there is one.

    Raises:
        LapilliError: something that is named is missing, damaged, or of another network.
    """
    chips = given.chips or [USUAL]
    for name in chips:
        check_chip(name)
    network = load_network(given.network)
    compared = [reading.read_comparisons(path, network) for path in given.comparisons]
    cost = None if given.cost is None else reading.read_cost(given.cost, network)
    lost = given.quantization
    quantization = None if lost is None else reading.read_quantization(lost, network)
    folders = [given.results[0] if given.results else _RESULTS] if job else given.results
    if job is not None:
        if len(given.results) > 1:
            raise InputError("--data is run by one simulator, into one --results")
        _validate(job, folders[0], quiet=quiet)
    results = [reading.read_results(folder, network) for folder in folders]
    if cost is None:
        report = bounded(network.graph) if job is None else _counted(network, job, quiet=quiet)
        cost = json.loads(json.dumps(pages.facts(report)))
    return report_of(
        Sources(
            network=network,
            file=given.network.name,
            results=results,
            comparisons=[facts for told in compared for facts in told["comparisons"]],
            answers=next((told for told in compared if "labelled" in told), {}),
            cost=cost,
            cores=dict(cores_on(network, name, cost) for name in chips),
            quantization=quantization,
            data=given.data,
        )
    )


def write(made: NetworkReport, output: Path, twin: Path) -> None:
    """Write a page and its numbers: both, or none.

    Raises:
        OutputError: the system refuses.
    """
    page = html(made, twin.name).encode("utf-8", "backslashreplace")  # names need not be text
    facts = made.as_json().encode()
    before = twin.read_bytes() if twin.exists() else None
    write_atomic(twin, facts)
    try:
        write_atomic(output, page)
    except OutputError:
        with suppress(OSError, OutputError):
            if before is None:
                twin.unlink()
            else:
                write_atomic(twin, before)
        raise


def _validate(job: Job, folder: Path, *, quiet: bool) -> None:
    from lapilli.deploy.cli.validation_run import Where, validated
    from lapilli.deploy.validation.store import stored_with_model

    if job.model is None and stored_with_model(folder):
        raise InputError(
            f"{folder} holds comparisons with a model, and none is named now: leave out --data to "
            "report on it as it is; or give --checkpoint, of a class of your own --module, too"
        )
    where = Where(part="1/1", workers=None, scheduler=None)
    facts = validated(job, folder, where, stop=False, quiet=quiet)
    if facts["verdict"] == "incomplete":
        raise InputError(f"{folder}: another process works there; run this again when it is done")


def _counted(network: Network, job: Job, *, quiet: bool) -> CostReport:
    """Count what the first images of a validation make the network do."""
    from lapilli.deploy.cli.costing import measured
    from lapilli.deploy.cli.images import images_for

    count = COUNTED if job.count is None else min(job.count, COUNTED)
    images = images_for(network, job.data, job.how, count)
    return measured(network, images, None, [], job.batch, quiet=quiet)
