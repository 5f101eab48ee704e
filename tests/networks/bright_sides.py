"""Images that are dark, or bright on one side, and what fine-tuning of them is checked with."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lapilli.model.capture import program
from lapilli.model.capture.axes import to_steps
from lapilli.model.capture.program import neuron_of
from lapilli.model.families.lif import LIF
from lapilli.model.fit import Split
from lapilli.model.loading.preprocess import Preprocessing
from lapilli.quantize.finetuning.fake_quantized import FakeQuantized
from lapilli.quantize.image_scale import quantized_images
from lapilli.quantize.pytorch.recorder import recorder
from lapilli.simulators.reference import Reference

KNOWN = Preprocessing(mean=(0.4,), std=(0.25,), classes=("dark", "left", "right"))


def split(count: int = 96) -> Split:
    """Images that are dark, bright on the left, or bright on the right, among noise."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 120, (count, 1, 4, 4), np.uint8)
    labels = rng.integers(0, 3, count)
    images[labels == 1, :, :, :2] += 100
    images[labels == 2, :, :, 2:] += 100
    return Split(images, labels)


def require_equal_spikes(fake: FakeQuantized, images: Tensor) -> int:
    """Currents and spikes of the fake-quantized forward are those of its integer graph."""
    graph, neurons = fake.graph, fake._fitted.lowered.neurons
    whole = quantized_images(fake._source, images)
    steps = np.moveaxis(whole, 1, 0) if images.ndim == 5 else [whole] * graph.T
    got = Reference().compile(graph).run({graph.inputs[0]: np.stack(list(steps))})
    fires = {node: neuron_of(call) for node, (call, _) in neurons.items()}
    with torch.no_grad(), recorder(fake.running, {f.module for f in fires.values()}) as seen:
        logits = fake(images)
    for node, (call, neuron) in neurons.items():
        current, spikes = (
            to_steps(each.numpy(), call.dims, len(images)) for each in seen.trace(fires[node])
        )
        assert not isinstance(call.op, program.Membrane)
        sent = spikes / float(fires[node].rule.output_scale)
        assert np.array_equal(sent, got.values[node]), node
        each = 1 if neuron.factors is None else neuron.factors.array
        found = np.rint(current / (float(neuron.scale) * each))
        assert np.array_equal(found, got.currents[node]), node
        assert got.values[node].any(), node
    real = got.values[graph.outputs[0]][-1] * float(fake._fitted.lowered.logit_scale)
    assert logits.numpy() == pytest.approx(real, rel=1e-6)
    return len(neurons)


class Merged(nn.Module):
    """Two linear maps in a row: one synapse."""

    def __init__(self, norm: bool = False) -> None:
        super().__init__()
        self.one, self.two, self.lif = nn.Linear(16, 8), nn.Linear(8, 8), LIF(v_threshold=0.25)
        self.norm = nn.BatchNorm1d(8) if norm else nn.Identity()
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.two(self.one(x.flatten(1)))).expand(4, -1, -1)
        y: Tensor = self.head(self.lif(x).mean(0))
        return y
