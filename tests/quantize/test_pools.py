"""Pools whose edges matter: averages that leave their padding out, and spikes of -1 in any pool."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")
pytest.importorskip("numba")

import torch.nn.functional as F  # noqa: E402, N812
from torch import Tensor, nn  # noqa: E402

from lapilli.deploy.comparison.compare import compare_all  # noqa: E402
from lapilli.ir import ops  # noqa: E402
from lapilli.ir.errors import CaptureError, QuantizeError  # noqa: E402
from lapilli.model.capture import program  # noqa: E402
from lapilli.model.capture.capture import capture  # noqa: E402
from lapilli.model.families.lif import LIF, TernaryLIF  # noqa: E402
from lapilli.quantize import quantize  # noqa: E402
from lapilli.quantize.pytorch.interpreter import Program  # noqa: E402
from lapilli.simulators.event_driven import EventDriven  # noqa: E402
from lapilli.simulators.fast import Fast  # noqa: E402
from lapilli.simulators.onnx import Onnx  # noqa: E402
from lapilli.simulators.reference import Reference  # noqa: E402

pytestmark = pytest.mark.torch


class Net(nn.Module):
    """Images, a stem's neuron, a pool beside a convolution, a neuron, the answer."""

    def __init__(self, middle: nn.Module, stem: nn.Module) -> None:
        super().__init__()
        self.stem, self.fired = nn.Conv2d(1, 4, 3, padding=1), stem
        self.middle, self.lif, self.head = middle, LIF(v_threshold=0.1), nn.LazyLinear(3)

    def forward(self, images: Tensor) -> Tensor:
        x = images.repeat(4, 1, 1, 1, 1)
        x = self.fired(self.stem(x.flatten(0, 1)).unflatten(0, x.shape[:2]))
        y = self.lif(self.middle(x.flatten(0, 1)).unflatten(0, x.shape[:2]))
        logits: Tensor = self.head(y.flatten(2)).mean(0)
        return logits


def _conv(padding: int = 1) -> nn.Conv2d:
    conv = nn.Conv2d(4, 4, 3, padding=padding)
    with torch.no_grad():
        conv.weight.mul_(9)
    return conv


def _inside(kernel: int, stride: int, padding: int) -> nn.AvgPool2d:
    return nn.AvgPool2d(kernel, stride, padding, count_include_pad=False)


def build(middle: Callable[[], nn.Module], *, ternary: bool = False) -> nn.Module:
    torch.manual_seed(0)
    model = Net(middle(), (TernaryLIF if ternary else LIF)(v_threshold=0.3))
    with torch.no_grad():
        model(torch.randn(2, 1, 9, 9))
    return model.eval()


MIDDLES: dict[str, Callable[[], nn.Module]] = {
    "max-conv": lambda: nn.Sequential(nn.MaxPool2d(3, 2, 1), _conv()),
    "conv-max": lambda: nn.Sequential(_conv(), nn.MaxPool2d(3, 2, 1)),
    "average-conv": lambda: nn.Sequential(nn.AvgPool2d(3, 2, 1), _conv(0)),
    "conv-average": lambda: nn.Sequential(_conv(), nn.AvgPool2d(3, 1, 1)),
    "conv-inside": lambda: nn.Sequential(_conv(), nn.BatchNorm2d(4), _inside(3, 2, 1)),
    "conv-inside-far": lambda: nn.Sequential(_conv(), _inside(7, 1, 3)),
    "inside-conv": lambda: nn.Sequential(_inside(3, 2, 1), _conv()),
    "inside-conv-even": lambda: nn.Sequential(_inside(2, 2, 1), _conv()),
}
_OF_COUNTS = ("inside-conv", "inside-conv-even")  # pools of spikes that are not merged


@pytest.mark.parametrize(
    ("name", "ternary"),
    [*((n, False) for n in MIDDLES), *((n, True) for n in MIDDLES if n not in _OF_COUNTS)],
)
def test_a_pool_is_spike_exact(name: str, ternary: bool) -> None:
    drawn = torch.randn(8, 1, 9, 9, generator=torch.Generator().manual_seed(1))
    made = quantize(build(MIDDLES[name], ternary=ternary), drawn * 1.5)
    network = made.network
    fired = [n.op.ternary for n in network.graph.nodes if isinstance(n.op, ops.Neuron)]
    assert fired == [ternary, False]
    pixels = np.random.default_rng(2).integers(0, 256, (16, 1, 9, 9)).astype(np.uint8)
    runs = {s.name: s.compile(network.graph) for s in (Reference(), EventDriven(), Fast(), Onnx())}
    found = compare_all(network, made.reference, runs, pixels)
    assert len(found) == 4
    for one in found:
        one.require()
        assert one.compared > 60_000


@pytest.mark.parametrize("name", _OF_COUNTS)
def test_sums_below_zero_are_named(name: str) -> None:
    why = r"'middle\.1': takes sums of ternary spikes, -\d+\.\.\d+: a synapse takes spikes, or"
    with pytest.raises(QuantizeError, match=why):
        quantize(build(MIDDLES[name], ternary=True), torch.randn(4, 1, 9, 9))


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [(3, 2, 1), (2, 2, 1), (7, 1, 3), (5, 3, 2), ((3, 2), (1, 2), (1, 0)), ((1, 4), 1, (0, 2))],
)
def test_every_window_is_averaged(
    kernel: int | tuple[int, int], stride: int | tuple[int, int], padding: int | tuple[int, int]
) -> None:
    pool = nn.AvgPool2d(kernel, stride, padding, count_include_pad=False)
    model = build(lambda: nn.Sequential(pool, _conv()))
    captured = capture(model, (1, 9, 9))
    runner = Program(captured, model, {})
    given = torch.randint(0, 2, (4, 3, 4, 9, 9)).double()
    fired = next(c.name for c in captured.calls.values() if isinstance(c.op, program.Neuron))
    seen, divisor, sums = {fired: given}, 0, given
    for call in captured.calls.values():
        if isinstance(call.op, program.Scale) and call.inputs[0] in seen:
            divisor, sums = call.op.factor.denominator, seen[call.inputs[0]]
            break
        if call.inputs and all(i in seen for i in call.inputs):
            seen[call.name] = runner._value(call, [seen[i] for i in call.inputs])
    ones = F.avg_pool2d(torch.ones(1, 1, 9, 9), kernel, stride, padding, divisor_override=1)
    whole = F.avg_pool2d(given.flatten(0, 1), kernel, stride, padding, divisor_override=1)
    assert divisor > 1
    assert torch.equal(sums.flatten(0, 1) * ones, whole * divisor)


def test_a_divisor_of_the_authors_own_counts_the_padding() -> None:
    pool = nn.AvgPool2d(3, 2, 1, count_include_pad=False, divisor_override=5)
    captured = capture(build(lambda: nn.Sequential(pool, _conv())), (1, 9, 9))
    factors = [c.op.factor for c in captured.calls.values() if isinstance(c.op, program.Scale)]
    assert [f.denominator for f in factors] == [5]


def test_windows_beyond_the_edge_are_refused() -> None:
    pool = nn.AvgPool2d(2, 2, ceil_mode=True)
    with pytest.raises(CaptureError, match=r"'middle\.0': average pooling with ceil_mode is not"):
        capture(build(lambda: nn.Sequential(pool, _conv())), (1, 9, 9))
