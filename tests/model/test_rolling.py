"""Loops over time, as frameworks without a time axis have them: rolled, exact, or refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from lapilli.ir.errors import CaptureError  # noqa: E402
from lapilli.model.capture import program  # noqa: E402
from lapilli.model.capture.capture import capture  # noqa: E402
from lapilli.quantize import quantize  # noqa: E402

pytestmark = pytest.mark.torch

_T = 4
_PAGE = Path(__file__).resolve().parents[2] / "docs" / "unsupported.md"


def snntorch(*, hidden: bool = False) -> Callable[[], nn.Module]:
    """A factory of snnTorch's Leaky."""
    snn = pytest.importorskip("snntorch")
    return lambda: snn.Leaky(beta=0.5, threshold=0.3, init_hidden=hidden)


def norse() -> nn.Module:
    functional = pytest.importorskip("norse.torch.functional.lif")
    torch_norse = pytest.importorskip("norse.torch")
    p = functional.LIFParameters(tau_syn_inv=torch.tensor(500.0), v_th=torch.tensor(0.1))
    return torch_norse.LIFCell(p, dt=0.001)  # type: ignore[no-any-return]


def jelly() -> nn.Module:
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
    return neuron.LIFNode(v_threshold=0.25)  # type: ignore[no-any-return]


