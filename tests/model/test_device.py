"""A model off the CPU: PyTorch's lazy device stands for a GPU; it refuses `numpy()` too."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402
from torch._lazy import ts_backend  # noqa: E402

from lapilli.ir.errors import CaptureError  # noqa: E402
from lapilli.model.capture import capture as capturing  # noqa: E402
from lapilli.model.capture.capture import capture  # noqa: E402
from lapilli.model.capture.device import on_cpu  # noqa: E402
from lapilli.model.families.lif import LIF  # noqa: E402
from lapilli.quantize import quantize  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def elsewhere() -> str:
    """A device whose tensors are not the CPU's."""
    ts_backend.init()
    with pytest.raises(TypeError, match="to copy the tensor to host memory"):
        torch.ones(1).to("lazy").numpy()
    return "lazy"


class Net(nn.Module):
    """A buffer, a tensor that is neither parameter nor buffer, and a neuron."""

    bent: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.lif, self.head = nn.Linear(16, 12), LIF(v_threshold=0.3), nn.Linear(12, 3)
        self.register_buffer("bent", torch.eye(16))
        self.gain = torch.tensor(2.0)

    def forward(self, images: Tensor) -> Tensor:
        x = images.flatten(1).repeat(4, 1, 1) @ self.bent
        y: Tensor = self.head(self.lif(self.fc(x) * self.gain)).mean(0)
        return y

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        self.gain = fn(self.gain)  # as a user does who calls .cuda()
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]


def _made() -> Net:
    torch.manual_seed(0)
    return Net().eval()


def test_a_copy_is_captured_and_the_model_stays(elsewhere: str) -> None:
    images = torch.randn(6, 1, 4, 4)
    expected = quantize(_made(), images).network.graph.digest
    model = _made().to(elsewhere)
    made = quantize(model, images.to(elsewhere))
    assert made.network.graph.digest == expected
    assert {t.device.type for t in (*model.parameters(), model.bent, model.gain)} == {elsewhere}
    (logits,) = made.reference.module(images.double())  # the program's, its weights parameters
    assert (logits.shape, logits.device.type) == ((6, 3), "cpu")


def test_without_it_nothing_works(elsewhere: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capturing, "on_cpu", lambda model: model)
    with pytest.raises((TypeError, CaptureError)):
        capture(_made().to(elsewhere), (1, 4, 4))


def test_a_tensor_that_nobody_registered_comes_along(elsewhere: str) -> None:
    model = _made()
    model.gain = model.gain.to(elsewhere)
    assert on_cpu(model) is not model
    assert on_cpu(model).gain.device.type == "cpu"
    assert model.gain.device.type == elsewhere


def test_a_model_on_the_cpu_is_not_copied() -> None:
    model = _made()
    assert on_cpu(model) is model


def test_a_model_without_values_is_refused() -> None:
    with torch.device("meta"):
        model = nn.Linear(3, 4)
    with pytest.raises(CaptureError, match="'weight': is on the meta device"):
        on_cpu(model)
