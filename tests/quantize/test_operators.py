"""Every operator in which transformers are written: PyTorch = reference = event-driven."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402, N812
from torch import Tensor, nn  # noqa: E402

from lapilli.ir.errors import QuantizeError  # noqa: E402
from lapilli.ir.recipe import NoteKind  # noqa: E402
from lapilli.model.capture import program  # noqa: E402
from lapilli.model.capture.capture import capture  # noqa: E402
from lapilli.model.families.lif import LIF  # noqa: E402
from lapilli.quantize import quantize  # noqa: E402
from lapilli.quantize.finetuning.fake_quantized import FakeQuantized  # noqa: E402
from lapilli.quantize.merging.merge import merge  # noqa: E402
from lapilli.quantize.pytorch.interpreter import Program  # noqa: E402

pytestmark = pytest.mark.torch

Rule = Callable[[Any, Tensor], Tensor]


class Net(nn.Module):
    """Stem, one rule of spikes (T, B, 4, 6, 6) to currents, neuron, head.

    The rule finds layers of every kind on the module.
    """

    def __init__(self, rule: Rule, features: int) -> None:
        super().__init__()
        self.rule = rule
        self.stem, self.stem_lif = nn.Conv2d(1, 4, 3, padding=1), LIF(v_threshold=0.3)
        self.one, self.two = nn.Linear(6, 6), nn.Linear(6, 6, bias=False)
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.deep = nn.Conv2d(4, 8, 3, padding="same", groups=4, dilation=2, bias=False)
        self.row, self.norm = nn.Conv1d(4, 4, 3, padding=1), nn.BatchNorm1d(4)
        self.up = nn.ConvTranspose2d(4, 6, 3, stride=(2, 3), padding=1, output_padding=(1, 0))
        self.up2 = nn.ConvTranspose2d(4, 4, (2, 4), stride=2, padding=(0, 1), bias=False)
        self.grouped = nn.ConvTranspose2d(4, 2, 2, 1, padding=0, groups=2, dilation=(3, 1))
        self.blocks = nn.Parameter(torch.randn(2, 2, 3) / 2)
        self.maps_norm, self.rows_norm = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        with torch.no_grad():
            for norm in (self.maps_norm, self.rows_norm):
                norm.weight.copy_(torch.tensor([0.7, -1.3, 1.1, 0.4]))
                norm.bias.copy_(torch.tensor([0.1, 0.3, -0.2, 0.0]))
        self.haar = nn.Parameter(torch.tensor([[1.0, 1.0], [1.0, -1.0]]).kron(torch.eye(3)) / 2)
        self.fired, self.again = LIF(v_threshold=0.3), LIF(v_threshold=0.4)
        self.matrix = nn.Parameter(torch.randn(6, 5) / 2)
        self.gain = nn.Parameter(torch.tensor(0.75))
        self.channels = nn.Parameter(torch.tensor([0.5, 1.25, -0.75, 1.0]))
        self.lif, self.head = LIF(v_threshold=0.25), nn.Linear(features, 3)
        self.places = nn.Parameter(torch.randn(4, 6, 6) / 4)

    def steps(self, module: nn.Module, x: Tensor) -> Tensor:
        """A module without time, at each step."""
        y: Tensor = module(x.flatten(0, 1))
        return y.view(*x.shape[:2], *y.shape[1:])

    def forward(self, images: Tensor) -> Tensor:
        x = images.repeat(4, 1, 1, 1, 1)
        x = self.stem_lif(self.steps(self.stem, x))
        logits: Tensor = self.head(self.lif(self.rule(self, x)).flatten(2)).mean(0)
        return logits


def build(rule: Rule, seed: int = 0) -> nn.Module:
    """The frame with a head of the right width, deterministic, in evaluation mode."""
    torch.manual_seed(seed)
    blank = Net(rule, 1).eval()
    with torch.no_grad():
        x = blank.stem_lif(blank.steps(blank.stem, torch.zeros(4, 2, 1, 6, 6)))
        features = rule(blank, x).flatten(2).shape[-1]
    torch.manual_seed(seed)
    return Net(rule, features).eval()


def pixels(count: int = 6, seed: int = 1) -> Tensor:
    drawn: Tensor = torch.randn(count, 1, 6, 6, generator=torch.Generator().manual_seed(seed))
    return drawn * 1.5


def windows(m: Any, x: Tensor) -> Tensor:
    """Attention's kind of partition: 2 x 2 windows, a map of their channels, and back."""
    w = x.view(*x.shape[:3], 3, 2, 3, 2).permute(0, 1, 3, 5, 4, 6, 2)  # T B 3 3 2 2 C
    y = F.linear(w.reshape(x.shape[0], -1, 4, 4), m.conv.weight[:, :, 1, 1])
    y = y.view(*w.shape).permute(0, 1, 6, 2, 4, 3, 5)
    return y.reshape(*x.shape) * 2


