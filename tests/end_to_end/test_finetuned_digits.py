"""The shipped networks of the digits, fine-tuned to three bits (docs/training.md)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

torch = pytest.importorskip("torch")

from lapilli.model.digits import PREPROCESSING  # noqa: E402
from lapilli.model.fit import Options  # noqa: E402
from lapilli.model.loading.checkpoint import build  # noqa: E402
from lapilli.quantize.finetuning import finetune  # noqa: E402
from lapilli.simulators.reference import Reference  # noqa: E402

if TYPE_CHECKING:
    from lapilli.model.digits import Split
    from lapilli.model.loading.checkpoint import Checkpoint

pytestmark = [pytest.mark.torch, pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


@pytest.mark.parametrize("name", ["spikformer", "spike_driven"])
def test_three_bits_lose_at_most_eight_of_360(
    name: str, checkpoint: Callable[[str], Checkpoint], training: Split, test_split: Split
) -> None:
    model = build(checkpoint(name))
    floats = PREPROCESSING.right(model, test_split.images, test_split.labels)
    tuned = finetune(
        model,
        training.images,
        training.labels,
        training=Options(epochs=40, batch=64, learning_rate=2e-3, shift=1),
        weight_bits=3,
        mean=PREPROCESSING.mean,
        std=PREPROCESSING.std,
    )
    network = tuned.quantized.network
    run = Reference().compile(network.graph).run(network.encode(test_split.images))
    answers = run.values[network.graph.outputs[0]][-1].argmax(-1)
    assert int((answers == test_split.labels).sum()) >= floats - 8
