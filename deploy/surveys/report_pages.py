"""Reports of every kind, for `make report-check`: of all that is known, of a fault, of nothing.

`python -m lapilli.deploy.surveys.report_pages FOLDER` writes `whole.html`, `differs.html` and
`bare.html`, each with its numbers beside it.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

from lapilli.deploy.cli.comparison_tables import comparison_facts
from lapilli.deploy.cli.demo import CHECKPOINTS
from lapilli.deploy.cli.demo_report import write_demo_report
from lapilli.deploy.cli.flow import checkpoint_model, open_checkpoint, quantize_model
from lapilli.deploy.cli.images import held_out_images, training_images
from lapilli.deploy.cli.options import DIGITS
from lapilli.deploy.cli.report_making import write
from lapilli.deploy.comparison.compare import compare_all
from lapilli.deploy.comparison.targets import target
from lapilli.deploy.network_report.report import report_of
from lapilli.deploy.network_report.sources import Sources
from lapilli.export.native import save_network
from lapilli.ir import ops
from lapilli.ir.graph import Graph
from lapilli.ir.network import Network
from lapilli.ir.tensor import IntTensor
from lapilli.simulators.protocol import Executable

_IMAGES = 16


def main(folder: Path) -> None:
    """Write all of them."""
    folder.mkdir(parents=True, exist_ok=True)
    model = checkpoint_model(open_checkpoint(CHECKPOINTS / "digits_spikformer.safetensors"))
    made = quantize_model(model, training_images(DIGITS))
    network, test = made.network, held_out_images(DIGITS)
    save_network(network, folder / "whole.lapilli")
    few = test.pixels[:_IMAGES]
    others = {name: target(name).compile(network.graph) for name in ("reference", "event-driven")}
    same = compare_all(network, made.reference, others, few)
    write_demo_report(folder / "whole.lapilli", made, model, test, same)
    broken: dict[str, Executable] = {"broken": target("reference").compile(_broken(network))}
    differs = [*same, *compare_all(network, made.reference, broken, few)]
    told = [json.loads(json.dumps(comparison_facts(c))) for c in differs]
    sources = Sources(network=network, file="differs.lapilli", comparisons=told)
    _write(sources, folder / "differs.html")
    bare = replace(network, recipe=None, classes=())
    _write(Sources(network=bare, file="bare.lapilli"), folder / "bare.html")


def _broken(network: Network) -> Graph:
    """The graph with half a threshold in its middle: what a simulator's fault looks like."""
    graph = network.graph
    layers = [n for n in graph.nodes if isinstance(n.op, ops.Neuron)]
    chosen = layers[len(layers) // 2]
    nodes = []
    for node in graph.nodes:
        if node is chosen and isinstance(node.op, ops.Neuron):
            lower = IntTensor(node.op.threshold.array // 2)
            nodes.append(replace(node, op=replace(node.op, threshold=lower)))
        else:
            nodes.append(node)
    return Graph(tuple(nodes), graph.outputs, graph.T)


def _write(sources: Sources, page: Path) -> None:
    write(report_of(sources), page, page.with_suffix(".json"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
