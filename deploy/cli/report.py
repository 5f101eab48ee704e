"""What the commands print: tables for people, and the same facts as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from lapilli.deploy.cli.certificates import held_lines, there
from lapilli.deploy.cli.frame import printable
from lapilli.deploy.comparison.overlap import mean_overlap
from lapilli.ir import ops
from lapilli.ir.certificate import certify
from lapilli.ir.graph import Graph
from lapilli.ir.network import Network
from lapilli.ir.recipe import Note
from lapilli.ir.targets.table import NAMES, named
from lapilli.ir.targets.target import Register
from lapilli.ir.tensor import IntArray
from lapilli.simulators.lava.shared.legality import unsupported_by_lif

if TYPE_CHECKING:  # printing needs no PyTorch and no onnx
    from onnx import ModelProto

    from lapilli.deploy.cli.demo import Result
    from lapilli.deploy.cli.latency import Latencies
    from lapilli.deploy.comparison.compare import Comparison
    from lapilli.export.onnx.reader import OnnxFile
    from lapilli.quantize.health import Health


def comparison_facts(comparison: Comparison) -> dict[str, Any]:
    """One comparison as JSON."""
    first = comparison.first
    return {
        "expected": comparison.expected,
        "got": comparison.got,
        "images": comparison.images,
        "compared": comparison.compared,
        "mismatches": comparison.mismatches,
        "kinds": {kind: list(counts) for kind, counts in comparison.kinds.items()},
        "exact": comparison.exact,
        "vacuous": list(comparison.vacuous),
        "renamed": [list(pair) for pair in comparison.renamed],
        "warnings": [note_facts(note) for note in comparison.warnings],
        "preprocessing_checked": comparison.preprocessing_checked,
        "rates": comparison.rates,
        "synops": comparison.synops,
        "steps": comparison.steps,
        "seconds": comparison.seconds,
        "first": None
        if first is None
        else {
            "node": first.node,
            "kind": first.kind,
            "t": first.t,
            "sample": first.sample,
            "index": list(first.index),
            "expected": first.expected,
            "got": first.got,
            "membranes": list(first.membranes),
            "currents": list(first.currents),
            "threshold": first.threshold,
            "cause": first.cause,
            "text": str(first),
            "around": None if first.around is None else asdict(first.around),
        },
    }


def print_comparisons(comparisons: Sequence[Comparison]) -> None:
    """A row for each; the first divergence below; firing rates if all is well."""
    table = Table("simulator", "against", "images", "values compared", "mismatches", "verdict")
    for c in comparisons:
        verdict = "[green]exact[/]" if c.exact else "[red]vacuous[/]"
        if c.mismatches:
            verdict = "[red]differs[/]"
        numbers = (f"{c.images}", f"{c.compared:,}", f"{c.mismatches:,}")
        table.add_row(c.got, c.expected, *numbers, verdict)
    Console().print(table)
    for c in comparisons:
        if not c.exact:
            Console().print(str(c), markup=False, soft_wrap=True)


def accuracy_facts(
    comparison: Comparison,
    labels: IntArray | None,
    in_float: int | Fraction | None,
    classes: int,
) -> dict[str, Any]:
    """How many images, or the mean IoU of maps, integers and float have right.

    Nothing without labels, or of answers that name no class.
    """
    if labels is None or not (comparison.answers or comparison.maps):
        return {}
    kind = "mean_iou" if comparison.maps else "right"
    if comparison.maps:
        integers: int | float = float(mean_overlap(comparison.maps, labels, classes))
    else:
        pairs = zip(comparison.answers, labels.tolist(), strict=True)
        integers = sum(a == b for a, b in pairs)
    facts = {"labelled": len(labels), f"integer_{kind}": integers}
    if in_float is None:
        return facts
    return {**facts, f"float_{kind}": float(in_float) if comparison.maps else in_float}


def print_accuracy(facts: dict[str, Any]) -> None:
    """A line, where labels are known."""
    if not facts:
        return
    of, told = facts["labelled"], []
    for name in ("float", "integer"):
        if f"{name}_mean_iou" in facts:
            told.append(f"{name} {facts[f'{name}_mean_iou']:.2%}")
        elif f"{name}_right" in facts:
            right = facts[f"{name}_right"]
            told.append(f"{name.replace('er', 'ers')} {right / of:.2%} ({right} of {of})")
    what = "mean IoU" if "integer_mean_iou" in facts else "accuracy"
    Console().print(f"{what}: {', '.join(told)}")


def print_warnings(notes: Sequence[Note], *, err: bool = False) -> None:
    """What speaks against a network, however exact it is."""
    console = Console(stderr=err)
    for note in notes:
        if note.is_warning:
            console.print(printable(f"warning: {note}"), markup=False, soft_wrap=True)


def health_facts(health: Health, labels: IntArray | None) -> dict[str, Any]:
    """What rounding lost, and how float and integers answer some images of the calibration."""
    worst = max(health.zeroed, key=lambda n: health.zeroed[n], default="")
    facts: dict[str, Any] = {
        "examined": len(health.images),
        "weights_zeroed": {n: round(share, 4) for n, share in health.zeroed.items()},
        "most_zeroed": f"{worst}: {health.zeroed[worst]:.1%}" if worst else "",
        "same_answers": sum(
            a == b for a, b in zip(health.float_answers, health.integer_answers, strict=True)
        ),
    }
    if labels is not None and health.integer_answers:
        own = labels[list(health.images)].tolist()
        for name, answers in (("float", health.float_answers), ("integer", health.integer_answers)):
            facts[f"{name}_right"] = sum(a == b for a, b in zip(answers, own, strict=True))
    return facts


def print_rates(comparison: Comparison) -> None:
    """Firing rate of every neuron node."""
    table = Table("neurons", "spikes per neuron and step")
    for name, rate in comparison.rates.items():
        table.add_row(Text(printable(name)), f"{rate:.2%}")
    Console().print(table)


def note_facts(note: Note) -> dict[str, Any]:
    """A note as JSON."""
    return {"kind": note.kind.value, "path": note.path, "text": note.text}


def result_facts(result: Result) -> dict[str, Any]:
    """One model of the demo as JSON."""
    return {
        "model": result.model,
        "images": result.images,
        "float_right": result.float_right,
        "int_right": result.int_right,
        "exact": result.exact,
        "simulators": {
            c.got: {"compared": c.compared, "mismatches": c.mismatches, **comparison_facts(c)}
            for c in result.comparisons
        },
        "seconds": result.seconds,
        "notes": [note_facts(note) for note in result.notes],
        "files": [str(f) for f in result.files],
        "report": str(result.report),
    }


def print_result(result: Result) -> None:
    """One model of the demo."""
    Console().rule(f"[bold]{result.model}")
    share = result.images / 100
    Console().print(
        f"accuracy: float {result.float_right / share:.2f} %, int8 {result.int_right / share:.2f} %"
        f" ({result.float_right} and {result.int_right} of {result.images} test images)"
    )
    print_comparisons(result.comparisons)
    for c in result.comparisons:
        if c.steps and c.seconds:
            rate = c.steps / c.seconds
            Console().print(f"{c.got}: {c.steps} steps in {c.seconds:.1f} s, {rate:.0f} steps/s")
    if result.comparisons:
        rates = result.comparisons[0].rates.values()
        Console().print(
            f"firing rates: {min(rates):.1%} to {max(rates):.1%} in {len(rates)} layers"
        )
    for note in result.notes:
        Console().print(f"note: {note}", markup=False)
    stages = ", ".join(f"{name} {s:.1f} s" for name, s in result.seconds.items())
    Console().print(f"time: {stages}")
    files = printable(", ".join(map(str, result.files)))
    Console().print(f"files: {files}", markup=False, soft_wrap=True)


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
        "simulator_only": _simulator_only(graph),
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


def _simulator_only(graph: Graph) -> list[str]:
    """Each reason why Lava's own neurons cannot be some, with their names."""
    named: dict[str, list[str]] = {}
    for found in unsupported_by_lif(graph):
        named.setdefault(found.reason, []).append(found.node)
    return [f"{reason}: {', '.join(names)}" for reason, names in named.items()]


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


def _size(network: Network, node: str) -> int:
    size = 1
    for n in network.graph.types[node].shape:
        size *= n
    return size


def print_facts(title: str, facts: dict[str, Any], *, err: bool = False) -> None:
    """Print flat facts, a row each; on standard error where standard output takes a file."""
    table = Table("", escape(printable(title)))
    for key, value in facts.items():
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        table.add_row(key.replace("_", " "), Text(printable(text) or "none"))
    Console(stderr=err).print(table)
