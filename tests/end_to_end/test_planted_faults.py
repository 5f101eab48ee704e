"""Each planted fault is caught, and reported where it was planted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from lapilli.deploy.comparison.compare import Comparison, compare
from lapilli.ir import ops
from lapilli.ir.graph import Graph
from lapilli.ir.passes.delays import balance_delays
from lapilli.ir.semantics import Fired, State, evaluate, integrate
from lapilli.ir.tensor import IntArray, IntTensor
from lapilli.model.digits import Split
from lapilli.model.families import lif as neuron
from lapilli.quantize import Quantized
from lapilli.simulators.lava.host import plan
from lapilli.simulators.lava.host.adapter import Lava
from lapilli.simulators.nir.nirtorch import NirTorch
from lapilli.simulators.nir.snntorch import SnnTorch
from lapilli.simulators.nir.spikingjelly import SpikingJelly
from lapilli.simulators.protocol import Simulator
from lapilli.simulators.reference import Reference

Get = Callable[[str], Quantized]
MODELS = ("spikformer", "spike_driven")
IMAGES = 24
LAVA_IMAGES = 6


def _against_pytorch(
    quantized: Quantized, graph: Graph, images: Split, simulator: Simulator | None = None
) -> Comparison:
    """Compare PyTorch, which is right, with a simulator that runs `graph`."""
    count = LAVA_IMAGES if isinstance(simulator, Lava) else IMAGES
    network = quantized.network
    return compare(
        network,
        quantized.reference,
        (simulator or Reference()).compile(graph),
        images.images[:count],
    )


def _changed(graph: Graph, name: str, change: Callable[[ops.Op], ops.Op]) -> Graph:
    assert any(n.name == name for n in graph.nodes)
    nodes = (replace(n, op=change(n.op)) if n.name == name else n for n in graph.nodes)
    return Graph(tuple(nodes), graph.outputs, graph.T)


def _weight_plus_one(quantized: Quantized, name: str, images: Split) -> Graph:
    """One more at the synapse of the busiest input, which is shown to be active."""
    graph = quantized.network.graph
    recording = Reference().compile(graph).run(quantized.network.encode(images.images[:6]))
    op = graph[name].op
    assert isinstance(op, ops.Linear | ops.Conv2d)
    x = np.abs(recording.values[graph[name].inputs[0]])
    channel_axis = 2 if isinstance(op, ops.Conv2d) else x.ndim - 1
    activity = x.sum(axis=tuple(a for a in range(x.ndim) if a != channel_axis))
    busiest = int(activity.argmax())
    assert activity[busiest] > 0
    weight = op.weight.array.copy()
    synapse = (0, busiest, *(n // 2 for n in weight.shape[2:]))
    weight[synapse] += 1
    return _changed(graph, name, lambda _: replace(op, weight=IntTensor(weight)))


WEIGHTS = (
    ("spikformer", "patch_embed.proj_conv"),
    ("spikformer", "patch_embed.rpe_conv"),
    ("spikformer", "block.0.attn.k_linear"),
    ("spikformer", "block.1.attn.proj_linear"),
    ("spikformer", "block.1.mlp.fc2_linear"),
    ("spike_driven", "patch_embed.proj_conv3"),
    ("spike_driven", "block.0.attn.v_conv"),
    ("spike_driven", "block.1.mlp.fc1_conv"),
)


@pytest.mark.parametrize(("model", "layer"), WEIGHTS)
def test_one_weight(quantized: Get, test_split: Split, model: str, layer: str) -> None:
    q = quantized(model)
    found = _against_pytorch(q, _weight_plus_one(q, layer, test_split), test_split)
    assert found.first is not None
    assert layer in found.first.suspects
    assert found.first.kind == "current"
    assert not found.exact


@pytest.mark.parametrize("model", MODELS)
def test_one_weight_of_the_head(quantized: Get, test_split: Split, model: str) -> None:
    q = quantized(model)
    found = _against_pytorch(q, _weight_plus_one(q, "head", test_split), test_split)
    assert found.first is not None
    assert (found.first.node, found.first.kind) == ("logits", "logits")
    assert "head" in found.first.suspects


BIASES = (("spikformer", "block.0.attn.v_linear"), ("spike_driven", "patch_embed.rpe_conv"))


@pytest.mark.parametrize(("model", "layer"), BIASES)
def test_one_bias(quantized: Get, test_split: Split, model: str, layer: str) -> None:
    q = quantized(model)

    def more(op: ops.Op) -> ops.Op:
        assert isinstance(op, ops.Linear | ops.Conv2d)
        bias = op.bias.array.copy()
        bias[0] += 1
        return replace(op, bias=IntTensor(bias))

    found = _against_pytorch(q, _changed(q.network.graph, layer, more), test_split)
    assert found.first is not None
    assert layer in found.first.suspects


# An OR's membrane is 0 or 512 and more: any lower threshold is the same OR, so only +1 shows.
THRESHOLDS = (
    ("spikformer", "patch_embed.proj_lif1", -1),
    ("spikformer", "patch_embed.proj_lif1", +1),
    ("spikformer", "block.0.attn.v_lif", -1),
    ("spikformer", "block.0.attn.attn_lif", +1),
    ("spike_driven", "block.0.attn.talking_heads_lif", +1),
    ("spike_driven", "block.1.mlp.fc1_lif", -1),
    ("spike_driven", "block.1.mlp.fc1_lif", +1),
)


@pytest.mark.parametrize(("model", "node", "by"), THRESHOLDS)
def test_one_threshold(quantized: Get, test_split: Split, model: str, node: str, by: int) -> None:
    """By one unit of vth; +1 is also what `>` for `>=` does to integers that tie."""
    q = quantized(model)

    def moved(op: ops.Op) -> ops.Op:
        assert isinstance(op, ops.Neuron)
        return replace(op, threshold=IntTensor(op.threshold.array + 64 * by))

    found = _against_pytorch(q, _changed(q.network.graph, node, moved), test_split)
    assert found.first is not None
    assert (found.first.node, found.first.kind) == (node, "spikes")
    assert found.first.membranes[0] == found.first.membranes[1]


@pytest.mark.parametrize("model", MODELS)
def test_greater_for_greater_or_equal(
    quantized: Get, test_split: Split, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch compares with `>`: every structural tie becomes a lost spike."""
    monkeypatch.setattr(neuron, "_fire", lambda x: (x > 0).to(x.dtype))
    q = quantized(model)
    found = _against_pytorch(q, q.network.graph, test_split)
    assert found.first is not None
    first = found.first
    assert first.kind == "spikes"
    assert (first.expected, first.got) == (0, 1)
    assert first.membranes[0] == first.membranes[1]
    assert first.threshold is not None
    assert first.membranes[0] is not None
    assert 0 <= first.membranes[0] - first.threshold < 64  # a tie in state units


