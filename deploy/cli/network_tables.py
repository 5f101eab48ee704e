"""What commands say of a network, an ONNX file and latencies in Lava: tables, and JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from lapilli.deploy.cli.certificates import held_lines, there
from lapilli.ir import ops
from lapilli.ir.certificate import certify
from lapilli.ir.errors import Unsupported
from lapilli.ir.network import Network
from lapilli.ir.targets.table import NAMES, named
from lapilli.ir.targets.target import Register
from lapilli.simulators.lava.shared.legality import unsupported_by_lif

if TYPE_CHECKING:  # printing needs no PyTorch and no onnx
    from onnx import ModelProto

    from lapilli.deploy.cli.latency import Latencies
    from lapilli.export.onnx.reader import OnnxFile


def network_facts(network: Network) -> dict[str, Any]:
    """What `inspect` says of a graph file."""
    graph = network.graph
    synapses = [n.op for n in graph.nodes if isinstance(n.op, ops.Linear | ops.Conv2d)]
    bounds, recipe = certify(graph), network.recipe
    made_for = named(recipe.target if recipe and recipe.target else NAMES[0])
    return {
        "kind": "network",
        "digest": network.digest,
        "graph_digest": graph.digest,
        "T": graph.T,
        "nodes": len(graph.nodes),
        "neurons": sum(_size(network, n.name) for n in graph.nodes if isinstance(n.op, ops.Firing)),
        "weights": sum(op.weight.size for op in synapses),
        "weight_bits": max((op.weight.mantissa.range.bits for op in synapses), default=0),
        "input": list(graph.types[graph.inputs[0]].shape),
        **_input_facts(network),
        "classes": list(network.classes),
        **(
            {"answers": [_answer_text(network, i) for i in range(len(graph.outputs))]}
            if network.answers
            else {}
        ),
        "state_bits": max((b.state_bits for b in bounds), default=0),
        "state_bits_there": there(made_for, Register.STATE),
        "target": recipe.target if recipe and recipe.target else "none promised",
        "certificate": held_lines(graph, made_for),
        "truncates": [b.name for b in bounds if b.truncates],
        "simulator_only": _by_reason(unsupported_by_lif(graph)),
        **({"nir_refuses": _by_reason(refused)} if (refused := _foreseen(network)) else {}),
    }


def _input_facts(network: Network) -> dict[str, Any]:
    """What becomes of an input before the graph, where it is no image at every step."""
    facts: dict[str, Any] = {}
    if network.encoding is not None:
        facts["encoding"] = str(network.encoding)
    if network.parts:
        facts["inputs"] = [
            f"{p.name} {p.layout} {' x '.join(map(str, p.shape))}" for p in network.parts
        ]
    if network.ids:
        facts["tokens"] = network.ids
    return facts


def _answer_text(network: Network, index: int) -> str:
    """An answer's name and shape, and which steps it looks at."""
    answer, node = network.every_answer[index], network.graph.outputs[index]
    shape = " x ".join(map(str, answer.shape(network.graph.types[node].shape)))
    steps = f" of each of {network.graph.T} steps" if answer.steps else ""
    mapped = answer.weights or answer.matrix is not None
    few = f", by a linear map of {network.graph.T} steps" if mapped else ""
    return f"{answer.name} {shape}{steps}{few}"


def _foreseen(network: Network) -> tuple[Unsupported, ...]:
    """What is known to keep a network out of NIR, without writing it; nothing without NIR."""
    try:
        from lapilli.export.nir.write.writer import foreseen
    except ModuleNotFoundError:
        return ()
    return foreseen(network)


def _by_reason(found: Iterable[Unsupported]) -> list[str]:
    """Each reason with the names of the nodes that it holds for."""
    named: dict[str, list[str]] = {}
    for one in found:
        named.setdefault(one.reason, []).append(one.node)
    return [f"{reason}: {', '.join(names)}" for reason, names in named.items()]


def _size(network: Network, node: str) -> int:
    size = 1
    for n in network.graph.types[node].shape:
        size *= n
    return size


def latency_facts(found: Latencies) -> dict[str, Any]:
    """When Lava shows each node, as JSON."""
    return {
        "steps": found.steps,
        "path": list(found.path),
        "delay_bits": found.delay_bits,
        "nodes": [asdict(row) for row in found.rows],
    }


def print_latencies(found: Latencies) -> None:
    """A row for each node, then the longest path."""
    table = Table("node", "latency in Lava steps", "waits for later branches", "bits that wait")
    for row in found.rows:
        waits = (f"{row.waits}", f"{row.bits:,}") if row.waits else ("", "")
        table.add_row(row.node, f"{row.latency}", *waits)
    Console().print(table)
    Console().print(
        f"longest path: {found.steps} steps, {' > '.join(found.path)}\n"
        f"inserted delays hold {found.delay_bits:,} bits",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def onnx_facts(model: ModelProto) -> dict[str, Any]:
    """What `export` says of an ONNX file: versions, and which neurons need int64."""
    props = {p.key.removeprefix("lapilli."): p.value for p in model.metadata_props}
    return {
        "format": f"onnx {props['model']}",
        "bytes": model.ByteSize(),
        "opset": next(o.version for o in model.opset_import if not o.domain),
        "ir_version": model.ir_version,
        "functions": [f.name for f in model.functions],
        "int64_states": json.loads(props["int64_states"]),
    }


def onnx_file_facts(file: OnnxFile) -> dict[str, Any]:
    """What `inspect` says of an ONNX file of ours."""
    return {
        "kind": f"onnx {file.model}",
        "digest": file.digest,
        "T": file.T,
        "lapilli": file.version,
        "opset": file.opset,
        "ir_version": file.ir_version,
        "functions": list(file.functions),
        "inputs": [f"{name}: {kind}" for name, kind in file.inputs.items()],
        "outputs": [f"{name}: {kind}" for name, kind in file.outputs.items()],
        "answer": next(iter(file.answers.values()), ""),
        "classes": list(file.classes),
        "logit_scale": None if file.logit_scale is None else str(file.logit_scale),
        "recorded": len(file.values),
        "states": len(file.states),
        "int64_states": list(file.int64_states),
        "next": "lapilli golden NETWORK.lapilli, then docs/golden.md",
    }
