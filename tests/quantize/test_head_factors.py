"""A factor for each head behind attention's product: taken up by the map that made the current."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from lapilli.ir import ops  # noqa: E402
from lapilli.ir.errors import QuantizeError  # noqa: E402
from lapilli.model.capture import program  # noqa: E402
from lapilli.model.capture.capture import capture  # noqa: E402
from lapilli.model.families.lif import LIF  # noqa: E402
from lapilli.model.neurons.simulate import simulate  # noqa: E402
from lapilli.quantize import quantize  # noqa: E402
from lapilli.quantize.merging.factors import factors_before_products  # noqa: E402
from lapilli.quantize.merging.merge import merge  # noqa: E402

pytestmark = pytest.mark.torch

_HEADS, _EACH = 3, 4


class Attention(nn.Module):
    """Spikes times a real current, times `factor`: one number for each head, or what is given."""

    factor: Tensor

    def __init__(self, factor: Tensor, *, last: bool, residual: bool = False) -> None:
        super().__init__()
        self.q, self.q_lif = nn.Conv1d(12, 12, 1), LIF(v_threshold=0.3)
        self.y, self.norm, self.lif = nn.Conv1d(12, 12, 1), nn.BatchNorm1d(12), LIF(v_threshold=0.3)
        self.register_buffer("factor", factor)
        with torch.no_grad():
            self.y.weight.mul_(6)
        self.last, self.residual = last, residual

    def forward(self, x: Tensor) -> Tensor:  # (T, B, 12, N) spikes
        T, B, C, N = x.shape
        q = self.q_lif(self.q(x.flatten(0, 1)).view(T, B, C, N)).view(T, B, _HEADS, _EACH, N)
        y = self.norm(self.y(x.flatten(0, 1))).view(T, B, C, N)
        y = (y + y.roll(1, -1) if self.residual else y).view(T, B, _HEADS, _EACH, N)
        product = y.mT @ q if self.last else q.mT @ y
        spikes: Tensor = self.lif(product * self.factor)
        return spikes


class Net(nn.Module):
    def __init__(self, attn: Attention) -> None:
        super().__init__()
        self.stem, self.lif = nn.Conv1d(2, 12, 1), LIF(v_threshold=0.3)
        self.attn, self.head = attn, nn.Linear(5 * 5 * _HEADS, 3)

    def forward(self, images: Tensor) -> Tensor:  # (B, 2, 1, 5)
        x = images.flatten(2).repeat(4, 1, 1, 1)
        x = self.lif(self.stem(x.flatten(0, 1)).unflatten(0, x.shape[:2]))
        logits: Tensor = self.head(self.attn(x).flatten(2)).mean(0)
        return logits


def build(factor: Tensor, **options: bool) -> nn.Module:
    torch.manual_seed(0)
    return Net(Attention(factor, **options)).eval()


def images(count: int, seed: int) -> Tensor:
    drawn: Tensor = torch.randn(count, 2, 1, 5, generator=torch.Generator().manual_seed(seed))
    return drawn * 2


def heads(*numbers: float) -> Tensor:
    made: Tensor = torch.tensor(numbers).view(-1, 1, 1)
    return made


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("factor", [heads(0.3, 0.7, 1.1), heads(0.5, -0.25, 1.0)[None, None]])
def test_heads_with_factors_of_their_own_are_exact(
    last: bool, factor: Tensor, exact_on: Callable[..., int]
) -> None:
    made = quantize(build(factor, last=last), images(8, 1))
    assert exact_on(made, images(5, 7)) > 4000


def test_the_factor_moves_to_the_current() -> None:
    captured = capture(build(heads(0.3, 0.7, 1.1), last=True), (2, 1, 5))
    calls = factors_before_products(captured).calls
    affine = next(c for c in calls.values() if isinstance(c.op, program.Affine))
    product = next(c for c in calls.values() if affine.name in c.inputs)
    assert isinstance(product.op, program.Matmul)
    assert product.inputs.index(affine.name) == 0  # the current comes first here


class TwoParts(Attention):
    """Spiking ResFormer's attention: one map makes both currents, and each has its factors."""

    def __init__(self, factor: Tensor, other: Tensor) -> None:
        super().__init__(factor, last=True)
        self.register_buffer("other", other)
        self.y, self.norm = nn.Conv1d(12, 24, 1), nn.BatchNorm1d(24)
        self.out_lif = LIF(v_threshold=0.5)
        with torch.no_grad():
            self.y.weight.mul_(4)
            nn.init.uniform_(self.norm.weight, 0.5, 1.5)
            nn.init.uniform_(self.norm.bias, -0.2, 0.4)

    def forward(self, x: Tensor) -> Tensor:
        T, B, C, N = x.shape
        y = self.norm(self.y(x.flatten(0, 1))).view(T, B, _HEADS, 2 * _EACH, N)
        one, two = y[:, :, :, :_EACH], y[:, :, :, _EACH:]
        heads = x.view(T, B, _HEADS, _EACH, N)
        attention = self.lif(one.mT @ heads * self.factor)
        spikes: Tensor = self.out_lif(two @ attention * self.other)
        return spikes.view(T, B, C, N)


