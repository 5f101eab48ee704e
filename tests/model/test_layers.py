"""Convolutions of one position by oneDNN: the same sums; all others as they are."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402, N812
from torch import Tensor, nn  # noqa: E402
from torch.overrides import TorchFunctionMode  # noqa: E402

from lapilli.model.capture import layers  # noqa: E402
from lapilli.model.capture.layers import Directly, computed, inside_layers  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """What oneDNN was asked for; everything is worth it."""
    monkeypatch.setattr(layers, "_WORTH", 0)
    found: list[Tensor] = []
    convolve: Any = torch.mkldnn_convolution

    def noted(*args: Any) -> Tensor:
        found.append(convolve(*args))
        return found[-1]

    monkeypatch.setattr(torch, "mkldnn_convolution", noted)
    return found


def _whole(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(len(shape))
    drawn: Tensor = torch.randint(-9, 10, shape, generator=generator).float()
    return drawn


@pytest.mark.parametrize("space", [1, 2])
@pytest.mark.parametrize("has_bias", [True, False])
def test_sums_that_round_nothing_are_the_same_bits(
    space: int, has_bias: bool, made: list[Tensor]
) -> None:
    x, weight = _whole(3, 5, *[6, 4][:space]), _whole(7, 5, *[1] * space)
    bias = _whole(7) if has_bias else None
    func: Any = torch.conv1d if space == 1 else torch.conv2d
    want = func(x, weight, bias)
    for args in ((x, weight, bias), (x, weight, bias, (1,) * space, (0,) * space, 1, 1)):
        got = computed(func, args)
        assert torch.equal(got, want)
        assert got.is_contiguous()
    assert torch.equal(computed(func, (x, weight)), func(x, weight))
    assert len(made) == 3


@pytest.mark.parametrize(
    "how",
    ["kernel", "stride", "padding", "word", "groups", "float64", "strides", "one", "few", "cast"],
)
def test_others_are_left_to_pytorch(
    how: str, made: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    x, weight, others = _whole(3, 6, 5, 4), _whole(6, 6, 1, 1), [1, 0, 1, 1]
    if how == "kernel":
        weight = _whole(6, 6, 3, 1)
    if how == "stride":
        others[0] = 2
    if how == "padding":
        others[1] = 1
    if how == "groups":
        weight, others[3] = weight[:, :2], 3
    if how == "float64":
        x, weight = x.double(), weight.double()
    if how == "strides":
        x = x.transpose(2, 3)
    if how == "one":
        x = x[0]
    if how == "few":
        monkeypatch.setattr(layers, "_WORTH", 1 << 40)
    given: Any = (x, weight, None, others[0], "same" if how == "word" else others[1], *others[2:])
    with torch.autocast("cpu", enabled=how == "cast"):
        assert torch.equal(computed(torch.conv2d, given), F.conv2d(*given))
    assert not made


def test_a_mode_is_active_inside_of_layers_alone(made: list[Tensor]) -> None:
    seen: list[str] = []

    class Noting(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            seen.append(func.__name__)
            return func(*args, **(kwargs or {}))

    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(6, 7, 1)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = torch.relu(self.layer(torch.relu(x)))
            return y

    model, x = Own(), _whole(3, 6, 5, 4)
    with inside_layers(Noting()):
        model(x)
    model(x)
    assert "conv2d" in seen
    assert "relu" not in seen
    with inside_layers(Directly()):
        with torch.no_grad():
            model(x)
        assert len(made) == 1
        model(x)  # with gradients, which oneDNN's has not
    assert len(made) == 1


def test_an_error_leaves_no_mode_behind() -> None:
    mode = Directly()
    with inside_layers(mode), pytest.raises(RuntimeError):
        nn.Conv2d(6, 7, 1)(torch.ones(1, 5, 2, 2))
    assert torch.overrides._get_current_function_mode() is None
