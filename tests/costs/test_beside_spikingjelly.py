"""SpikingJelly's own estimator and ours, on the same float network's spikes: the same numbers.

What differs is named, line by line: batch norm, which is in the integers' weights; additions that
PyTorch makes inside neurons; 4 bytes for every number.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("spikingjelly.activation_based")

from spikingjelly.activation_based.functional import reset_net  # noqa: E402
from spikingjelly.activation_based.model.spikformer import Spikformer  # noqa: E402
from spikingjelly.activation_based.op_counter.simple_energy import (  # noqa: E402
    SimpleEnergyProfiler,
)
from torch import Tensor, nn  # noqa: E402

from lapilli.costs.counting import count  # noqa: E402
from lapilli.costs.models.model import Measured  # noqa: E402
from lapilli.costs.models.spikingjelly import AC, MAC, SPIKINGJELLY  # noqa: E402
from lapilli.costs.shapes import dense  # noqa: E402
from lapilli.costs.traffic import traffic, widths  # noqa: E402
from lapilli.costs.values import Values, watched  # noqa: E402
from lapilli.ir import ops  # noqa: E402
from lapilli.ir.graph import Graph  # noqa: E402
from lapilli.ir.recording import Recording  # noqa: E402
from lapilli.ir.semantics import evaluate  # noqa: E402
from lapilli.ir.tensor import IntArray  # noqa: E402
from lapilli.quantize import quantize  # noqa: E402
from lapilli.quantize.pytorch.float_module import FloatModule  # noqa: E402

pytestmark = pytest.mark.torch


def _alive() -> tuple[nn.Module, Tensor]:
    """Their Spikformer, small, with batch-norm statistics of random images."""
    torch.manual_seed(0)
    model: nn.Module = Spikformer(
        num_classes=5, embed_dims=32, depths=1, T=4, num_heads=2, patch_size=4
    )
    images = torch.randn(3, 3, 16, 16) * torch.tensor([0.3, 1.0, 3.0]).reshape(3, 1, 1, 1)
    for module in model.train().modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.8, 1.6)
            nn.init.normal_(module.bias, 0.8, 1.0)
            module.momentum = 0.5
    with torch.no_grad():
        for _ in range(4):
            model(images)
            reset_net(model)
    return model.eval(), images


def _recorded(
    graph: Graph, image: Mapping[str, IntArray], spikes: Mapping[str, IntArray]
) -> Recording:
    """What follows from the spikes of a float run, in whole numbers: products of spikes."""
    values = dict(spikes)
    for name in watched(graph).recorded:
        node = graph[name]
        if isinstance(node.op, ops.SpikeMatmul):
            known = Values(graph, image, Recording(values))
            operands = [known.of(operand) for operand in node.inputs]
            T, B = operands[0].shape[:2]
            y = evaluate(node.op, tuple(x.reshape(T * B, *x.shape[2:]) for x in operands))
            values[name] = y.reshape(T, B, *y.shape[1:])
    return Recording(values)


def test_the_same_spikes_give_the_same_counts() -> None:
    model, images = _alive()
    made = quantize(model, images)
    graph, count_of = made.network.graph, len(images)
    run = FloatModule.beside(made.reference, model, torch.from_numpy).run(images.numpy())
    shown = {graph.inputs[0]: np.ones((graph.T, *images.shape), np.int64)}
    counted = count(graph, shown, _recorded(graph, shown, run.spikes))
    of = widths(graph)
    measured = Measured(graph, count_of, counted, traffic(counted, of), dense(graph), of)

    reset_net(model)
    profiler = SimpleEnergyProfiler()
    profiler.bind_model(model)
    with profiler, torch.no_grad():
        model(images)
    theirs = profiler.get_report().counts
    norms = profiler.mac_counter.get_counts()["Global"]
    normalised = sum(n for op, n in norms.items() if "batch_norm" in str(op))

    ours = list(SPIKINGJELLY.terms(measured))
    synaptic = [t for t in ours if t.node in measured.dense]
    acs = sum(t.quantity for t in synaptic if t.key == AC)
    macs = sum(t.quantity for t in synaptic if t.key == MAC)
    assert acs == theirs["synop"] > 1_000_000
    assert macs == theirs["mac"] - normalised > 1_000_000
    assert normalised > 0
    products = [n.name for n in graph.nodes if isinstance(n.op, ops.SpikeMatmul)]
    reads = acs + macs - sum(t.quantity for t in synaptic if t.node in products)
    assert 4 * reads == theirs["weight_read_bytes"]
    updates = sum(counts.updates for counts in counted.values())
    assert 4 * updates == theirs["neuron_state_read_bytes"] == theirs["neuron_state_write_bytes"]
    assert theirs["ac"] > theirs["synop"]  # batch norm and neurons, as PyTorch adds in them