def _heads_swapped(op: ops.Stateless, x: tuple[IntArray, ...]) -> IntArray:
    y = evaluate(op, x)
    if isinstance(op, ops.SpikeMatmul | ops.Gate) and y.shape[1:] == (5, 16, 8):
        return y[:, [1, 0, 2, 3, 4]]
    return y


@pytest.mark.parametrize(
    ("model", "node"),
    [("spikformer", "block.0.attn.attn_lif"), ("spike_driven", "block.0.attn.talking_heads_lif")],
)
def test_two_heads_swapped(quantized: Get, test_split: Split, model: str, node: str) -> None:
    q = quantized(model)
    wrong = Reference("swapped", evaluate=_heads_swapped)
    found = _against_pytorch(q, q.network.graph, test_split, wrong)
    assert found.first is not None
    assert (found.first.node, found.first.kind) == (node, "current")


def _never_reset(op: ops.Neuron, x: IntArray, state: State) -> Fired:
    fired = integrate(op, x, state)
    return replace(fired, state=State(fired.state.u, fired.membrane))


@pytest.mark.parametrize("model", MODELS)
def test_a_neuron_that_does_not_reset_on_a_spike(
    quantized: Get, test_split: Split, model: str
) -> None:
    q = quantized(model)
    wrong = Reference("never-resets", integrate=_never_reset)
    found = _against_pytorch(q, q.network.graph, test_split, wrong)
    assert found.first is not None
    assert (found.first.kind, found.first.t) == ("membrane", 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "simulator", [NirTorch(), SnnTorch(), SpikingJelly()], ids=lambda s: s.name
)
@pytest.mark.parametrize(("node", "by"), [("block.0.attn.v_lif", -1), ("block.0.attn.attn_lif", 1)])
def test_one_threshold_in_a_portable_file(
    spikformer: Quantized, test_split: Split, simulator: Simulator, node: str, by: int
) -> None:
    for package in ("nirtorch", "snntorch", "spikingjelly"):
        pytest.importorskip(package)

    def moved(op: ops.Op) -> ops.Op:
        assert isinstance(op, ops.Neuron)
        return replace(op, threshold=IntTensor.of(op.threshold.array + 64 * by))

    graph = _changed(spikformer.network.graph, node, moved)
    found = _against_pytorch(spikformer, graph, test_split, simulator)
    assert found.first is not None
    assert (found.first.node, found.first.kind) == (node, "spikes")