RULES: dict[str, Rule] = {
    "einsum-attention": lambda m, x: torch.einsum(
        "tbcnm,tbcmk->tbcnk", torch.einsum("tbcni,tbcmi->tbcnm", x, m.fired(m.one(x))), x
    ) / 8,
    "einsum-weights": lambda m, x: torch.einsum("...i,io->...o", x, m.matrix),
    "einsum-elementwise": lambda m, x: torch.einsum("tbcij,tbcij->tbcij", m.fired(m.one(x)), x),
    "einsum-one-operand": lambda m, x: torch.einsum("tbcij->tbjc", x) / 3,
    "einsum-sums-alone": lambda m, x: torch.einsum("tbcij,tbck->tbjk", x, x[..., 0]) / 4,
    "matmul-broadcasts": lambda m, x: m.fired(m.one(x)).sum(2, keepdim=True)[..., :2, :] @ x / 4,
    "matmul-parameter": lambda m, x: x @ m.matrix,
    "parameter-matmul": lambda m, x: m.matrix.mT @ x,
    "bmm": lambda m, x: torch.bmm(x.flatten(0, 2), m.fired(m.one(x)).flatten(0, 2).mT)
    .view(*x.shape) / 2,
    "cat": lambda m, x: m.two(torch.cat([x, m.fired(m.one(x))], 2)),
    "cat-three-with-counts": lambda m, x: m.two(torch.cat([x, x + m.fired(m.one(x)), x], -2)),
    "cat-of-currents": lambda m, x: torch.cat([m.one(x), m.two(x) * 0.5], 2),
    "stack": lambda m, x: m.two(torch.stack([x, m.fired(m.one(x))], 3).sum(3)),
    "stack-repeats": lambda m, x: torch.stack([m.two(x)] * 3, 2).sum(2),
    "chunk": lambda m, x: m.two(x.chunk(2, 2)[1]),
    "split": lambda m, x: m.two(x.split([1, 2, 1], dim=2)[1]),
    "split-currents": lambda m, x: sum(m.one(x).split(3, -1)),
    "unbind": lambda m, x: m.two(x.unbind(2)[3]),
    "unflatten": lambda m, x: m.two(x.unflatten(2, (2, -1)).sum(3)),
    "select": lambda m, x: m.one(x[:, :, 1]),
    "select-last": lambda m, x: m.one(x.select(-2, -1)),
    "narrow": lambda m, x: m.one(x.narrow(3, 2, 3)),
    "roll": lambda m, x: m.one(x.roll((1, -2), (3, 4))),
    "roll-currents": lambda m, x: m.one(x).roll(2, -1) + m.two(x),
    "movedim": lambda m, x: m.one(x.movedim(2, 4).movedim(-1, 2)),
    "swapaxes-mT": lambda m, x: m.one(x.swapaxes(2, 4).mT.swapdims(-1, 3).mT),
    "squeeze": lambda m, x: m.one(x[:, :, :1].squeeze(2).unsqueeze(2).squeeze()),
    "expand-as": lambda m, x: m.one(x[:, :, :1].expand_as(x) + x),
    "repeat-interleave": lambda m, x: m.one(x[:, :, :1].repeat_interleave(3, 2)),
    "repeat-interleave-many": lambda m, x: m.one(x.repeat_interleave(2, 3)),
    "repeat": lambda m, x: m.one(x.repeat(1, 1, 2, 1, 1)),
    "windows": lambda m, x: windows(m, x),
    "avg-pool": lambda m, x: F.avg_pool2d(m.steps(m.conv, x).flatten(0, 1) * 4, 2)
    .unflatten(0, (4, -1)),
    "avg-pool-uneven": lambda m, x: m.steps(lambda y: F.avg_pool2d(y, 4), x),
    "avg-pool-overlaps": lambda m, x: m.steps(lambda y: F.avg_pool2d(y, 2, 1), x),
    "avg-pool-then-conv": lambda m, x: m.steps(lambda y: m.conv(F.avg_pool2d(y, 2)), x),
    "sum-pool": lambda m, x: m.steps(lambda y: F.avg_pool2d(y, 2, divisor_override=1), x) / 2,
    "adaptive": lambda m, x: m.steps(lambda y: F.adaptive_avg_pool2d(y, 1), m.steps(m.conv, x) * 8),
    "adaptive-three": lambda m, x: m.steps(lambda y: F.adaptive_avg_pool2d(y, (3, 2)), x) * 2,
    "adaptive-uneven": lambda m, x: m.steps(
        lambda y: F.adaptive_avg_pool2d(m.conv(y), (4, 9)), x
    ),
    "adaptive-uneven-1d": lambda m, x: m.one(m.steps(
        lambda y: F.adaptive_avg_pool1d(y.flatten(2)[:, :, :35], 36).view(y.shape), x
    )),
    "max-pool-of-currents": lambda m, x: m.steps(lambda y: F.max_pool2d(m.conv(y), 3, 2, 1), x),
    "pooled-current-and-branch": lambda m, x: (
        m.steps(lambda y: F.avg_pool2d(m.conv(y), 2), x)
        + m.steps(lambda y: F.max_pool2d(m.conv(y), 2), m.fired(m.one(x)))
    ),
    "max-pool3d": lambda m, x: m.one(F.max_pool3d(x, (1, 3, 3), 1, (0, 1, 1))),
    "max-pool1d": lambda m, x: m.one(
        F.max_pool1d(x.flatten(0, 1).flatten(1), 2).view(4, -1, 12, 6)
    ),
    "conv1d": lambda m, x: m.steps(lambda y: m.norm(m.row(y.flatten(2))), x),
    "dilated-depthwise": lambda m, x: m.steps(m.deep, x),
    "dilated": lambda m, x: m.steps(
        lambda y: F.conv2d(y, m.conv.weight, m.conv.bias, padding=(4, 2), dilation=(4, 2)), x
    ),
    "nearest": lambda m, x: m.steps(lambda y: m.conv(F.interpolate(y, scale_factor=2)), x),
    "nearest-of-currents": lambda m, x: m.steps(
        lambda y: F.interpolate(m.conv(F.max_pool2d(y, (2, 3))), (6, 6), mode="nearest-exact"), x
    ) + m.one(x),
    "nearest-1d-and-3d": lambda m, x: F.interpolate(
        m.steps(lambda y: F.interpolate(m.row(y.flatten(2)), 72), x).unflatten(-1, (6, 12)),
        (4, 12, 12),
    ),
    "bilinear-of-currents": lambda m, x: m.steps(
        lambda y: F.interpolate(m.conv(F.max_pool2d(y, (2, 3))), (12, 8), mode="bilinear"), x
    ),
    "bilinear-beside-a-current": lambda m, x: m.one(x) + m.steps(
        lambda y: F.interpolate(
            m.conv(F.max_pool2d(y, 3)), scale_factor=3, mode="bilinear", align_corners=False
        ), x
    ),
    "linear-of-spikes": lambda m, x: m.one(m.steps(
        lambda y: F.interpolate(y.flatten(1, 2)[:, :, :3], 6, mode="linear").view(y.shape), x
    )),
    "transposed": lambda m, x: m.steps(m.up, x),
    "transposed-with-norm": lambda m, x: m.steps(lambda y: m.maps_norm(m.up2(y)), x),
    "transposed-dilated-in-groups": lambda m, x: m.steps(m.grouped, x),
    "transposed-1d": lambda m, x: m.steps(
        lambda y: F.conv_transpose1d(y.flatten(2), m.row.weight, stride=2, padding=2), x
    ),
    "einsum-blocks": lambda m, x: m.steps(
        lambda y: torch.einsum(
            "nhwbd,bdk->nhwbk", y.unflatten(1, (2, 2)).permute(0, 3, 4, 1, 2), m.blocks
        ), x
    ),
    "conv-of-windows": lambda m, x: m.steps(
        lambda y: m.conv(y.unflatten(3, (3, 2)).permute(0, 3, 1, 2, 4).flatten(0, 1))
        .unflatten(0, (-1, 3)), x
    ),
    "rows-then-norm-of-channels": lambda m, x: m.steps(lambda y: m.rows_norm(m.haar @ y), x),
    "part-of-a-current-times-heads": lambda m, x: (
        (y := m.steps(m.conv, x).unflatten(2, (2, 2)))[:, :, :, :1].flatten(2, 3)
        @ m.fired(m.two(x))[:, :, :2].mT * m.channels[:2].view(-1, 1, 1)
        + (y[:, :, :, 1:].flatten(2, 3) @ x[:, :, 2:].mT) * m.channels[1:3].abs().view(-1, 1, 1)
    ),
    "minus-current": lambda m, x: m.one(x) - m.two(x),
    "minus-spikes": lambda m, x: m.one(x) + m.two(m.fired(m.one(x))) - x * 0.5,
    "minus-of-spikes-only": lambda m, x: (x - m.fired(m.one(x))) + 1.0 * x,
    "negated": lambda m, x: -m.one(x) + m.two(x) * 2,
    "times-parameter": lambda m, x: m.one(x) * m.gain + m.two(x),
    "times-channels": lambda m, x: m.steps(m.conv, x) * m.channels.view(-1, 1, 1),
    "spikes-times-channels": lambda m, x: m.one(x * m.channels.view(-1, 1, 1).abs()[:1]),
    "plus-constant": lambda m, x: m.steps(m.conv, x) + m.channels.view(-1, 1, 1) / 3 + 0.125,
    "plus-positions": lambda m, x: m.steps(m.conv, x) + m.places,
    "plus-positions-of-a-stream": lambda m, x: m.one(x) + m.two(m.fired(m.one(x))) + m.places / 2,
    "spikes-plus-positions": lambda m, x: x + m.places,
    "plus-positions-then-max": lambda m, x: F.max_pool2d(
        (m.steps(m.conv, x) + m.places).flatten(0, 1), 2
    ).unflatten(0, (4, -1)),
    "plus-positions-of-transposed": lambda m, x: (
        m.steps(m.conv, x).flatten(3).mT + m.places.flatten(1).mT
    ).mT.unflatten(3, (6, 6)),
    "constant-minus": lambda m, x: 1 - m.one(x),
    "scales-differ-by-a-power": lambda m, x: m.one(x) * 0.125 + m.two(x),
    "spikes-and-half-spikes": lambda m, x: x * 0.5 + m.fired(m.one(x)) * 2,
    "spikes-plus-spikes": lambda m, x: m.two(x + m.fired(m.one(x)) + x),
    "counts-times-spikes": lambda m, x: (x + m.fired(m.one(x))) * x / 2,
    "spikes-plus-current": lambda m, x: x + m.one(m.fired(m.two(x))),
    "dropout-identity": lambda m, x: m.one(F.dropout(nn.Identity()(x), 0.5, training=False)),
    "no-ops": lambda m, x: m.one(x.detach().clone().contiguous().to(torch.float64).to(x.dtype)),
    "in-place": lambda m, x: m.one(x).mul_(0.5).add_(m.two(x)),
    "pad-before-conv": lambda m, x: m.steps(
        lambda y: F.conv2d(F.pad(y, [1] * 4), m.conv.weight), x
    ),
    "computed-weights": lambda m, x: m.steps(
        lambda y: F.conv2d(y, m.conv.weight - m.conv.weight.mean((1, 2, 3), keepdim=True)), x
    ),
    "tied-weights": lambda m, x: m.one(m.fired(m.one(x))) * 0.25 + m.two(x),
    "relu": lambda m, x: F.relu(m.one(x)) @ m.fired(m.two(x)).mT / 2,
}  # fmt: skip


