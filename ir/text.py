"""One stable line per node: for golden files, error reports and your eyes."""

from __future__ import annotations

import enum
from dataclasses import MISSING, fields

from lapilli.ir import ops
from lapilli.ir.graph import Graph, Node
from lapilli.ir.tensor import IntTensor


def dumps(graph: Graph) -> str:
    """Return `name = op(inputs) {attributes} : type` for each node, then the outputs.

    An attribute that has its default value is left out.
    """
    lines = [f"{_line(node)} : {graph.types[node.name]}" for node in graph.nodes]
    result = f"return {', '.join('%' + o for o in graph.outputs)} after T={graph.T}"
    return "\n".join([*lines, result]) + "\n"


def _line(node: Node) -> str:
    attributes = "" if isinstance(node.op, ops.Input) else _attributes(node.op)
    call = f"{type(node.op).__name__}({', '.join('%' + i for i in node.inputs)})"
    return f"%{node.name} = {call}" + (f" {{{attributes}}}" if attributes else "")


def _attributes(op: ops.Op) -> str:
    values = {f.name: (getattr(op, f.name), f.default) for f in fields(op)}
    told = {k: v for k, (v, default) in values.items() if default is MISSING or v != default}
    return " ".join(f"{k}={_show(v)}" for k, v in told.items())


def _show(x: object) -> str:
    if isinstance(x, ops.Neuron):
        return f"{{{_attributes(x)}}}"
    if isinstance(x, IntTensor):
        if x.size == 1:
            return str(x.array.item())
        return f"i{x.range.bits}{list(x.shape)}#{x.digest[:8]}".replace(" ", "")
    return str(x.value if isinstance(x, enum.Enum) else x).replace(" ", "")
