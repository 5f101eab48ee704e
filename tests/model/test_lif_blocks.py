"""Many neurons that run some at a time give the bits of all at once."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from lapilli.model.families import lif  # noqa: E402
from lapilli.model.families.lif import LIF, PLIF, TernaryLIF  # noqa: E402
from lapilli.quantize.pytorch.recorder import recorder  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("neuron", [LIF(1.5), LIF(2.0, 0.1), PLIF(3.0), TernaryLIF()])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("count", [7, 8, 9, 31])
def test_blocks_give_the_same_bits(
    neuron: LIF, dtype: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    neuron = neuron.to(getattr(torch, dtype)).eval()
    x = (torch.randn(4, count, 3, 2).to(getattr(torch, dtype)) * 3).transpose(
        1, 2
    )  # not contiguous
    x[:, :, 0] = neuron.tau * neuron.v_threshold  # what rests so far meets its threshold
    with torch.no_grad():
        want = neuron.trace(x)
        assert want[0][0, :, 0].all()
        monkeypatch.setattr(lif, "_BLOCK", 8)
        calls: list[tuple[int, ...]] = []
        steps = LIF._steps_into

        def noted(self: LIF, x: Tensor, *others: Tensor) -> None:
            calls.append(tuple(x.shape))
            steps(self, x, *others)

        monkeypatch.setattr(LIF, "_steps_into", noted)
        got = neuron.trace(x)
        assert torch.equal(neuron(x), want[0])
    assert 0 < float(want[0].abs().mean()) < 1
    for one, other in zip(got, want, strict=True):
        assert one.shape == x.shape
        assert torch.equal(one, other)
    blocks = -(-count * 6 // 8)
    assert calls[:blocks] == [(4, 8)] * (blocks - 1) + [(4, count * 6 - 8 * (blocks - 1))]


def test_a_gradient_goes_through_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lif, "_BLOCK", 8)
    x = torch.randn(4, 30, requires_grad=True)
    LIF().eval()(x).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0


def test_membranes_of_blocks_are_seen_by_who_watches_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lif, "_BLOCK", 8)
    neuron, x = LIF().eval(), torch.randn(4, 30)
    model = nn.Sequential(neuron)
    with torch.no_grad():
        spikes, membranes = neuron.trace(x)
        with recorder(model, ["0"]) as seen:
            assert torch.equal(model(x), spikes)
        (call,) = seen.calls["0"]
        assert call.membranes is not None
        assert torch.equal(call.membranes, membranes)
        with recorder(model, ["0"], membranes=False) as seen:
            assert torch.equal(model(x), spikes)
    assert seen.calls["0"][0].membranes is None
