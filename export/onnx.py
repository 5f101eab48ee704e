"""The `.onnx` file: a graph in integer operators, for onnxruntime and for viewers.

Two models say the same graph. The *Scan* model takes all T steps of a sample at once; the
*step* model takes one step and its state, and gives the next state. Batch is the first axis
that both leave open. Reading order: `onnx_body` (names and types), `onnx_nodes` (what
each op becomes), `onnx_neuron` (the functions of our domain), this file (the whole).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import onnx
import onnx.inliner
from onnx import ModelProto, ValueInfoProto, helper

import lapilli
from lapilli.export.file import write_whole
from lapilli.export.onnx_body import BATCH, I64, Body
from lapilli.export.onnx_neuron import DOMAIN, OPSET
from lapilli.export.onnx_nodes import emit, faults
from lapilli.ir.errors import Unsupported, UnsupportedError
from lapilli.ir.graph import Graph
from lapilli.ir.network import Network
from lapilli.ir.ops import Conv2d, Input, Linear

FORMAT = "lapilli-onnx/1"
IR_VERSION = 10
LARGEST = (1 << 31) - 1  # bytes of a protobuf, and so of a file without others beside it
_HEAD = 1 << 24  # bytes left for what is not a weight

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
    about = {
        "logit_scale": str(network.logit_scale),
        "classes": list(network.classes),
        "input": {
            "mean": [str(m) for m in source.mean],
            "std": [str(s) for s in source.std],
            "exponent": source.exponent,
            "lo": source.lo,
            "hi": source.hi,
            "rule": "round((pixel / 255 - mean) / std * 2**exponent), half to even, lo..hi",
        },
    }
    model = to_onnx(network.graph, about, step=step, inlined=inlined)
    write_whole(path, model.SerializeToString(deterministic=True))
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
    body = Body(graph, suffix="" if step else "[t]")
    for node in graph.nodes:
        emit(body, node)
    shown = _shown(body)
    made = _step(body, shown) if step else _scan(body, shown)
    made.doc_string = (_ABOUT_STEP if step else _ABOUT_SCAN).format(T=graph.T)
    model = helper.make_model(
        made,
        functions=list(body.functions.values()),
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)],
        ir_version=IR_VERSION,
        producer_name="lapilli",
        producer_version=lapilli.__version__,
        domain=DOMAIN,
        doc_string=made.doc_string,
    )
    if inlined:
        model = onnx.inliner.inline_local_functions(model)
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
    sizes = {
        n.name: n.op.weight.array.size * max(1, -(-n.op.weight.range.bits // 8))
        for n in graph.nodes
        if isinstance(n.op, Linear | Conv2d)
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


def _shown(body: Body) -> list[str]:
    """Names of the model's outputs: as in the graph, unless an input has that name."""
    shown = []
    for position, name in enumerate(body.graph.outputs):
        again = name in body.graph.outputs[:position]
        if isinstance(body.graph[name].op, Input) or again:
            alias = body.fresh(f"{name}/output")
            body.emit("Identity", [body.value(name)], name, out=alias + body.suffix)
            body.describe(alias + body.suffix, body.carrier(name), body.graph.types[name].shape)
            name = alias
        shown.append(name)
    return shown


def _values(body: Body) -> dict[str, dict[str, str]]:
    """Node that fires -> the values, inside the step, that a recording wants of it."""
    return {
        name: {
            "value": body.value(name),
            "current": body.value(body.graph[name].inputs[0]),
            **({"membrane": body.membranes[name]} if name in body.membranes else {}),
        }
        for name in body.graph.firing
    }


def _step(body: Body, shown: list[str]) -> onnx.GraphProto:
    states = [_infos(body, side) for side in ("before", "after")]
    inputs = [body.values[name] for name in body.graph.inputs]
    outputs = [body.values[name] for name in shown]
    ends = {info.name for info in (*inputs, *outputs)}
    return helper.make_graph(
        body.nodes,
        "step",
        [*inputs, *states[0]],
        [*outputs, *states[1]],
        body.constants,
        value_info=[info for name, info in body.values.items() if name not in ends],
    )