@pytest.mark.parametrize("name", RULES)
def test_rule(name: str, exact_on: Callable[..., int]) -> None:
    made = quantize(build(RULES[name]), pixels(12))
    assert exact_on(made, pixels(5, seed=7)) > 5000


@pytest.mark.parametrize(
    "name",
    [
        *("rows-then-norm-of-channels", "transposed-with-norm", "part-of-a-current-times-heads"),
        *(name for name in RULES if "plus-positions" in name),
    ],
)
def test_merged_maps_compute_what_the_author_wrote(name: str) -> None:
    model: Any = build(RULES[name]).double()
    merged = merge(capture(model, (1, 6, 6)))
    weights = {
        c.name: (
            torch.from_numpy(merged.array(c.op.weight)),
            None if c.op.bias is None else torch.from_numpy(merged.array(c.op.bias)),
        )
        for c in merged.calls.values()
        if isinstance(c.op, program.Synapse)
    }
    given: list[Tensor] = []
    model.lif.register_forward_pre_hook(lambda lif, args: given.append(args[0].clone()))
    with torch.no_grad():
        for module in (model, Program(merged, model, weights)):
            module(pixels(5).double())
    author, ours = given
    assert float(author.std()) > 0.1
    assert torch.allclose(ours, author, rtol=0, atol=1e-9)


