"""Neurons that take (T*B, ...) and cut axis 0 themselves, as those of STEP do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from lapilli.deploy.comparison.compare import compare  # noqa: E402
from lapilli.ir.errors import CaptureError  # noqa: E402
from lapilli.model.families.lif import LIF  # noqa: E402
from lapilli.model.neurons.adapters import ADAPTERS, Adapter  # noqa: E402
from lapilli.model.neurons.frameworks import own  # noqa: E402
from lapilli.quantize import quantize  # noqa: E402
from lapilli.simulators.reference import Reference  # noqa: E402

pytestmark = pytest.mark.torch
T = 4


class Folded(nn.Module):
    """A LIF of (T*B, ...)."""

    def __init__(self, steps: int = T) -> None:
        super().__init__()
        self.steps, self.lif = steps, LIF(v_threshold=0.5)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.lif(x.unflatten(0, (self.steps, -1))).flatten(0, 1)
        return y


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = Adapter(
        rule=lambda m: own.LIF.rule(m.lif),
        trace=lambda m, x: own.LIF.trace(m.lif, x),
        set_threshold=lambda m, v: own.LIF.set_threshold(m.lif, v),
        folded=lambda m: int(m.steps),
    )
    monkeypatch.setitem(ADAPTERS, f"{Folded.__module__}.Folded", adapter)


class Windows(nn.Module):
    """Windows of an image side by side with samples; at the end, time alone in axis 0."""

    def __init__(self, cut: Any) -> None:
        super().__init__()
        self.stem, self.stem_lif = nn.Conv2d(1, 4, 3, padding=1), Folded()
        self.mix, self.window_lif = nn.Conv2d(4, 4, 1), Folded()
        self.fc, self.last_lif, self.head = nn.Linear(4, 6), Folded(), nn.Linear(6, 3)
        self.cut = cut

    def forward(self, images: Tensor) -> Tensor:
        x = images.unsqueeze(0).repeat(T, 1, 1, 1, 1).flatten(0, 1)
        x = self.stem_lif(self.stem(x))
        x = self.cut(self.mix(x), self.window_lif)
        x = self.fc(x.flatten(2).mean(2)).unflatten(0, (T, -1))
        logits: Tensor = self.head(self.last_lif(x)).mean(0)  # (T, B, 6): cut into (T, 1, B, 6)
        return logits


def behind_samples(x: Tensor, lif: nn.Module) -> Tensor:
    """(T*B*2, C, H / 2, W): rows of windows."""
    x = x.unflatten(2, (2, -1)).transpose(1, 2)
    windows = lif(x.flatten(0, 1)).unflatten(0, (-1, 2))
    y: Tensor = windows.transpose(1, 2).flatten(2, 3)
    return y


def before_time(x: Tensor, lif: nn.Module) -> Tensor:
    """(2*T*B, C, H / 2, W): the neuron would step from window to window."""
    x = x.unflatten(2, (2, -1)).permute(2, 0, 1, 3, 4)
    windows = lif(x.flatten(0, 1)).unflatten(0, (2, -1))
    y: Tensor = windows.permute(1, 2, 0, 3, 4).flatten(2, 3)
    return y


def test_time_comes_first_and_anything_may_follow() -> None:
    torch.manual_seed(0)
    model = Windows(behind_samples).eval()
    with torch.no_grad():
        for layer in (model.stem, model.mix, model.fc):
            layer.weight.mul_(4)
    made = quantize(model, torch.rand(8, 1, 4, 4))
    network = made.network
    pixels = np.random.default_rng(0).integers(0, 256, (6, 1, 4, 4), np.uint8)
    pytorch = made.reference
    found = compare(network, pytorch, Reference().compile(network.graph), pixels)
    found.require()
    assert found.compared > 3 * 4 * 6 * (64 + 64 + 6)
    assert network.graph.types["window_lif"].shape == (2, 4, 2, 4)


def test_a_neuron_that_cuts_windows_into_time_is_refused() -> None:
    model = Windows(before_time).eval()
    with pytest.raises(
        CaptureError, match=r"'window_lif'.*\[2\*T\*B, .*takes \[T\*B, ...\], T = 4"
    ):
        quantize(model, torch.randn(2, 1, 4, 4))


def test_a_neuron_of_other_steps_is_refused() -> None:
    model = Windows(behind_samples).eval()
    model.last_lif = Folded(2)
    with pytest.raises(CaptureError, match=r"'last_lif'.*takes \[T\*B, ...\], T = 2"):
        quantize(model, torch.randn(2, 1, 4, 4))
