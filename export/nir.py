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
from lapilli.export.nir_walk import Walk
from lapilli.ir.graph import Graph
from lapilli.ir.network import Network
from lapilli.ir.passes.and_neurons import gates_to_and_neurons

FORMAT = "lapilli-nir/1"
DISCRETISATION = "Euler, v <- v + dt/tau (r x - v), compare v > v_threshold, reset to 0"


def save_nir(network: Network, path: Path) -> None:
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
    nir.write(file, to_nir(network.graph, about))
    write_whole(path, file.getvalue())


def to_nir(graph: Graph, about: Mapping[str, Any] | None = None) -> Any:
    """Say `graph` in NIR.

    Args:
        graph: its gates of binary spikes may stay; they become AND neurons here.
        about: facts for the metadata, of types that JSON has.

    Returns:
        A `nir.NIRGraph` with one input and one output. The output carries the value of each
        step: where the graph ends in a read-out, the host adds them up.

    Raises:
        UnsupportedError: lists every node that NIR cannot say, or not exactly.
    """
    lowered = gates_to_and_neurons(graph)
    walk = Walk(lowered)
    for node in lowered.nodes:
        walk.visit(node)
    walk.finish()
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
        "output": walk.output,
    }
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return nir.NIRGraph(nodes=walk.nodes, edges=walk.edges, metadata={"lapilli": text})