class Named(nn.Module):
    """Layers that are called as attributes of what runs a program are, or may be."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.wide, self.narrow = nn.Linear(36, 12), nn.Linear(12, 30), nn.Linear(30, 12)
        self.maps, self.steps, self.fired = (LIF(v_threshold=0.2) for _ in range(3))
        self.units, self.captured, self.folded = (LIF(v_threshold=0.1) for _ in range(3))
        self.thresholds, self.head = LIF(v_threshold=0.1), nn.Linear(12, 3)

    def forward(self, images: Tensor) -> Tensor:
        x = self.maps(self.first(images.flatten(1).repeat(4, 1, 1)))
        for fires in (self.steps, self.fired, self.units, self.captured, self.folded):
            x = fires(self.narrow(self.wide(x)) * 4)
        logits: Tensor = self.head(self.thresholds(self.narrow(self.wide(x)))).mean(0)
        return logits


def test_layers_may_have_any_name(exact_on: Callable[..., int]) -> None:
    torch.manual_seed(0)
    options: Any = {"rounding": "reconstruction", "thresholds": "rates"}
    made = quantize(Named().eval(), pixels(12), **options)
    assert exact_on(made, pixels(5, seed=7), live=False) > 1000


@pytest.mark.parametrize(
    "options",
    [
        {"target": "stock"},
        {"target": "loihi1"},
        {"scales": "channel"},
        {"rounding": "reconstruction", "thresholds": "rates", "weight_bits": 4},
        {"weight_scale": "spikes"},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_positions_beside_a_stream(options: Any, exact_on: Callable[..., int]) -> None:
    made = quantize(build(RULES["plus-positions-of-a-stream"]), pixels(12), **options)
    assert exact_on(made, pixels(5, seed=7)) > 5000
    assert not [n for n in made.notes if n.kind is NoteKind.UNUSUAL_WEIGHTS]


@pytest.mark.parametrize("target", ["lava", "stock"])
def test_positions_take_no_bits_of_weights(target: str) -> None:
    """Constants have no weights: those that they are added to keep the steps that they have."""

    def plain(m: Any, x: Tensor) -> Any:
        return m.one(x) + m.two(x.mT)

    steps = []
    for rule in (plain, lambda m, x: plain(m, x) + m.places / 8):
        recipe = quantize(build(rule), pixels(12), target=target).network.recipe
        assert recipe is not None
        found = {r.node: r.weight_scale * 2**r.exponent for r in recipe.synapses}
        found.pop("offsets", None)
        steps.append(found)
    without, beside = steps
    assert len(beside) == 4
    assert beside == without


def test_finetuning_names_constants() -> None:
    with pytest.raises(QuantizeError, match="adds constants, one for each element"):
        FakeQuantized(build(RULES["plus-positions"]), pixels(12), {})


class Odd(nn.Module):
    """Averages over 5 steps and 36 positions, constants that no float holds: all round."""

    def __init__(self, end: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.end = end
        self.conv, self.fc = nn.Conv2d(1, 6, 3, padding=1), nn.Linear(6, 6)
        self.lif, self.lif2 = LIF(v_threshold=0.3), LIF(v_threshold=0.2)
        self.head = nn.Linear(6, 3)

    def forward(self, images: Tensor) -> Tensor:
        x = self.conv(images.repeat(5, 1, 1, 1, 1).flatten(0, 1)).unflatten(0, (5, -1))
        return self.end(self, self.lif(x).flatten(3).transpose(2, 3))


ENDS: dict[str, Rule] = {
    "counts": lambda m, x: m.head(m.lif2(m.fc(x)).mean(2).mean(0)),
    "real-stream": lambda m, x: m.head(m.fc(x).mean(2).mean(0)),
    "before-a-neuron": lambda m, x: m.head(m.lif2(m.fc(x).mean(2))).mean(0),
    "constants": lambda m, x: m.head(m.lif2(((x * 0.3) @ x.mT) @ x * 0.1)).mean(2).mean(0),
    "merged": lambda m, x: m.head(m.lif2(m.fc(m.fc(x)) * 3).mean(2).mean(0)),
    "read-out-of-two": lambda m, x: m.head(m.fc(m.lif2(m.fc(x)).mean(2).mean(0))),
}


@pytest.mark.parametrize("name", ENDS)
def test_averages_that_floats_round(name: str, exact_on: Callable[..., int]) -> None:
    torch.manual_seed(0)
    made = quantize(Odd(ENDS[name]).eval(), pixels(12))
    assert exact_on(made, pixels(5, seed=7)) > 5000
