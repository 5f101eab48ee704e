"""The `.nir` file: a graph in the field's common format, or a list of what keeps it out.

Reading order: `nir_layout` (where values live), `nir_nodes` (what each op is called),
`nir_walk` (from node to node), this file (the whole). What NIR has no place for (T, dt, how
to discretise, our names and shapes, the scale of the logits) stands as JSON in the metadata,
under the key "lapilli".
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nir

import lapilli
from lapilli.export.file import write_whole
from lapilli.export.nir_nodes import DT
from lapilli.export.nir_walk import Walk, ancestors
from lapilli.ir.errors import Unsupported, UnsupportedError
from lapilli.ir.graph import Graph
from lapilli.ir.network import Network
from lapilli.ir.passes.binary import faults, origin, summands, to_binary_neurons

FORMAT = "lapilli-nir/1"
DISCRETISATION = "Euler, v <- v + dt/tau (r x - v), compare v > v_threshold, reset to 0"


def save_nir(network: Network, path: Path, max_neurons: int | None = None) -> None:
    """Write `network` to `path`, whole or not at all; equal networks give equal bytes.

    Raises:
        UnsupportedError: as `to_nir`.
    """
    about = {
        "logit_scale": str(network.logit_scale),
        "classes": list(network.classes),
        "input": {
            "mean": [str(m) for m in network.input.mean],
            "std": [str(s) for s in network.input.std],
            "exponent": network.input.exponent,
            "lo": network.input.lo,
            "hi": network.input.hi,
        },
    }
    file = io.BytesIO()
    nir.write(file, to_nir(network.graph, about, max_neurons))
    write_whole(path, file.getvalue())


def to_nir(
    graph: Graph, about: Mapping[str, Any] | None = None, max_neurons: int | None = None
) -> Any:
    """Say `graph` in NIR.

    Args:
        graph: as it is; what NIR has no node for becomes binary neurons here.
        about: facts for the metadata, of types that JSON has.
        max_neurons: refuse what would be larger, before any of it is made.

    Returns:
        A `nir.NIRGraph` with one input and one output. The output carries the value of each
        step: where the graph ends in a read-out, the host adds them up.

    Raises:
        UnsupportedError: lists every node that NIR cannot say, or not exactly.
    """
    used = ancestors(graph)
    reasons = [
        Unsupported(node.name, "reaches no output; NIR would make it one")
        for node in graph.nodes
        if node.name not in used
    ]
    if unsayable := faults(graph):
        raise UnsupportedError("nir", (*reasons, *unsayable))
    lowered = to_binary_neurons(graph, max_neurons)
    walk = Walk(lowered, reasons)
    read = ancestors(lowered)
    for node in lowered.nodes:
        if node.name in read or node.name in lowered.inputs:
            walk.visit(node)
    try:
        walk.finish()
    except UnsupportedError as refused:
        known = {node.name for node in graph.nodes}
        reasons = [Unsupported(origin(r.node, known), r.reason) for r in refused.reasons]
        raise UnsupportedError("nir", tuple(dict.fromkeys(reasons))) from None
    for name, shows in walk.layouts.items():
        if name in graph.neurons and lowered[name].op != graph[name].op:
            del shows["fraction_bits"]  # it decides for others, and its membrane is not theirs
    facts = {
        **(about or {}),
        "format": FORMAT,
        "lapilli": lapilli.__version__,
        "digest": graph.digest,
        "T": graph.T,
        "dt": DT,
        "discretisation": DISCRETISATION,
        "names": walk.names,
        "layouts": walk.layouts,
        "sums": {
            name: summands(lowered, name)
            for name in graph.firing
            if name not in walk.layouts and name in used
        },
        "output": walk.output,
    }
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return nir.NIRGraph(nodes=walk.nodes, edges=walk.edges, metadata={"lapilli": text})