def _scan(body: Body, shown: list[str]) -> onnx.GraphProto:
    given = body.graph.inputs
    inside = [body.values[body.value(name)] for name in given]
    results = [body.values[name + body.suffix] for name in shown]
    ends = {info.name for info in (*inside, *results)}
    one_step = helper.make_graph(
        body.nodes,
        "step",
        [*_infos(body, "before"), *inside],
        [*_infos(body, "after"), *results],
        value_info=[info for name, info in body.values.items() if name not in ends],
    )
    nodes, rest = _rest(body, given[0])
    scan = helper.make_node(
        "Scan",
        [*rest, *given],
        [*(body.fresh(f"{s.after}[T]") for s in body.states), *shown],
        name=body.fresh("steps"),
        body=one_step,
        num_scan_inputs=len(given),
    )
    outer = [_over_time(info, name, body.graph.T) for info, name in zip(inside, given, strict=True)]
    outputs = [_over_time(i, name, body.graph.T) for i, name in zip(results, shown, strict=True)]
    return helper.make_graph([*nodes, scan], "sample", outer, outputs, body.constants)


def _rest(body: Body, given: str) -> tuple[list[onnx.NodeProto], list[str]]:
    """Zeros for each state, as many as the batch of an input (T, batch, ...) asks for."""
    nodes, rest = [], []
    batch = body.fresh("batch")
    if body.states:
        nodes.append(helper.make_node("Shape", [given], [batch], name=batch, start=1, end=2))
    for state in body.states:
        size, zeros = body.fresh(f"{state.node}/size"), body.fresh(f"{state.node}/rest")
        nodes.append(
            helper.make_node("Concat", [batch, body.ints(*state.shape)], [size], name=size, axis=0)
        )
        zero = helper.make_tensor("zero", state.carrier, [1], [0])
        nodes.append(helper.make_node("ConstantOfShape", [size], [zeros], name=zeros, value=zero))
        rest.append(zeros)
    return nodes, rest


def _infos(body: Body, side: str) -> list[ValueInfoProto]:
    return [
        helper.make_tensor_value_info(getattr(s, side), s.carrier, [BATCH, *s.shape])
        for s in body.states
    ]


def _over_time(info: ValueInfoProto, name: str, T: int) -> ValueInfoProto:
    """The same value of all steps, under another name."""
    kind = info.type.tensor_type
    shape: Iterable[int] = (d.dim_value for d in kind.shape.dim[1:])
    return helper.make_tensor_value_info(name, kind.elem_type, [T, BATCH, *shape])


def show_all(model: ModelProto, names: Iterable[str]) -> dict[str, str]:
    """Make values inside a model's step outputs of the model as well, in place.

    Args:
        model: as `to_onnx` makes it, whatever has happened to it since.
        names: of values that its step declares.

    Returns:
        Name inside the step -> name of the model's output; what is an input already is
        left out.
    """
    graph = model.graph
    scan = next((n for n in graph.node if n.op_type == "Scan"), None)
    step = graph
    if scan is not None:
        step = next(a.g for a in scan.attribute if a.name == "body")
        T = graph.input[0].type.tensor_type.shape.dim[0].dim_value
        states = len(step.output) - len(graph.output)
        found = {i.name: o.name for i, o in zip(step.output[states:], graph.output, strict=True)}
    else:
        found = {info.name: info.name for info in step.output}
    declared = {info.name: info for info in step.value_info}
    for name in dict.fromkeys(names):
        if name in found or name not in declared:
            continue
        step.output.append(declared[name])
        found[name] = name
        if scan is not None:
            scan.output.append(f"{name}/shown")
            graph.output.append(_over_time(declared[name], f"{name}/shown", T))
            found[name] = f"{name}/shown"
    return found
