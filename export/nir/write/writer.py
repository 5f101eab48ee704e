"""The `.nir` file: a graph in the field's common format, or a list of what keeps it out.

Reading order: `nir_layout` (where values live), `nir_moves` (how they get elsewhere),
`nir_dialect` (what must be said in more than one way), `nir_nodes` and `nir_portable` (the two
ways), `nir_emission` (the file in the making), `nir_places` and `nir_meetings` (values that
meet), `nir_limbs` and `nir_synapses` (weights), `nir_firing` (neurons), `nir_walk` (from node to
node), `nir_fused` (a chain instead), this file (the whole).
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

from lapilli.export.atomic import write_atomic
from lapilli.export.nir.write import canonical as nir_nodes
from lapilli.export.nir.write import portable as nir_portable
from lapilli.export.nir.write.builder import MOST_WEIGHTS
from lapilli.export.nir.write.dialect import Dialect, Flavour, Said, in_order
from lapilli.export.nir.write.fused import LIMIT, fuse
from lapilli.export.nir.write.lowering import Walk, ancestors
from lapilli.ir.errors import Unsupported, UnsupportedError
from lapilli.ir.graph import Graph
from lapilli.ir.network import Network
from lapilli.ir.passes.binary import origin, summands, to_binary_neurons, unsupported
from lapilli.ir.version import __version__

FORMAT = "lapilli-nir/1"
DISCRETISATION = "Euler, v <- v + dt/tau (r x - v), compare v > v_threshold, reset to 0"


def save_nir(
    network: Network,
    path: Path,
    max_neurons: int | None = None,
    flavour: Flavour = Flavour.CANONICAL,
) -> None:
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
    nir.write(file, to_nir(network.graph, about, max_neurons, flavour))
    write_atomic(path, file.getvalue())


def to_nir(
    graph: Graph,
    about: Mapping[str, Any] | None = None,
    max_neurons: int | None = None,
    flavour: Flavour = Flavour.CANONICAL,
    max_weights: int | None = None,
) -> Any:
    """Say `graph` in NIR.

    Args:
        graph: as it is; what NIR has no node for becomes binary neurons here.
        about: facts for the metadata, of types that JSON has.
        max_neurons: refuse what would be larger, before any of it is made.
        flavour: for whom; see docs/nir.md.
        max_weights: the same of the weights of all nodes together; None: 2^27, or of a fused
            file 2^26.

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
    if unsayable := unsupported(graph):
        raise UnsupportedError("nir", (*reasons, *unsayable))
    lowered = to_binary_neurons(graph, max_neurons)
    try:
        said = _said(_read(lowered), reasons, flavour, max_weights)
    except UnsupportedError as refused:
        known = {node.name for node in graph.nodes}
        reasons = [Unsupported(origin(r.node, known), r.reason) for r in refused.reasons]
        raise UnsupportedError(refused.target, tuple(dict.fromkeys(reasons))) from None
    for name, shows in said.layouts.items():
        if name in graph.neurons and lowered[name].op != graph[name].op:
            del shows["fraction_bits"]  # it decides for others, and its membrane is not theirs
    facts = {
        **(about or {}),
        "format": FORMAT,
        "flavour": flavour.value,
        "lapilli": __version__,
        "digest": graph.digest,
        "T": graph.T,
        "dt": nir_nodes.DT,
        "discretisation": DISCRETISATION,
        "names": said.names,
        "layouts": said.layouts,
        "sums": {
            name: summands(lowered, name)
            for name in graph.firing
            if name not in said.layouts and name in used
        },
        "output": said.output,
    }
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return nir.NIRGraph(nodes=said.nodes, edges=list(said.edges), metadata={"lapilli": text})


def _read(graph: Graph) -> Graph:
    """The graph without what no output depends on, inputs excepted."""
    read = {*ancestors(graph), *graph.inputs}
    return Graph(tuple(n for n in graph.nodes if n.name in read), graph.outputs, graph.T)


def _said(
    graph: Graph, reasons: list[Unsupported], flavour: Flavour, max_weights: int | None
) -> Said:
    match flavour:
        case Flavour.CANONICAL:
            return _walked(graph, nir_nodes, reasons, max_weights)
        case Flavour.PORTABLE:
            return in_order(
                nir_portable.in_floats(_walked(graph, nir_portable, reasons, max_weights))
            )
        case Flavour.FUSED:
            if reasons:
                raise UnsupportedError("fused nir", tuple(reasons))
            return in_order(nir_portable.in_floats(fuse(graph, max_weights or LIMIT)))
        case _:
            assert_never(flavour)


def _walked(
    graph: Graph, dialect: Dialect, reasons: list[Unsupported], max_weights: int | None
) -> Said:
    walk = Walk(graph, dialect, max_weights or MOST_WEIGHTS, reasons)
    for node in graph.nodes:
        walk.visit(node)
    return walk.finish()
