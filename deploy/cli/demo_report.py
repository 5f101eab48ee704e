"""What the demo ends with: a page of all that it found about a network."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lapilli.costs import pages
from lapilli.deploy.cli.comparison_tables import comparison_facts
from lapilli.deploy.cli.costing import measured
from lapilli.deploy.cli.images import held_out_data, how_for
from lapilli.deploy.cli.options import DIGITS
from lapilli.deploy.cli.report_cores import USUAL, cores_on
from lapilli.deploy.cli.report_making import COUNTED, write
from lapilli.deploy.cli.sides import float_side
from lapilli.deploy.comparison.compare import affordable_batch
from lapilli.deploy.comparison.targets import target, usual
from lapilli.deploy.network_report.reading import read_results
from lapilli.deploy.network_report.report import report_of
from lapilli.deploy.network_report.sources import Results, Sources
from lapilli.deploy.validation.images import ImageSet
from lapilli.deploy.validation.plan import Plan
from lapilli.deploy.validation.run import finish, run_here
from lapilli.deploy.validation.shard import validate_shard
from lapilli.deploy.validation.sides import Sides, Witness
from lapilli.deploy.validation.store import Store
from lapilli.deploy.validation.summary import About

if TYPE_CHECKING:
    from lapilli.deploy.cli.flow import Model
    from lapilli.deploy.cli.image_set import Images
    from lapilli.deploy.comparison.compare import Comparison
    from lapilli.quantize import Quantized


def write_demo_report(
    file: Path,
    made: Quantized,
    model: Model,
    test: Images,
    comparisons: Sequence[Comparison],
) -> Path:
    """Validate a network on the test images, count what it does, and write both beside its file.

    Args:
        file: the `.lapilli` file.
        made: what it holds, and PyTorch's side of it.
        model: that it was made from.
        test: images with labels.
        comparisons: what was compared already.

    Returns:
        The page; its numbers are beside it, as .json.

    Raises:
        OutputError: they cannot be written.
    """
    network = made.network
    report = measured(network, test.first(COUNTED), None, [], None, quiet=True)
    cost: dict[str, Any] = json.loads(json.dumps(pages.facts(report)))
    told = report_of(
        Sources(
            network=network,
            file=file.name,
            results=[_validated(made, model, test)],
            comparisons=[json.loads(json.dumps(comparison_facts(c))) for c in comparisons],
            cost=cost,
            cores=dict((cores_on(network, USUAL, cost),)),
            data=DIGITS,
        )
    )
    page = file.with_suffix(".html")
    write(told, page, page.with_suffix(".json"))
    return page


def _validated(made: Quantized, model: Model, test: Images) -> Results:
    """Validate on the test images, as the command does, in a folder that does not stay."""
    network, name = made.network, usual()
    in_float = float_side(network, model, made.reference)
    witness = Witness(reference=made.reference, in_float=in_float.run, preprocessing=None)
    executable = target(name).compile(network.graph)
    sides = Sides(network=network, executable=executable, witness=witness)
    images = ImageSet(
        data=held_out_data(DIGITS, how_for(network)),
        count=len(test.pixels),
        labels=test.labels,
        skip_unreadable=False,
        require_fit=lambda _: None,  # those of `test`, which are
    )
    plan = Plan(images=images.count, shard=images.count, share=Fraction(1))
    batch = max(1, affordable_batch(network.graph) // 2)
    options = {
        "network": network.digest,
        "data": images.describe(),
        "images": plan.images,
        "share": str(plan.share),
        "simulator": name,
    }
    with tempfile.TemporaryDirectory(prefix="lapilli-") as folder:
        store = Store(Path(folder), options)
        run_here(store, [0], lambda shard: validate_shard(sides, images, plan, shard, batch=batch))
        finish(store, plan, About(classes=network.class_count, with_model=True, options=options))
        return read_results(Path(folder), network)
