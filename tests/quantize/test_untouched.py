"""Models that ship with SpikingJelly, not a line of them changed."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("spikingjelly.activation_based.model")

from torch import nn  # noqa: E402

from lapilli.quantize import quantize  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.slow]

_CONFIGS: dict[str, tuple[str, str, int, dict[str, Any]]] = {
    "spikformer": ("spikformer", "Spikformer", 64, {
        "img_size_h": 64, "img_size_w": 64, "embed_dims": 64, "num_heads": 4, "depths": 1,
    }),
    "spike-driven": ("spike_driven_transformer", "SpikeDrivenTransformer", 32, {
        "embed_dims": 64, "num_heads": 4, "depths": 1, "pooling_stat": "0011",
    }),
    "qkformer-token": ("qkformer", "QKFormer", 64, {
        "embed_dims": 64, "num_heads": (1, 2, 4), "depths": (1, 1, 1),
    }),
    "qkformer-channel": ("qkformer", "QKFormer", 64, {
        "embed_dims": 64, "num_heads": (1, 2, 4), "depths": (1, 1, 1), "qka_type": "channel",
    }),
}  # fmt: skip


def alive(model: nn.Module) -> nn.Module:
    """Batch norms as if trained: without, most layers are silent."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.get_buffer("running_mean").normal_(0, 0.1, generator=generator)
                module.get_buffer("running_var").uniform_(0.01, 0.1, generator=generator)
                module.weight.uniform_(0.8, 1.6, generator=generator)
                module.bias.normal_(0.4, 0.2, generator=generator)
    return model.eval()


@pytest.mark.parametrize("name", _CONFIGS)
@pytest.mark.filterwarnings("ignore")
def test_their_models_are_spike_exact(name: str, exact_on: Callable[..., int]) -> None:
    file, kind, size, options = _CONFIGS[name]
    module = importlib.import_module(f"spikingjelly.activation_based.model.{file}")
    torch.manual_seed(0)
    model = alive(getattr(module, kind)(T=4, num_classes=10, **options))
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(4, 3, size, size, generator=generator)
    made = quantize(model, images[:2])
    assert made.network.graph.T == 4
    assert exact_on(made, images[2:]) > 200_000