class Loop(nn.Module):
    """Convolution, neuron, linear, neuron, head, written step by step.

    `neuron` makes a neuron; `hand` passes its state by hand, `begin` being its first; `end`
    makes the logits of all steps' spikes and logits; `frames` gives the image of a step.
    """

    def __init__(
        self,
        neuron: Callable[[], nn.Module],
        *,
        hand: bool,
        begin: Callable[[Any], Any] = lambda lif: None,
        end: Callable[[Any, list[Tensor], list[Tensor]], Tensor] | None = None,
        frame: Callable[[Tensor, int], Tensor] = lambda x, t: x,
        between: Callable[[Any, Tensor, int], Tensor] = lambda m, x, t: x,
    ) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.fc, self.other, self.head = nn.Linear(64, 12), nn.Linear(64, 12), nn.Linear(12, 3)
        self.first, self.second = neuron(), neuron()
        self.hand, self.begin, self.frame, self.between = hand, begin, frame, between
        self.end = end or (lambda m, spikes, logits: sum(logits) / _T)  # type: ignore[return-value]

    def fire(self, neuron: Any, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        if self.hand:
            return neuron(x, state)  # type: ignore[no-any-return]
        return neuron(x), None

    def forward(self, images: Tensor) -> Tensor:
        one, two = self.begin(self.first), self.begin(self.second)
        spikes, logits = [], []
        for t in range(_T):
            x = self.norm(self.conv(self.frame(images, t)))
            x, one = self.fire(self.first, x, one)
            x = self.between(self, self.fc(x.flatten(1)), t)
            x, two = self.fire(self.second, x, two)
            spikes.append(x)
            logits.append(self.head(x))
        answer: Any = self.end(self, spikes, logits)
        return answer  # type: ignore[no-any-return]


def loop(*args: Any, **options: Any) -> nn.Module:
    torch.manual_seed(3)
    model = Loop(*args, **options)
    with torch.no_grad():
        model.conv.weight.mul_(3)
        model.fc.weight.mul_(4)
    return model.eval()


def images(count: int, seed: int, *shape: int) -> Tensor:
    drawn: Tensor = torch.randn(
        count, *(shape or (1, 4, 4)), generator=torch.Generator().manual_seed(seed)
    )
    return drawn


NEURONS: dict[str, Callable[[], nn.Module]] = {
    "snntorch-by-hand": lambda: loop(snntorch(), hand=True, begin=lambda lif: lif.init_leaky()),
    "snntorch-hidden": lambda: loop(
        snntorch(hidden=True), hand=False, begin=lambda lif: lif.reset_hidden()
    ),
    "norse": lambda: loop(norse, hand=True),
    "spikingjelly": lambda: loop(jelly, hand=False),
}


@pytest.mark.parametrize("name", NEURONS)
def test_loops_are_spike_exact(name: str, exact_on: Callable[..., int]) -> None:
    made = quantize(NEURONS[name](), images(12, 0))
    assert made.network.graph.T == _T
    assert sorted(made.network.graph.neurons) == ["first", "second"]
    assert exact_on(made, images(8, 1)) > 10_000


def rates(m: Any, spikes: list[Tensor], logits: list[Tensor]) -> Tensor:
    y: Tensor = m.head(torch.stack(spikes, 1).sum(1) / _T)
    return y


ENDS: dict[str, Callable[[Any, list[Tensor], list[Tensor]], Tensor]] = {
    "sum": lambda m, s, y: y[0] + y[1] + y[2] + y[3],
    "running-sum": lambda m, s, y: torch.zeros_like(y[0]) + y[0] + y[1] + y[2] + y[3],
    "python-sum": lambda m, s, y: sum(y),  # type: ignore[dict-item,return-value]
    "stack-mean": lambda m, s, y: torch.stack(y).mean(0),
    "stack": lambda m, s, y: torch.stack(y),
    "cat": lambda m, s, y: torch.cat([each[None] for each in y]).mean(0),
    "last": lambda m, s, y: y[-1],
    "head-of-last": lambda m, s, y: m.head(s[-1]),
    "last-of-stack": lambda m, s, y: torch.stack(y, 1)[:, -1],
    "head-of-rates": rates,
    "head-of-counts": lambda m, s, y: m.head(torch.stack(s).sum(0)),
}


@pytest.mark.parametrize("name", ENDS)
def test_what_gathers_the_steps(name: str, exact_on: Callable[..., int]) -> None:
    made = quantize(loop(jelly, hand=False, end=ENDS[name]), images(12, 0))
    assert exact_on(made, images(6, 1)) > 5_000


FRAMES: dict[str, tuple[str, Callable[[Tensor, int], Tensor]]] = {
    "select": ("BTCHW", lambda x, t: x[:, t]),
    "first-axis": ("TBCHW", lambda x, t: x[t]),
    "unbind": ("BTCHW", lambda x, t: x.unbind(1)[t]),
    "permuted": ("BTCHW", lambda x, t: x.transpose(0, 1)[t]),
}


@pytest.mark.parametrize("name", ["select", "first-axis"])
def test_frames_of_each_step(name: str, exact_on: Callable[..., int]) -> None:
    layout, frame = FRAMES[name]
    model = loop(jelly, hand=False, frame=frame)
    made = quantize(model, images(12, 0, _T, 1, 4, 4), layout=layout)
    assert exact_on(made, images(6, 1, _T, 1, 4, 4)) > 5_000


def test_the_rolled_loop_is_one_step() -> None:
    captured = capture(loop(jelly, hand=False), (1, 4, 4))
    fires = [c.op for c in captured.calls.values() if isinstance(c.op, program.Neuron)]
    assert [f.steps for f in fires] == [(0, 1, 2, 3)] * 2
    names = [c.path for c in captured.calls.values()]
    assert names.count("conv") == names.count("fc") == 1


def again(m: Any, x: Tensor, t: int) -> Tensor:
    """A neuron that runs once more in one of the steps."""
    y: Tensor = m.second(x) if t == 1 else x
    return y


def elsewhere(m: Any, x: Tensor, t: int) -> Tensor:
    """Another layer in one of the steps."""
    y: Tensor = x + (m.other if t == 1 else m.fc)(x.repeat(1, 6)[:, :64])
    return y


def third(m: Any, spikes: list[Tensor], logits: list[Tensor]) -> Tensor:
    return logits[2]


class ByHand(Loop):
    """The membrane in the hands of the user, who changes it."""

    def fire(self, neuron: Any, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        spikes, state = neuron(x, state)
        return spikes, state * 0.5


def by_hand() -> nn.Module:
    return ByHand(snntorch(), hand=True, begin=lambda lif: lif.init_leaky()).eval()


REFUSED: tuple[Callable[[], nn.Module], ...] = (
    lambda: loop(jelly, hand=False, end=third),
    lambda: loop(jelly, hand=False, between=lambda m, x, t: x * (t + 1)),
    lambda: loop(jelly, hand=False, between=elsewhere),
    lambda: loop(snntorch(), hand=True, begin=lambda lif: torch.ones(1)),
    by_hand,
    lambda: loop(jelly, hand=False, between=again),
    lambda: Back().eval(),
)


def test_loops_that_are_refused_as_the_page_says() -> None:
    text = _PAGE.read_text(encoding="utf-8")
    section = text.split("## Loops over time")[1].split("\n## ")[0]
    wanted = [line[4:] for line in section.splitlines() if line.startswith("    ")]
    said = []
    for model in REFUSED:
        with pytest.raises(CaptureError) as caught:
            capture(model(), (1, 4, 4))
        said.append(str(caught.value))
    assert said == wanted


def test_a_step_that_is_left_out() -> None:
    model = loop(jelly, hand=False, end=lambda m, s, y: (y[0] + y[2]) / 2)
    with pytest.raises(CaptureError, match="is used alone after the loop"):
        capture(model, (1, 4, 4))


class Back(nn.Module):
    """Spikes that go back in time: a recurrent network."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.back, self.head = nn.Linear(16, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.lif = jelly()

    def forward(self, x: Tensor) -> Tensor:
        before, out = torch.zeros(x.shape[0], 8), []
        for _ in range(_T):
            before = self.lif(self.fc(x.flatten(1)) + self.back(before))
            out.append(self.head(before))
        answer: Tensor = torch.stack(out).mean(0)
        return answer


def test_spikes_that_go_back_in_time() -> None:
    with pytest.raises(CaptureError, match="are recurrent") as caught:
        capture(Back().eval(), (1, 4, 4))
    assert caught.value.path == "lif"
