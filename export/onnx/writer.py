"""The `.onnx` file: a graph in integer operators, for onnxruntime and for viewers.

Two models say the same graph. The *Scan* model takes all T steps of a sample at once; the
*step* model takes one step and its state, and gives the next state. Batch is the first axis
that both leave open. Reading order: `body` (names and types), `ops` (what each
op becomes), `products` (bytes by bytes), `neuron` (the functions of our domain),
`models` (from one step to all), this file (the whole).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from onnx import ModelProto, helper

from lapilli.export.atomic import write_atomic
from lapilli.export.native.writer import as_json
from lapilli.export.onnx.body import I64, Body
from lapilli.export.onnx.function import DOMAIN, OPSET
from lapilli.export.onnx.models import outputs_of, scan_model, step_model
from lapilli.export.onnx.ops import emit
from lapilli.export.onnx.products import faults
from lapilli.ir import ops
from lapilli.ir.errors import Unsupported, UnsupportedError
from lapilli.ir.graph import Graph
from lapilli.ir.network import Network
from lapilli.ir.version import __version__

FORMAT = "lapilli-onnx/1"
IR_VERSION = 10
LARGEST = (1 << 31) - 1  # bytes of a protobuf, and so of a file without others beside it
_HEAD = 1 << 24  # bytes left for what is not a weight

_PIXELS = "round((pixel / 255 - mean) / std * 2**exponent), half to even, lo..hi"
_NUMBERS = "round(number * 2**exponent), half to even, lo..hi"
_ABOUT_SCAN = (
    "All {T} time steps of each sample, from rest. Inputs and outputs are ({T}, batch, ...); "
    "the answer stands in the last step of the first output."
)
_ABOUT_STEP = (
    "One of the {T} time steps of a sample: feed every '.../next' output back to the input "
    "without '/next', starting from zeros. The answer is the first output of the last step."
)


def save_onnx(
    network: Network, path: Path, *, step: bool = False, inlined: bool = False
) -> ModelProto:
    """Write `network` to `path`, whole or not at all; equal networks give equal bytes.

    Raises:
        UnsupportedError: as `to_onnx`.
    """
    source = network.input
    about: dict[str, object] = {
        "logit_scale": str(network.logit_scale),
        "classes": list(network.classes),
        **({"answers": as_json(network.answers)} if network.answers else {}),
        **({"ids": network.ids} if network.ids else {}),
        **({"parts": as_json(network.parts)} if network.parts else {}),
        **({"encoding": as_json(network.encoding)} if network.encoding else {}),
        "input": {
            "mean": [str(m) for m in source.mean],
            "std": [str(s) for s in source.std],
            "exponent": source.exponent,
            "lo": source.lo,
            "hi": source.hi,
            "rule": _PIXELS if source.takes_pixels else _NUMBERS,
        },
    }
    model = to_onnx(network.graph, about, step=step, inlined=inlined)
    write_atomic(path, model.SerializeToString(deterministic=True))
    return model


def to_onnx(
    graph: Graph,
    about: Mapping[str, object] | None = None,
    *,
    step: bool = False,
    inlined: bool = False,
) -> ModelProto:
    """Say `graph` in ONNX.

    Args:
        graph: any.
        about: facts for the metadata, of types that JSON has.
        step: one step with its state as inputs and outputs, instead of a `Scan` over all.
        inlined: plain operators only, instead of calls of our functions.

    Returns:
        The model; its metadata say which values are the spikes, membranes and currents
        of each node that fires.

    Raises:
        UnsupportedError: lists every node whose sums ONNX's integers cannot hold.
    """
    _check(graph)
    body = Body(graph, "" if step else "[t]", inlined)
    for node in graph.nodes:
        emit(body, node)
    shown = outputs_of(body)
    made = step_model(body, shown) if step else scan_model(body, shown)
    made.doc_string = (_ABOUT_STEP if step else _ABOUT_SCAN).format(T=graph.T)
    domains = {"": OPSET} if inlined else {"": OPSET, DOMAIN: 1}
    model = helper.make_model(
        made,
        functions=[] if inlined else list(body.functions.values()),
        opset_imports=[helper.make_opsetid(*domain) for domain in domains.items()],
        ir_version=IR_VERSION,
        producer_name="lapilli",
        producer_version=__version__,
        domain=DOMAIN,
        doc_string=made.doc_string,
    )
    facts = {
        **(about or {}),
        "format": FORMAT,
        "digest": graph.digest,
        "T": graph.T,
        "model": "step" if step else "scan",
        "outputs": dict(zip(graph.outputs, shown, strict=True)),
        "values": _values(body),
        "int64_states": list(dict.fromkeys(s.node for s in body.states if s.carrier == I64)),
        "states": {s.before: s.after for s in body.states} if step else {},
    }
    helper.set_model_props(model, {f"lapilli.{k}": _text(v) for k, v in facts.items()})
    return model


def _text(fact: object) -> str:
    return fact if isinstance(fact, str) else json.dumps(fact, separators=(",", ":"))


def _check(graph: Graph) -> None:
    reasons = [Unsupported(n.name, fault) for n in graph.nodes for fault in faults(n, graph)]
    reasons += [
        Unsupported(ascii(n.name), "a name that UTF-8, and so ONNX, cannot say")
        for n in graph.nodes
        if any("\ud800" <= c <= "\udfff" for c in n.name)
    ]
    sizes = {
        n.name: n.op.weight.size * max(1, -(-n.op.weight.range.bits // 8))
        for n in graph.nodes
        if isinstance(n.op, ops.Linear | ops.Conv2d)
    }
    if (total := sum(sizes.values())) > LARGEST - _HEAD:
        largest = max(sizes, key=lambda name: sizes[name])
        reasons.append(
            Unsupported(
                largest,
                f"the largest of weights of {total} bytes; an ONNX file holds {LARGEST - _HEAD}",
            )
        )
    if not graph.outputs:
        reasons.append(Unsupported("outputs", "there is none"))
    if reasons:
        raise UnsupportedError("onnx", tuple(reasons))


def _values(body: Body) -> dict[str, dict[str, str]]:
    """Node that fires, or shows a membrane -> the values, inside the step, that are recorded."""
    fire = {
        name: {
            "value": body.value(name),
            "current": body.value(body.graph[name].inputs[0]),
            **({"membrane": body.membranes[name]} if name in body.membranes else {}),
        }
        for name in body.graph.firing
    }
    return {**fire, **{name: {"value": body.value(name)} for name in body.graph.membranes}}
