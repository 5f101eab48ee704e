"""The `.nir` file: a graph in the field's common format, or a list of what keeps it out.

Reading order: `placement` (where values live), `routing` (how they get elsewhere), `dialect`
(what is written in more than one way), `canonical`, `on_maps` and `portable` (these ways),
`builder` (the file in the making), `layouts` and `joins` (values that meet), `multiword` and
`synapses` (weights), `offsets` (constants that are added), `extras` (what is no binary neuron),
`neurons`, `lowering` (from node to node), `fused` (a chain instead), this file.
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
import numpy as np
from typing_extensions import assert_never

from lapilli.export import limits
from lapilli.export.atomic import write_atomic
from lapilli.export.limits import Progress
from lapilli.export.nir.write import canonical as nir_nodes
from lapilli.export.nir.write import on_maps
from lapilli.export.nir.write import portable as nir_portable
from lapilli.export.nir.write.dialect import Dialect, Flavour, NirDraft, in_order
from lapilli.export.nir.write.extras import has_node, never
from lapilli.export.nir.write.fused import fuse
from lapilli.export.nir.write.lowering import Lowering
from lapilli.export.nir.write.synapses import least_weights
from lapilli.ir import ops
from lapilli.ir.errors import Unsupported, UnsupportedError
from lapilli.ir.graph import Graph
from lapilli.ir.network import Network
from lapilli.ir.partial_sums import in_any_order
from lapilli.ir.passes.binary import origin, summands, to_binary_neurons, unsupported
from lapilli.ir.types import IntRange, TensorType
from lapilli.ir.version import __version__

FORMAT = "lapilli-nir/1"
_SHOWN = 8  # biggest nodes of a refusal
DISCRETISATION = "Euler, v <- v + dt/tau (r x - v), compare v > v_threshold, reset to 0"


_ENCODING = "a NIR file cannot say how inputs are encoded or joined; export ONNX, or golden vectors"
_ANSWERS = "a NIR file has one answer, at the last step; this network has others"


def save_nir(
    network: Network,
    path: Path,
    flavour: Flavour = Flavour.CANONICAL,
    memory_limit: int | None = None,
    progress: Progress | None = None,
) -> int:
    """Write `network` to `path`, whole or not at all; equal networks give equal bytes.

    Returns:
        The bytes of memory that its numbers and texts take where the file is read: where that is
        more than `limits.justified` of its size, a reader has to be told so.

    Raises:
        UnsupportedError: as `to_nir`.
    """
    if unsaid := _unsaid(network):
        raise UnsupportedError("nir", unsaid)
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
    made = to_nir(network.graph, about, flavour, memory_limit, progress)
    nir.write(file, made)
    write_atomic(path, file.getvalue())
    return _read_again(made.to_dict()) + _read_again(nir.version)


def foreseen(network: Network) -> tuple[Unsupported, ...]:
    """Say what keeps a network out of every flavour, as far as no weight has to be looked at.

    Returns:
        Refusals of `save_nir`: of answers and inputs, or those of `refused_by_ops`.
    """
    return _unsaid(network) or refused_by_ops(network.graph)


def refused_by_ops(graph: Graph) -> tuple[Unsupported, ...]:
    """Say what of a graph no flavour has, as far as no weight has to be looked at.

    Returns:
        Refusals of `to_nir`: of ops without a form, of more neurons than a file holds, or of what
        neurons do. Sums that readers' floats do not hold, and too many weights, are found only
        where the file is made.
    """
    if known := unsupported(graph, kept=has_node):
        return known
    try:
        lowered = to_binary_neurons(graph, limits.neurons(None), kept=has_node)
    except UnsupportedError as refused:
        return refused.reasons
    names = {node.name for node in graph.nodes}
    faults = (
        Unsupported(origin(node.name, names), fault)
        for node in lowered.nodes
        if isinstance(node.op, ops.Neuron)
        for fault in nir_nodes.neuron_faults(node.op, graph.T)
    )
    return tuple(dict.fromkeys(faults))


def _unsaid(network: Network) -> tuple[Unsupported, ...]:
    """What a network has beside its graph that no NIR file can say."""
    if network.answers:
        return (Unsupported(network.graph.outputs[0], _ANSWERS),)
    if network.encoding is not None or network.parts or network.ids:
        return (Unsupported(network.graph.inputs[0], _ENCODING),)
    return ()


def _read_again(value: Any) -> int:
    """Bytes that `hdf5.parser` pays for what nir writes of a value: eight a number, 64 a text."""
    if isinstance(value, dict):
        return sum(map(_read_again, value.values()))
    if isinstance(value, str | bytes):
        return 64 + len(value.encode() if isinstance(value, str) else value)
    if isinstance(value, list | tuple) and value and not isinstance(value[0], int | float):
        return sum(map(_read_again, value))
    return 8 * int(np.size(value))


def to_nir(
    graph: Graph,
    about: Mapping[str, Any] | None = None,
    flavour: Flavour = Flavour.CANONICAL,
    memory_limit: int | None = None,
    progress: Progress | None = None,
) -> Any:
    """Convert `graph` to a NIR graph.

    Args:
        graph: as it is; what NIR has no node for becomes binary neurons here.
        about: facts for the metadata, of types that JSON has.
        flavour: for whom; see docs/nir.md.
        memory_limit: bytes that its numbers may take, eight for each; 1 GiB by default. What
            would be larger is refused before any of it is made.
        progress: is told of the nodes that are written.

    Returns:
        A `nir.NIRGraph` with one input and one output. The output carries the value of each
        step: where the graph ends in a read-out, the host adds them up.

    Raises:
        UnsupportedError: lists every node that NIR cannot say, or not exactly.
    """
    used = graph.ancestors(graph.outputs)
    reasons = [
        Unsupported(node.name, "reaches no output; NIR would make it one")
        for node in graph.nodes
        if node.name not in used
    ]
    kept = has_node if flavour is Flavour.CANONICAL else never  # importers of others have none
    if parts := unsupported(graph, kept=kept):
        raise UnsupportedError("nir", (*reasons, *parts))
    lowered = to_binary_neurons(graph, limits.neurons(memory_limit), kept=kept)
    try:
        sums = in_any_order(lowered, _kept(graph))
        draft = _drafted(
            lowered.without_dead(), sums, reasons, flavour, limits.numbers(memory_limit), progress
        )
    except UnsupportedError as refused:
        known = {node.name for node in graph.nodes}
        reasons = [Unsupported(origin(r.node, known), r.reason) for r in refused.reasons]
        raise UnsupportedError(refused.target, tuple(dict.fromkeys(reasons))) from None
    for name, shows in draft.layouts.items():
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
        "names": draft.names,
        "layouts": draft.layouts,
        "sums": {
            name: summands(lowered, name)
            for name in graph.firing
            if name not in draft.layouts and name in used
        },
        "output": draft.output,
    }
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return nir.NIRGraph(nodes=draft.nodes, edges=list(draft.edges), metadata={"lapilli": text})


def _kept(graph: Graph) -> dict[str, TensorType]:
    """Types of what keeps its value in binary neurons: of all but products in a row."""
    return {
        node.name: graph.types[node.name]
        for node in graph.nodes
        if not isinstance(node.op, ops.SpikeMatmul)
    }


def _drafted(
    graph: Graph,
    sums: Mapping[str, IntRange],
    reasons: list[Unsupported],
    flavour: Flavour,
    most: int,
    progress: Progress | None,
) -> NirDraft:
    match flavour:
        case Flavour.CANONICAL:
            try:
                return _lowered(graph, nir_nodes, sums, reasons, most, progress)
            except UnsupportedError as refused:
                try:
                    return _lowered(graph, on_maps, sums, reasons, most, progress)
                except UnsupportedError:
                    raise refused from None
        case Flavour.PORTABLE:
            lowered = _lowered(graph, nir_portable, sums, reasons, most, progress)
            return in_order(nir_portable.in_floats(lowered))
        case Flavour.FUSED:
            if reasons:
                raise UnsupportedError("fused nir", tuple(reasons))
            return in_order(nir_portable.in_floats(fuse(graph, most)))
        case _:
            assert_never(flavour)


def _lowered(
    graph: Graph,
    dialect: Dialect,
    sums: Mapping[str, IntRange],
    reasons: list[Unsupported],
    most: int,
    progress: Progress | None,
) -> NirDraft:
    if large := _too_large(graph, most):
        raise UnsupportedError("nir", (*reasons, *large))
    lowering = Lowering(graph, dialect, most, sums, reasons)
    for done, node in enumerate(graph.nodes, start=1):
        lowering.visit(node)
        if progress is not None:
            progress(done, len(graph.nodes))
    return lowering.finish()


def _too_large(graph: Graph, most: int) -> list[Unsupported]:
    """Sum the weights that synapses take at least, and name the largest if they are too many."""
    counts = {node.name: least_weights(node.op) for node in graph.nodes}
    if (total := sum(counts.values())) <= most:
        return []
    whole = f"its synapses take {total:,} weights; the limit is {most:,}: {limits.OPTION}"
    largest = sorted(counts, key=lambda name: -counts[name])[:_SHOWN]
    return [
        Unsupported("the whole", whole),
        *(Unsupported(name, f"{count:,} weights") for name in largest if (count := counts[name])),
    ]
