"""What host and worker tell each other: a folder with a graph, inputs, and a page of JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

from lapilli.export.native import load_network, save_network
from lapilli.ir.graph import Graph
from lapilli.ir.network import InputQuantizer, Network

LAVA_VERSION = "0.10.0"
_PAGE, _GRAPH = "job.json", "graph.lapilli"
STATE = "state-{step}.npz"  # u and v of a watched neuron after a step


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Read the state of one neuron around one Lava step, which is then the last."""

    node: str
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One run. Files are named relative to its folder and shaped (T, samples, ...).

    Attributes:
        lanes: samples that run side by side.
        own_neurons: whether our neurons stand in for those that Lava has.
        run_config: see `run_config`.
        steps: how many Lava steps to run.
        latency: of every node.
        resets: neuron or read-out -> (interval, offset): Lava steps s at which s % interval is
            offset forget everything.
        inputs, values, digests: node -> file to play or to fill: an input, a value, digests of
            what drives a neuron.
    """

    lanes: int
    own_neurons: bool
    run_config: str
    steps: int
    latency: Mapping[str, int]
    resets: Mapping[str, tuple[int, int]]
    inputs: Mapping[str, str]
    values: Mapping[str, str]
    digests: Mapping[str, str]
    watch: Watch | None = None


def save_job(job: Job, graph: Graph, folder: Path) -> None:
    """Write the page and the graph. The graph travels in our own, checked format."""
    no_pixels = InputQuantizer(mean=(Fraction(0),), std=(Fraction(1),), exponent=0, lo=0, hi=0)
    network = Network(graph=graph, input=no_pixels, logit_scale=Fraction(1), classes=())
    save_network(network, folder / _GRAPH)
    (folder / _PAGE).write_text(json.dumps(asdict(job)))


def load_job(folder: Path) -> tuple[Job, Graph]:
    """Read what `save_job` wrote."""
    page = json.loads((folder / _PAGE).read_text())
    watch = Watch(**page.pop("watch")) if page["watch"] else None
    page.pop("watch", None)
    return Job(**page, watch=watch), load_network(folder / _GRAPH).graph
