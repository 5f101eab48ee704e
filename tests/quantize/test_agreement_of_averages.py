"""Averages of three in front of neurons: the agreement of program and author, exact at ties."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from lapilli.ir.errors import MismatchError  # noqa: E402
from lapilli.model.capture import program  # noqa: E402
from lapilli.model.capture.capture import capture  # noqa: E402
from lapilli.model.families.lif import LIF  # noqa: E402
from lapilli.quantize.pytorch import agreement  # noqa: E402
from lapilli.quantize.pytorch.agreement import check_agreement, divided_by  # noqa: E402
from lapilli.quantize.pytorch.interpreter import Program  # noqa: E402

pytestmark = pytest.mark.torch


class Averages(nn.Module):
    """Windows of two and of three, of currents, in front of two neurons and a map."""

    def __init__(self, length: int = 14, out: int = 9) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm = nn.Conv1d(1, 6, 3, padding=1), nn.BatchNorm1d(6)
        self.pool = nn.AdaptiveAvgPool1d(out)
        self.lif, self.second = LIF(2.0, 0.5), LIF(2.0, 0.5)
        self.map, self.head = nn.Conv1d(6, 6, 3, padding=1), nn.Linear(6 * out, 3)

    def forward(self, images: Tensor) -> Tensor:
        images = images.flatten(1).unsqueeze(1).unsqueeze(0).repeat(4, 1, 1, 1)
        x = self.pool(self.norm(self.first(images.flatten(0, 1)))).unflatten(0, (4, -1))
        s = self.lif(x)
        y = self.map(s.flatten(0, 1)).unflatten(0, (4, -1))
        logits: Tensor = self.head(self.second(x + y).flatten(2)).mean(0)
        return logits


def drawn() -> nn.Module:
    model = Averages().eval()
    with torch.no_grad():
        model.first.weight.mul_(3)
        model.map.weight.mul_(3)
    return model


def test_parameters_are_multiples_of_what_divides_currents() -> None:
    captured = capture(drawn(), (1, 2, 7))
    assert divided_by(captured) == 3
    check_agreement(captured)


class Plain(nn.Module):
    """A mean over seven in front of a neuron, and one over three behind it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.lif, self.head = nn.Linear(3, 6), LIF(2.0, 0.3), nn.Linear(6, 3)

    def forward(self, images: Tensor) -> Tensor:
        x = self.first(images.flatten(1).unflatten(1, (7, 3))).mean(1)
        s = self.lif(x.unsqueeze(0).repeat(3, 1, 1))
        logits: Tensor = self.head(s.mean(0))
        return logits


def test_only_what_a_neuron_meets_counts() -> None:
    captured = capture(Plain().eval(), (1, 3, 7))
    assert divided_by(captured) == 7
    check_agreement(captured)


@pytest.mark.parametrize("model", [drawn, lambda: Plain().eval()])
def test_nothing_in_front_of_a_neuron_rounds(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that divides in another way: by a product with a half, and by twice as much."""
    captured = capture(model(), (1, 2, 7) if model is drawn else (1, 3, 7))

    class Otherwise(Program):
        def _value(self, call: Any, args: list[Tensor]) -> Tensor:
            if isinstance(call.op, program.Scale) and call.op.factor.denominator % 3 == 0:
                n = call.op.factor.denominator
                part = args[0] * (1.0 / n)  # rounds, but for multiples of three
                return part * call.op.factor.numerator
            if isinstance(call.op, program.Sum) and call.op.mean and not call.op.time:
                return super()._value(call, [args[0] * 3.0]) / 3.0
            y: Tensor = super()._value(call, args)
            return y

    monkeypatch.setattr(agreement, "Program", Otherwise)
    monkeypatch.setattr(agreement, "_near", torch.equal)  # to the last bit
    check_agreement(captured)
    monkeypatch.setattr(agreement, "divided_by", lambda _: 1)
    with pytest.raises(MismatchError, match="not the author's forward"):
        check_agreement(captured)


def test_planted_another_divisor_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    captured = capture(drawn(), (1, 2, 7))

    class Wrong(Program):
        def _value(self, call: Any, args: list[Tensor]) -> Tensor:
            y: Tensor = super()._value(call, args)
            return y * (1 + 2.0**-38) if isinstance(call.op, program.Scale) else y

    monkeypatch.setattr(agreement, "Program", Wrong)
    with pytest.raises(MismatchError, match="not the author's forward"):
        check_agreement(captured)
