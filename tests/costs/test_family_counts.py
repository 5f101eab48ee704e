"""Every family and layout, counted in closed form and by delivery: the same numbers."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("numba")

from lapilli.costs.counting import count
from lapilli.costs.values import watched
from lapilli.deploy.surveys.coverage import integers
from lapilli.model.trial import SMALL, alive, trial_images
from lapilli.quantize import quantize
from lapilli.simulators.event_driven import EventDriven
from lapilli.simulators.fast import Fast

pytestmark = pytest.mark.torch

QUICK = ("spikformer imagenet", "spikingformer bsa")
ROWS = [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in SMALL]


def test_there_are_many() -> None:
    assert len(SMALL) >= 26


@pytest.mark.parametrize("name", ROWS)
def test_both_counters_agree(name: str) -> None:
    config, size = SMALL[name]
    images = trial_images(config, size, 2)
    events = images.ndim == 5
    layout = "BTCHW" if events else "BCHW"
    network = quantize(alive(config, size), images, layout=layout, counts=events).network
    graph, shown = network.graph, integers(network, images.numpy())
    steps = np.moveaxis(shown, 1, 0) if events else np.broadcast_to(shown, (graph.T, *shown.shape))
    inputs = {graph.inputs[0]: steps}

    closed = count(graph, inputs, Fast().compile(watched(graph)).run(inputs))

    assert closed == EventDriven().compile(graph).run(inputs).counts
    assert all(closed[name].sent for name in graph.firing)
