"""One step of a graph as a whole model: alone, or inside a `Scan` over all T."""

from __future__ import annotations

from collections.abc import Iterable

from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto, helper

from lapilli.export.onnx.body import BATCH, Body
from lapilli.ir import ops


def outputs_of(body: Body) -> list[str]:
    """Names of the model's outputs: as in the graph, unless an input has that name."""
    shown = []
    for position, name in enumerate(body.graph.outputs):
        again = name in body.graph.outputs[:position]
        if isinstance(body.graph[name].op, ops.Input) or again:
            alias = body.fresh(f"{name}/output")
            body.emit("Identity", [body.value(name)], name, out=alias + body.suffix)
            body.describe(alias + body.suffix, body.carrier(name), body.graph.types[name].shape)
            name = alias
        shown.append(name)
    return shown


def step_model(body: Body, shown: list[str]) -> GraphProto:
    """Inputs and state in, the outputs `shown` and the next state out."""
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


def scan_model(body: Body, shown: list[str]) -> GraphProto:
    """Inputs of all steps in, the outputs `shown` of all steps out; weights stand outside."""
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


def _rest(body: Body, given: str) -> tuple[list[NodeProto], list[str]]:
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
            T = graph.input[0].type.tensor_type.shape.dim[0].dim_value
            scan.output.append(f"{name}/shown")
            graph.output.append(_over_time(declared[name], f"{name}/shown", T))
            found[name] = f"{name}/shown"
    return found
