"""What cannot be quantized is refused, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from networks.tiny import Tiny, images, tiny  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from lapilli.ir.errors import CaptureError, QuantizeError  # noqa: E402
from lapilli.model.families.lif import LIF  # noqa: E402
from lapilli.quantize import quantize  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.mark.parametrize(
    ("calibration", "problem"),
    [
        (torch.zeros(0, 1, 4, 4), r"calibration must be \(count, C, H, W\), got .*0, 1, 4, 4"),
        (torch.zeros(1, 4, 4), "calibration must be"),
        (torch.zeros(5, 1, 4, 4), r"calibration images reach 0\.0; are they images"),
        (torch.full((5, 1, 4, 4), torch.nan), "calibration images reach nan"),
        (torch.full((5, 1, 4, 4), -torch.inf), "calibration images reach inf"),
        (torch.zeros(2, 1, 0, 4), r"calibration must be .* got .*2, 1, 0, 4"),
        (torch.full((5, 1, 4, 4), 0.5), r"reach 0\.5; .* Every pixel of all 5 is the same"),
        (
            torch.eye(4)[None, None].repeat(3, 1, 1, 1).index_fill(0, torch.tensor([2]), torch.nan),
            "reach nan, first in image 2",
        ),
        (torch.zeros(5, 1, 4, 4, dtype=torch.complex64), "real numbers, got torch.complex64"),
        (torch.zeros(5, 1, 4, 4, dtype=torch.bool), "real numbers, got torch.bool"),
        (np.zeros((5, 1, 4, 4)), "is no tensor: ndarray"),
    ],
)
def test_calibration_that_says_nothing(calibration: Tensor, problem: str) -> None:
    with pytest.raises(QuantizeError, match=problem) as caught:
        quantize(tiny(), calibration)
    assert caught.value.layer == "image"


@pytest.mark.parametrize(
    "options", [{"weight_bits": 1}, {"weight_bits": 9}, {"input_bits": 1}, {"input_bits": 17}]
)
def test_bits_out_of_range(options: dict[str, int]) -> None:
    with pytest.raises(QuantizeError, match="weights take 2 to 8 bits, the input 2 to 16"):
        quantize(tiny(), images(), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [{"mean": (0.1, 0.2)}, {"std": (0.5, 0.5)}, {"std": (0.0,)}, {"std": (float("nan"),)},
     {"mean": (float("inf"),)}],
)  # fmt: skip
def test_normalisation_that_does_not_fit(options: dict[str, tuple[float, ...]]) -> None:
    with pytest.raises(QuantizeError, match="one mean and one positive std"):
        quantize(tiny(), images(), **options)  # type: ignore[arg-type]


def test_one_name_for_each_answer() -> None:
    with pytest.raises(QuantizeError, match="2 class names for 3 logits"):
        quantize(tiny(), images(), classes=("a", "b"))
    assert quantize(tiny(), images(), classes="abc").network.classes == ("a", "b", "c")


def _broken(change: Callable[[Tiny], object]) -> Tiny:
    model = tiny()
    with torch.no_grad():
        change(model)
    return model


def test_the_module_itself_has_a_name() -> None:
    assert str(QuantizeError("", "x")) == "layer '(the model itself)': x"
    assert str(CaptureError("", "x")) == "module '(the model itself)': x"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda m: m.fc.weight.fill_(torch.nan), r"module 'fc': .* takes NaN from fc\.weight"),
        (lambda m: m.b.bias.fill_(torch.inf), r"module 'b': .* takes infinity from b\.bias"),
        (lambda m: m.bn.running_var.fill_(-1.0), "layer 'conv': holds NaN or infinity"),
    ],
)
def test_parameters_that_are_no_numbers(change: Callable[[Tiny], object], why: str) -> None:
    with pytest.raises((CaptureError, QuantizeError), match=why):
        quantize(_broken(change), images())


class Ends(nn.Module):
    """Tiny's stem, and a layer that has no integer form here."""

    def __init__(self, rule: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.rule = rule
        self.fc, self.lif = nn.Linear(16, 8), LIF()
        self.one, self.two, self.norm = nn.Linear(8, 8), nn.Linear(8, 8), nn.BatchNorm1d(8)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.rule(self, self.lif(self.fc(x.flatten(1)[None].repeat(4, 1, 1))))


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        (lambda m, x: m.head(m.lif(m.two(m.one(x) + m.one(m.lif(m.two(x)))))).mean(0),
         "'two': is a linear map of a real current"),
        (lambda m, x: m.head(m.lif(m.one(x) * m.two(x))).mean(0), "multiplies two real currents"),
        (lambda m, x: m.head(m.lif(m.norm((m.one(x) + m.two(m.lif(x))).flatten(0, 1))
                                   .view(*x.shape))).mean(0),
         "'norm': is a batch norm that does not follow a linear map of its own"),
        (lambda m, x: m.head(m.lif((y := m.one(x)) + y * 0.5)).mean(0), "times itself"),
        (lambda m, x: m.head(x.mean(0) + x.mean(0) / 99), "scales differ by 99"),
],
)  # fmt: skip
def test_what_has_no_integer_form_is_named(
    rule: Callable[[Any, Tensor], Tensor], problem: str
) -> None:
    with pytest.raises(QuantizeError, match=problem):
        quantize(Ends(rule).eval(), images())