def test_two_parts_of_one_map_take_their_own_factors(exact_on: Callable[..., int]) -> None:
    torch.manual_seed(0)
    model = Net(TwoParts(heads(0.3, 0.7, 1.1), heads(1.3, 0.6, 0.2)))
    model.head = nn.Linear(12 * 5, 3)
    made = quantize(model.eval(), images(8, 1))
    assert exact_on(made, images(5, 7)) > 4000
    graph = made.network.graph
    rows = {n.name: n.op.weight.shape[0] for n in graph.nodes if isinstance(n.op, ops.Conv2d)}
    assert [rows[n] for n in rows if n.startswith("attn")] == [12, 12]  # not 24 for each


class OfSpikes(Attention):
    """Both operands are spikes: no linear map is left that could take the factors up."""

    def __init__(self, factor: Tensor, lif: nn.Module) -> None:
        super().__init__(factor, last=True)
        self.k_lif = LIF(v_threshold=0.3)
        self.add_module("lif", lif)
        with torch.no_grad():
            self.norm.bias.fill_(0.4)

    def forward(self, x: Tensor) -> Tensor:
        T, B, C, N = x.shape
        q = self.q_lif(self.q(x.flatten(0, 1)).view(T, B, C, N)).view(T, B, _HEADS, _EACH, N)
        k = self.k_lif(self.norm(self.y(x.flatten(0, 1))).view(T, B, C, N))
        product = k.view(T, B, _HEADS, _EACH, N).mT @ q
        spikes: Tensor = self.lif((product * self.factor).flatten(2, 3))
        return spikes


def test_factors_behind_spikes_go_into_thresholds(exact_on: Callable[..., int]) -> None:
    torch.manual_seed(0)
    model = Net(OfSpikes(heads(0.3, 0.7, 1.1), LIF(v_threshold=0.4))).eval()
    made = quantize(model, images(8, 1))
    assert exact_on(made, images(5, 7)) > 4000
    neuron = made.network.graph["attn.lif"].op
    assert isinstance(neuron, ops.Neuron)
    per_head = neuron.threshold.array.reshape(_HEADS, -1)  # a threshold of each row of a head
    assert (per_head == per_head[:, :1]).all()
    unit = float(2**neuron.fraction_bits) / 0.5
    below = torch.tensor([0.4 / 0.3, 0.4 / 0.7, 0.4 / 1.1]).numpy() - per_head[:, 0] / unit
    assert ((below >= 0) & (below < 1 / 16)).all()  # steps of the grid on which sums of spikes lie
    texts = [note.text for note in made.notes if note.path == "attn.lif"]
    assert any("its thresholds take up the factors in front of it: 0.36" in t for t in texts)


def test_the_authors_forward_fires_as_with_moved_thresholds() -> None:
    torch.manual_seed(0)
    model: Any = Net(OfSpikes(heads(0.5, 0.75, 1.25), LIF(v_threshold=0.375))).eval()
    merged = merge(capture(model, (2, 1, 5)))
    (fire,) = (
        c.op
        for c in merged.calls.values()
        if isinstance(c.op, program.Neuron) and c.op.module == "attn.lif"
    )
    seen: list[Tensor] = []
    model.attn.lif.register_forward_hook(lambda lif, args, spikes: seen.extend([*args, spikes]))
    with torch.no_grad():
        model(images(5, 7))
    current, spikes = seen
    factor = torch.tensor([0.5, 0.75, 1.25]).repeat_interleave(5).view(-1, 1)
    assert fire.rescaled
    assert torch.equal(simulate(fire.rule, current / factor)[0], spikes)
    assert 0 < float(spikes.mean()) < 1


def soft() -> nn.Module:
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
    made: nn.Module = neuron.LIFNode(v_threshold=0.4, v_reset=None, step_mode="m")
    return made


@pytest.mark.parametrize(
    ("factor", "lif"),
    [
        (heads(0.6, -0.7, 1.1), lambda: LIF(v_threshold=0.4)),  # fires below a negative threshold
        (heads(0.6, 0.7, 1.1), soft),  # subtracts an amount that would differ from head to head
    ],
)
def test_other_factors_behind_spikes_are_weights_of_a_synapse(
    factor: Tensor, lif: Callable[[], nn.Module], exact_on: Callable[..., int]
) -> None:
    torch.manual_seed(0)
    made = quantize(Net(OfSpikes(factor, lif())).eval(), images(8, 1))
    assert exact_on(made, images(5, 7)) > 4000
    (neuron,) = (n.op for n in made.network.graph.nodes if n.name == "attn.lif")
    assert isinstance(neuron, ops.Neuron)
    assert neuron.threshold.array.size == 1


@pytest.mark.parametrize("last", [True, False])
def test_a_factor_along_what_is_summed_stays_and_is_refused(last: bool) -> None:
    shape = (1, 1, 5) if last else (1, 5, 1)
    factor = torch.linspace(0.2, 1.2, 5).view(shape)
    with pytest.raises(QuantizeError, match="a factor of a head or channel") as caught:
        quantize(build(factor, last=last), images(8, 1))
    assert caught.value.layer == "attn"


def test_a_current_that_no_map_made_is_refused() -> None:
    with pytest.raises(QuantizeError, match="a factor of a head or channel") as caught:
        quantize(build(heads(0.3, 0.7, 1.1), last=True, residual=True), images(8, 1))
    assert caught.value.layer == "attn"
