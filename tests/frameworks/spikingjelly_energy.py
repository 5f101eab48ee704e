"""SpikingJelly's estimators of energy beside ours, on the same spikes of the same float network.

`PYTHONPATH=tests python -m frameworks.spikingjelly_energy` prints the table of docs/cost.md, for
the whole `spikformer_cifar10` of SpikingJelly 2.0 (a minute). Each line of theirs is a line of ours
and a difference that is known without either: from shapes, and from which inputs are spikes.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from frameworks.spikingjelly_lines import Line, lemaire_lines, shown_by, simple_lines
from spikingjelly.activation_based.functional import reset_net
from spikingjelly.activation_based.model.spikformer import spikformer_cifar10
from spikingjelly.activation_based.op_counter.analytical_energy import (
    LemaireEnergyConfig,
    LemaireEnergyProfiler,
)
from spikingjelly.activation_based.op_counter.simple_energy import SimpleEnergyProfiler
from torch import Tensor, nn

from lapilli.costs.counting import count
from lapilli.costs.models.lemaire import LEMAIRE
from lapilli.costs.models.model import Measured, Model
from lapilli.costs.models.spikingjelly import SPIKINGJELLY
from lapilli.costs.prices import shipped
from lapilli.costs.shapes import dense
from lapilli.costs.traffic import traffic, widths
from lapilli.costs.values import Values, watched
from lapilli.ir import ops
from lapilli.ir.graph import Graph, Node
from lapilli.ir.recording import Recording
from lapilli.ir.semantics import evaluate
from lapilli.ir.tensor import IntArray, IntTensor
from lapilli.quantize import quantize
from lapilli.quantize.pytorch.float_module import FloatModule


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """Both estimators on the same spikes.

    Attributes:
        simple, lemaire: lines of SpikingJelly's two estimators.
        picojoules: of each: theirs, and ours by the same prices; without biases Lemaire's.
    """

    simple: tuple[Line, ...]
    lemaire: tuple[Line, ...]
    picojoules: Mapping[str, tuple[float, float]]


def alive(model: nn.Module, images: Tensor) -> nn.Module:
    """Give a network of theirs batch-norm statistics of these images, by which all layers fire."""
    for module in model.train().modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.8, 1.6)
            nn.init.normal_(module.bias, 0.8, 1.0)
            module.momentum = 0.5
    with torch.no_grad():
        for _ in range(4):
            model(images)
            reset_net(model)
    return model.eval()


def beside(model: nn.Module, images: Tensor) -> Beside:
    """Run a network of theirs, let both estimators count it, and name what is between them."""
    measured = measured_in_float(model, images)
    shown = shown_by(model, images)
    reset_net(model)
    simple = SimpleEnergyProfiler()
    simple.bind_model(model)
    with simple, torch.no_grad():
        model(images)
    reset_net(model)
    lemaire = LemaireEnergyProfiler(config=LemaireEnergyConfig(strict=False))
    lemaire.bind_model(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of batch norm and pools, which the paper has not
        with lemaire, torch.no_grad():
            model(images)
    found = lemaire.get_report()
    bare = replace(measured, graph=without_biases(measured.graph))
    return Beside(
        simple=tuple(simple_lines(measured, model, simple, shown)),
        lemaire=tuple(lemaire_lines(bare, found.counts, shown)),
        picojoules={
            "simple": (simple.get_report().energy_total_pj, _priced(measured, SPIKINGJELLY)),
            "lemaire": (found.total_pj, _priced(bare, LEMAIRE)),
        },
    )


def measured_in_float(model: nn.Module, images: Tensor) -> Measured:
    """Count what the integer graph of a network would do on the spikes of its float module."""
    reset_net(model)
    made = quantize(model, images)
    graph = made.network.graph
    run = FloatModule.beside(made.reference, model, torch.from_numpy).run(images.numpy())
    given = {graph.inputs[0]: np.ones((graph.T, *images.shape), np.int64)}  # no spikes
    counted = count(graph, given, _recorded(graph, given, run.spikes))
    of = widths(graph)
    return Measured(graph, len(images), counted, traffic(counted, of), dense(graph), of)


def _recorded(
    graph: Graph, given: Mapping[str, IntArray], spikes: Mapping[str, IntArray]
) -> Recording:
    """What follows from the spikes of a float run, in whole numbers: products of spikes."""
    values = dict(spikes)
    for name in watched(graph).recorded:
        node = graph[name]
        if isinstance(node.op, ops.SpikeMatmul):
            known = Values(graph, given, Recording(values))
            operands = [known.of(operand) for operand in node.inputs]
            T, B = operands[0].shape[:2]
            y = evaluate(node.op, tuple(x.reshape(T * B, *x.shape[2:]) for x in operands))
            values[name] = y.reshape(T, B, *y.shape[1:])
    return Recording(values)


def without_biases(graph: Graph) -> Graph:
    """Return the same graph, no map of weights with a bias."""

    def bare(node: Node) -> Node:
        if not isinstance(node.op, ops.Linear | ops.Conv2d):
            return node
        return replace(node, op=replace(node.op, bias=IntTensor.of([0] * node.op.bias.size)))

    return Graph(tuple(bare(node) for node in graph.nodes), graph.outputs, graph.T)


def _priced(measured: Measured, model: Model) -> float:
    """Energy of all steps and images, by the table that the model is usually read by."""
    (table,) = (one for one in shipped() if one.name == model.table)
    return sum(
        float(term.quantity) * (table.prices[term.key].picojoules or 0.0)
        for term in model.terms(measured)
    )


def whole() -> Beside:
    """Both estimators on the whole `spikformer_cifar10`, random, and one random image."""
    torch.manual_seed(0)
    model: nn.Module = spikformer_cifar10()
    images = torch.randn(4, 3, 32, 32) * torch.tensor([0.3, 1.0, 2.0, 3.0]).reshape(4, 1, 1, 1)
    return beside(alive(model, images), images[1:2])


def row(line: Line) -> str:
    """Write a line as a row of the table in docs/cost.md."""
    numbers = " | ".join(f"{round(n):,}" for n in (line.theirs, line.ours, line.apart))
    return f"| {line.what} | {numbers} | {line.why} |"


def main() -> None:
    """Print the table, and both energies."""
    found = whole()
    lines = ["| what | SpikingJelly | lapilli | apart | why |", "|---|---|---|---|---|"]
    lines += [row(line) for line in (*found.simple, *found.lemaire)]
    for name, (theirs, ours) in found.picojoules.items():
        lines.append(f"{name}: {theirs / 1e9:.1f} mJ by SpikingJelly, {ours / 1e9:.1f} by lapilli")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
