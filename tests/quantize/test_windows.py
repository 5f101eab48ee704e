"""Average pools beside maps that pad: windows are summed exactly, where no merged map could be."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402, N812
from torch import Tensor, nn  # noqa: E402

from lapilli.ir import ops  # noqa: E402
from lapilli.ir.errors import QuantizeError  # noqa: E402
from lapilli.model.capture import program  # noqa: E402
from lapilli.model.capture.capture import capture  # noqa: E402
from lapilli.model.families.lif import LIF  # noqa: E402
from lapilli.quantize import quantize  # noqa: E402
from lapilli.quantize.merging.merge import merge  # noqa: E402
from lapilli.quantize.pytorch.interpreter import Program  # noqa: E402

pytestmark = pytest.mark.torch


def _conv(padding: int = 1, *, bias: bool = True) -> nn.Conv2d:
    conv = nn.Conv2d(4, 4, 3, padding=padding, bias=bias)
    with torch.no_grad():
        conv.weight.mul_(3)
    return conv


class Net(nn.Module):
    """Images, stem neuron, a pool and what is beside it, neuron, head."""

    def __init__(self, middle: nn.Module, size: int) -> None:
        super().__init__()
        self.stem, self.stem_lif = nn.Conv2d(1, 4, 3, padding=1), LIF(v_threshold=0.3)
        self.middle, self.lif = middle, LIF(v_threshold=0.2)
        self.head = nn.LazyLinear(3)
        self.size = size

    def forward(self, images: Tensor) -> Tensor:
        x = images.repeat(4, 1, 1, 1, 1)
        x = self.stem_lif(self.stem(x.flatten(0, 1)).unflatten(0, x.shape[:2]))
        y = self.lif(self.middle(x.flatten(0, 1)).unflatten(0, x.shape[:2]))
        logits: Tensor = self.head(y.flatten(2)).mean(0)
        return logits


def build(middle: Callable[[], nn.Module], size: int = 9) -> nn.Module:
    torch.manual_seed(0)
    model = Net(middle(), size)
    with torch.no_grad():
        model(torch.randn(2, 1, size, size))
    return model.eval()


def images(count: int, seed: int, size: int = 9) -> Tensor:
    drawn: Tensor = torch.randn(count, 1, size, size, generator=torch.Generator().manual_seed(seed))
    return drawn * 1.5


MIDDLES: dict[str, Callable[[], nn.Module]] = {
    "pool-then-conv": lambda: nn.Sequential(nn.AvgPool2d(3, 2, 1), _conv()),
    "unpadded-pool-then-conv": lambda: nn.Sequential(nn.AvgPool2d(2, 1), _conv()),
    "pool-then-padding": lambda: nn.Sequential(
        nn.AvgPool2d(3, 1, 1), nn.ZeroPad2d(1), _conv(0), nn.BatchNorm2d(4)
    ),
    "conv-then-pool": lambda: nn.Sequential(_conv(), nn.BatchNorm2d(4), nn.AvgPool2d(3, 2, 1)),
    "sum-then-pool": lambda: nn.Sequential(Two(), nn.AvgPool2d((2, 3), (1, 2), (1, 0))),
    "pool-in-two-branches": lambda: nn.Sequential(nn.AvgPool2d(3, 2, 1), Two()),
}  # fmt: skip


class Two(nn.Module):
    """Two convolutions of one value, added."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = _conv(), nn.Conv2d(4, 4, 5, padding=2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.one(x) + self.two(x)
        return y


@pytest.mark.parametrize("name", MIDDLES)
def test_a_padded_pool_is_spike_exact(name: str, exact_on: Callable[..., int]) -> None:
    made = quantize(build(MIDDLES[name]), images(8, 1))
    assert exact_on(made, images(5, 7)) > 4000
    kernels = {
        n.op.weight.shape[2:] for n in made.network.graph.nodes if isinstance(n.op, ops.Conv2d)
    }
    assert kernels <= {(3, 3), (5, 5)}  # the author's own, none merged


def summed(merged: program.Captured, runner: Program, spikes: Tensor) -> Tensor:
    """What the program gives to the first convolution behind its first neuron."""
    fired = next(c.name for c in merged.calls.values() if isinstance(c.op, program.Neuron))
    seen = {fired: spikes}
    for call in merged.calls.values():
        if call.inputs and all(i in seen for i in call.inputs):
            if isinstance(call.op, program.Synapse):
                return seen[call.inputs[0]]
            seen[call.name] = runner._value(call, [seen[i] for i in call.inputs])
    raise AssertionError("no convolution behind a neuron")


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding"),
    [(9, 3, 2, 1), (8, 3, 2, 1), (9, 2, 3, 1), (7, 7, 1, 3), (9, (5, 2), (3, 1), (2, 0)),
     (5, 4, 2, 2), (3, 3, 4, 1)],
)  # fmt: skip
def test_every_window_is_summed(
    size: int,
    kernel: int | tuple[int, int],
    stride: int | tuple[int, int],
    padding: int | tuple[int, int],
) -> None:
    pool = nn.AvgPool2d(kernel, stride, padding, divisor_override=1)
    model = build(lambda: nn.Sequential(pool, _conv(1)), size)
    merged = merge(capture(model, (1, size, size)))
    given = torch.randint(0, 2, (4, 3, 4, size, size)).double()
    last = summed(merged, Program(merged, model, {}), given)
    wanted = F.avg_pool2d(given.flatten(0, 1), kernel, stride, padding, divisor_override=1)
    assert torch.equal(last.flatten(0, 1), wanted)
    assert wanted.max() > 1


def test_what_needs_no_sums_stays_one_map() -> None:
    made = quantize(build(lambda: nn.Sequential(nn.AvgPool2d(3, 2, 1), _conv(0))), images(8, 1))
    assert not [n for n in made.network.graph.nodes if isinstance(n.op, ops.Concat)]


def test_a_conv_of_ones_with_a_bias_is_no_pool() -> None:
    ones = nn.Conv2d(4, 4, 3, padding=1, groups=4)
    nn.init.ones_(ones.weight)
    with pytest.raises(QuantizeError, match="pads the result of the first with zeros"):
        quantize(build(lambda: nn.Sequential(ones, _conv())), images(8, 1))


def test_the_divisor_stays_a_constant() -> None:
    merged = merge(capture(build(MIDDLES["pool-then-conv"]), (1, 9, 9)))
    factors = [c.op.factor for c in merged.calls.values() if isinstance(c.op, program.Scale)]
    assert factors == [Fraction(1, 9)]