def test_an_off_grid_weight_in_pytorch(spikformer: Quantized, test_split: Split) -> None:
    weight = spikformer.reference.module.get_parameter("patch_embed.proj_conv1.weight")
    kept = weight.detach().clone()
    try:
        with torch.no_grad():
            weight[0] += 2.0**-30
        found = r"patch_embed\.proj_conv1\.weight: .* is no multiple"
        with pytest.raises(AssertionError, match=found):
            _against_pytorch(spikformer, spikformer.network.graph, test_split)
    finally:
        with torch.no_grad():
            weight.copy_(kept)


@pytest.mark.lava
@pytest.mark.parametrize(
    ("model", "layer"), [("spikformer", "block.0.attn.k_linear"), ("spike_driven", "head")]
)
def test_lava_one_weight(quantized: Get, test_split: Split, model: str, layer: str) -> None:
    q = quantized(model)
    graph = _weight_plus_one(q, layer, test_split)
    found = _against_pytorch(q, graph, test_split, Lava(batch=3))
    assert found.first is not None
    assert layer in found.first.suspects
    if found.first.kind == "current":
        before, after = found.first.membranes  # Lava was run again to that step
        assert before is not None
        assert after is not None
        assert before != after


@pytest.mark.lava
def test_lava_one_delay_removed(spikformer: Quantized, test_split: Split) -> None:
    balanced = balance_delays(spikformer.network.graph)
    delay = next(n for n in balanced.nodes if isinstance(n.op, ops.Delay) and "block.0" in n.name)
    nodes = tuple(
        replace(n, inputs=tuple(delay.inputs[0] if i == delay.name else i for i in n.inputs))
        for n in balanced.nodes
        if n is not delay
    )
    graph = Graph(nodes, balanced.outputs, balanced.T)
    found = _against_pytorch(spikformer, graph, test_split, Lava(batch=3, balance=False))
    readers = [n.name for n in graph.nodes if delay.inputs[0] in n.inputs]
    assert found.first is not None
    assert set(found.first.suspects) & set(readers)


@pytest.mark.lava
def test_lava_one_reset_missed(
    spike_driven: Quantized, test_split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = "block.0.mlp.fc1_lif"
    right = plan.resets

    def late(graph: Graph) -> dict[str, tuple[int, int]]:
        interval, offset = right(graph)[node]
        return {**right(graph), node: (interval, (offset + 1) % interval)}

    monkeypatch.setattr(plan, "resets", late)
    found = _against_pytorch(spike_driven, spike_driven.network.graph, test_split, Lava(batch=3))
    assert found.first is not None
    assert found.first.node == node
    assert found.first.kind == "spikes"
    assert "reset" in found.first.cause  # its membranes, read in a second run, differ
