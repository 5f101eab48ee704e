"""The page "What lapilli cannot take, and why": each of its messages is a real one.

Its sections on loops over time, membranes and neurons need other frameworks: see `test_rolling`,
`test_membranes`, `test_refused_neurons`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402, N812
from torch import Tensor, nn  # noqa: E402

from lapilli.ir.errors import LapilliError  # noqa: E402
from lapilli.model.families.lif import LIF, TernaryLIF  # noqa: E402
from lapilli.model.neurons.shiftmax import Shiftmax  # noqa: E402
from lapilli.quantize import quantize  # noqa: E402

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel"),  # of torch
]

_PAGE = Path(__file__).resolve().parents[2] / "docs" / "unsupported.md"
Rule = Callable[[Any, Tensor], Any]


class Does(nn.Module):
    """One line of somebody's forward, and layers to write it with."""

    def __init__(self, rule: Rule, *layers: nn.Module) -> None:
        super().__init__()
        self.rule, self.maps = rule, nn.Sequential(*layers)
        self.one, self.two = nn.Linear(6, 6), nn.Linear(6, 6)
        self.lif, self.norm = LIF(v_threshold=0.3), nn.BatchNorm1d(6)
        self.ternary = TernaryLIF(v_threshold=0.3)
        self.steps = nn.Parameter(torch.rand(4, 1, 1))
        self.places = nn.Parameter(torch.rand(6))

    def forward(self, x: Tensor) -> Any:
        return self.rule(self, x)


