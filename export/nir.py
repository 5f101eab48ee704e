"""The `.nir` file: a graph in the field's common format, or a list of what keeps it out.

Reading order: `nir_layout` (where values live), `nir_dialect` (what must be said), `nir_nodes`
and `nir_portable` (the words for it), `nir_walk` (from node to node), this file (the whole).
What NIR has no place for (T, dt, how to discretise, our names and shapes, the scale of the
logits) stands as JSON in the metadata, under the key "lapilli".
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nir
from typing_extensions import assert_never

import lapilli
from lapilli.export import nir_nodes, nir_portable
from lapilli.export.file import write_whole
from lapilli.export.nir_dialect import Dialect, Flavour, Said, in_order
from lapilli.export.nir_fused import LIMIT, fuse
from lapilli.export.nir_walk import Walk
from lapilli.ir.graph import Graph
from lapilli.ir.network import Network
from lapilli.ir.passes.and_neurons import gates_to_and_neurons

FORMAT = "lapilli-nir/1"
DISCRETISATION = "Euler, v <- v + dt/tau (r x - v), compare v > v_threshold, reset to 0"


def save_nir(network: Network, path: Path, flavour: Flavour = Flavour.CANONICAL) -> None:
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
    nir.write(file, to_nir(network.graph, about, flavour))
    write_whole(path, file.getvalue())


def to_nir(
    graph: Graph,
    about: Mapping[str, Any] | None = None,
    flavour: Flavour = Flavour.CANONICAL,
    limit: int = LIMIT,
) -> Any:
    """Say `graph` in NIR.

    Args:
        graph: its gates of binary spikes may stay; they become AND neurons here.
        about: facts for the metadata, of types that JSON has.
        flavour: for whom; see docs/nir.md.
        limit: on the weights of a fused file, whose matrices are dense.

    Returns:
        A `nir.NIRGraph` with one input and one output. The output carries the value of each
        step: where the graph ends in a read-out, the host adds them up.

    Raises:
        UnsupportedError: lists every node that NIR cannot say, or not exactly.
    """
    lowered = gates_to_and_neurons(graph)
    match flavour:
        case Flavour.CANONICAL:
            said = _walked(lowered, nir_nodes)
        case Flavour.PORTABLE:
            said = in_order(_walked(lowered, nir_portable))
        case Flavour.FUSED:
            said = in_order(fuse(lowered, limit))
        case _:
            assert_never(flavour)
    facts = {
        **(about or {}),
        "format": FORMAT,
        "flavour": flavour.value,
        "lapilli": lapilli.__version__,
        "digest": graph.digest,
        "T": graph.T,
        "dt": nir_nodes.DT,
        "discretisation": DISCRETISATION,
        "names": said.names,
        "layouts": said.layouts,
        "output": said.output,
    }
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return nir.NIRGraph(nodes=said.nodes, edges=list(said.edges), metadata={"lapilli": text})


def _walked(graph: Graph, dialect: Dialect) -> Said:
    walk = Walk(graph, dialect)
    for node in graph.nodes:
        walk.visit(node)
    return walk.finish()