class OwnNeuron(nn.Module):
    """A membrane in an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.membrane: Any = 0.0

    def forward(self, x: Tensor) -> Tensor:
        self.membrane = self.membrane / 2 + x
        y: Tensor = self.membrane
        return y


class Net(nn.Module):
    """Two layers, and something in between: (T, B, 6) spikes to (T, B, 6) currents."""

    def __init__(self, middle: nn.Module, end: Callable[[Tensor], Any] | None = None) -> None:
        super().__init__()
        self.fc, self.first, self.middle = nn.Linear(4, 6), LIF(v_threshold=0.3), middle
        self.lif, self.head = LIF(v_threshold=0.3), nn.Linear(6, 3)
        self.end = end or (lambda y: y.mean(0))

    def forward(self, images: Tensor) -> Any:
        x = images.flatten(1).repeat(4, 1, 1)
        return self.end(self.head(self.lif(self.middle(self.first(self.fc(x))))))


def does(rule: Rule) -> nn.Module:
    return Net(Does(rule)).eval()


def maps(*layers: nn.Module) -> nn.Module:
    """Layers of (T*B, 6, 1, 1) between."""
    rule: Rule = lambda m, x: m.maps(x.flatten(0, 1)[..., None, None]).view(*x.shape)  # noqa: E731
    return Net(Does(rule, *layers)).eval()


def steps(rule: Callable[[Tensor], Tensor]) -> Rule:
    """A rule of (T*B, 6, 1)."""
    return lambda m, x: rule(x.flatten(0, 1)[..., None]).flatten(1).unflatten(0, x.shape[:2])


def framed(x: Tensor) -> Tensor:
    x = x.clone()
    x[:, :, 0] = 1
    return x


def weighed(scale: float, values: Rule) -> nn.Module:
    """Shiftmax over two tokens of three features."""

    def rule(m: Any, x: Tensor) -> Any:
        tokens = x.unflatten(2, (2, 3))
        v = values(m, x).unflatten(2, (2, 3))
        return m.maps[0](tokens @ tokens.mT * scale, v).flatten(2)

    return Net(Does(rule, Shiftmax())).eval()


CASES: tuple[Callable[[], nn.Module], ...] = (
    lambda: does(lambda m, x: m.lif(x.flatten(0, 1)).view(*x.shape)),
    lambda: does(lambda m, x: m.lif(x.transpose(0, 1)).transpose(0, 1)),
    lambda: does(lambda m, x: F.linear(x.permute(1, 2, 0), m.one.weight[:4, :4]).permute(2, 0, 1)),
    lambda: does(lambda m, x: m.one(x * x.mean(1, keepdim=True))),
    lambda: does(lambda m, x: m.one(x + x.flatten(0, 1).mean(0))),
    lambda: does(lambda m, x: m.one(x.reshape(x.shape[1], x.shape[0], 6).transpose(0, 1))),
    lambda: does(lambda m, x: m.one(x) * m.steps),
    lambda: does(lambda m, x: m.one(x + x[0])),
    lambda: Net(OwnNeuron()).eval(),
    lambda: does(lambda m, x: x + torch.rand_like(x)),
    lambda: Net(nn.BatchNorm1d(6)),
    lambda: does(lambda m, x: x.softmax(-1)),
    lambda: does(lambda m, x: F.layer_norm(x, (6,))),
    lambda: does(lambda m, x: m.one(x) / x.sum(-1, keepdim=True)),
    lambda: does(lambda m, x: m.one(x) * m.two(x)),
    lambda: does(lambda m, x: m.one(x) * 0),
    lambda: weighed(0.5, lambda m, x: m.one(x)),
    lambda: weighed(1.0, lambda m, x: x),
    lambda: does(lambda m, x: m.one(x) if x.sum() > 3 else m.two(x)),
    lambda: maps(nn.Conv2d(6, 6, (3, 1), padding=(1, 0)), nn.Conv2d(6, 6, (3, 1), padding=(1, 0))),
    lambda: does(lambda m, x: F.linear(m.one(x).unflatten(2, (2, 3)).mT, m.one.weight[:2, :2])
                 .flatten(2)),
    lambda: does(lambda m, x: m.one((y := m.ternary(m.two(x))) + y)),
    lambda: does(lambda m, x: m.two(m.one(x) + m.one(m.lif(m.one(x))))),
    lambda: does(lambda m, x: m.norm((m.one(x) + m.two(m.lif(m.one(x)))).flatten(0, 1))
                 .unflatten(0, x.shape[:2])),
    lambda: does(lambda m, x: (F.linear(x.unflatten(2, (2, 3)), m.one.weight[:3, :3])
                               * m.places.view(2, 3)).flatten(2)),
    lambda: does(lambda m, x: (m.one(x) + m.two(m.lif(m.one(x)))) * m.places),
    lambda: does(lambda m, x: (y := m.one(x)) + y * 0.5),
    lambda: does(lambda m, x: (y := m.one(x)) + m.two(m.lif(-y))),
    lambda: does(steps(lambda y: F.conv1d(y.mT, torch.ones(1, 1, 2), padding="same").mT)),
    lambda: does(lambda m, x: m.one(
        F.max_pool3d(x.unflatten(2, (2, 3, 1)), (3, 1, 1), 1, (1, 0, 0)).flatten(2))),
    lambda: does(steps(lambda y: F.max_pool2d(y[..., None], (2, 1), ceil_mode=True)[..., 0])),
    lambda: does(steps(lambda y: F.avg_pool2d(y[..., None], (2, 1), ceil_mode=True)[..., 0])),
    lambda: does(lambda m, x: m.one(F.interpolate(x, 9)[..., :6])),
    lambda: does(lambda m, x: m.one(x.repeat(1, 1, 2)[..., ::2])),
    lambda: does(lambda m, x: m.one(framed(x))),
    lambda: does(lambda m, x: m.one(torch.einsum("tbi,tbi,tbi->tbi", x, x, x))),
    lambda: Net(nn.Linear(6, 6), lambda y: y.flatten(0, 1)).eval(),
    lambda: Net(nn.Linear(6, 6), lambda y: y.softmax(-1)).eval(),
)  # fmt: skip

OPTIONS: tuple[dict[str, Any], ...] = (
    {"result": "nothing"},
    {"over_time": "median"},
    {"layout": "BTCHW"},
    {"layout": "CHW"},
    {"counts": True},
    {"counts": True, "mean": (0.5,)},
)


def _messages() -> list[str]:
    sections = _PAGE.read_text(encoding="utf-8").split("\n## ")
    own = [s for s in sections if not s.startswith(("Loops over time", "Membranes", "Neurons"))]
    lines = [n for s in own for n in s.splitlines()]
    return [line[4:] for line in lines if line.startswith("    ")]


@pytest.fixture(scope="module")
def said() -> list[str]:
    """What lapilli says of each model that it cannot take."""
    torch.manual_seed(0)
    images = torch.rand(6, 1, 2, 2)
    found = []
    for model in CASES:
        with pytest.raises(LapilliError) as caught:
            quantize(model(), images)
        found.append(str(caught.value))
    for options in OPTIONS:
        with pytest.raises(LapilliError) as caught:
            quantize(does(lambda m, x: m.one(x)), images, **options)
        found.append(str(caught.value))
    with pytest.raises(LapilliError) as caught:
        quantize(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).eval(), images)
    return [*found, str(caught.value)]


def test_every_message_of_the_page_is_real(said: list[str]) -> None:
    assert sorted(_messages()) == sorted(said)


def test_each_names_a_module_or_a_layer(said: list[str]) -> None:
    assert all(message.startswith(("module '", "layer '")) for message in said)
