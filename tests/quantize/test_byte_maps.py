"""Convolutions of bytes: float64's sums where bytes hold all, and left alone elsewhere."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402, N812
from torch import Tensor  # noqa: E402

from lapilli.model.capture import program  # noqa: E402
from lapilli.quantize.pytorch import byte_maps  # noqa: E402
from lapilli.quantize.pytorch.byte_maps import byte_sums  # noqa: E402
from lapilli.quantize.pytorch.exact_map import ExactMap  # noqa: E402
from lapilli.quantize.pytorch.shared_maps import SharedMaps, sums_of  # noqa: E402

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(not byte_maps._is_exact_here(), reason="PyTorch has no such operators"),
]


@pytest.fixture(autouse=True)
def _all_are_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byte_maps, "_WORTH", 0)


def _drawn(*shape: int, low: int = -127, high: int = 127) -> Tensor:
    generator = torch.Generator().manual_seed(len(shape))
    drawn: Tensor = torch.randint(low, high + 1, shape, generator=generator).float()
    return drawn


@pytest.mark.parametrize("factor", [1, 2])
@pytest.mark.parametrize("high", [1, 128])
def test_the_sums_are_those_of_float64(high: int, factor: int) -> None:
    """Of as many channels as fill a vector, and of some more."""
    x, kernel = _drawn(3, 70, 9, 8, low=0, high=high), _drawn(33, 70, 3, 5) * factor
    for windows in (((1, 1), (1, 2), (1, 1)), ((2, 1), (0, 3), (1, 2))):
        got = byte_sums(x, kernel, *windows)
        assert got is not None
        assert got.dtype is torch.float32
        assert got.is_contiguous()
        assert torch.equal(got.double(), F.conv2d(x.double(), kernel.double(), None, *windows))
    line = byte_sums(x[:, :, 0], kernel[:, :, 0], (2,), (1,), (1,))
    assert line is not None
    want = F.conv1d(x[:, :, 0].double(), kernel[:, :, 0].double(), stride=2, padding=1)
    assert torch.equal(line.double(), want)


@pytest.mark.parametrize("how", ["negative", "large", "odd", "pair", "few", "elsewhere"])
def test_what_bytes_do_not_hold_is_left_alone(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x, kernel = _drawn(2, 8, 6, 6, low=0, high=1), _drawn(4, 8, 3, 3)
    kernel[0, 0, 0, 0] = 127
    windows = (1, 1), (0, 0), (1, 1)
    assert byte_sums(x, kernel, *windows) is not None
    if how == "negative":
        x[0, 0, 0, 0] = -1
    if how == "large":
        x[0, 0, 0, 0], kernel = 256, kernel.sign()
    if how == "odd":
        kernel[0, 0, 0, 0] = 129
    if how == "pair":
        x[0, 0, 0, 0] = 130  # 2 * 130 * 127 is beyond 16 bits, and beyond a sign
    if how == "few":
        monkeypatch.setattr(byte_maps, "_WORTH", 1 << 40)
    if how == "elsewhere":
        monkeypatch.setattr(byte_maps, "_is_exact_here", lambda: False)
    assert byte_sums(x, kernel, *windows) is None


def test_other_arguments_are_another_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    byte_maps._is_exact_here.cache_clear()
    monkeypatch.setitem(byte_maps._SCHEMAS, "qconv_prepack", "with other arguments")
    assert not byte_maps._is_exact_here()
    byte_maps._is_exact_here.cache_clear()


def _noted(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    assert byte_maps._is_exact_here()  # which convolves, too
    made: list[Tensor] = []
    convolved = byte_maps._convolved

    def noting(*args: Any) -> Tensor:
        made.append(convolved(*args))
        return made[-1]

    monkeypatch.setattr(byte_maps, "_convolved", noting)
    return made


@pytest.mark.parametrize("space", [1, 2])
def test_maps_of_spikes_take_bytes(space: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made = _noted(monkeypatch)
    op = program.Synapse(weight="w", bias="b", space=space, stride=(2, 1), padding=(1, 0))
    weight = _drawn(5, 7, *[3] * space).double() / 8
    x = _drawn(6, 7, *[6] * space, low=0, high=1).double()
    function: Any = F.conv1d if space == 1 else F.conv2d
    windows = (2, 1)[:space], (1, 0)[:space]
    want = function(x, weight, None, *windows)
    got = ExactMap.of(op, "here", weight, None)(x[None])
    assert torch.equal(got[0], want)
    assert len(made) == 1
    with SharedMaps():
        assert torch.equal(function(x, weight, None, *windows), want)
    assert len(made) == 2
    for other in ((1, 0, 1, 1), (1, "same"), ()):
        given = sums_of(function, x, weight, other).with_bias(None, space)
        assert torch.equal(given, function(x, weight, None, *other))
    assert len(made) == 4  # padding by a word is left to PyTorch


def test_groups_are_left_alone() -> None:
    x, kernel = _drawn(2, 8, 6, 6, low=0, high=1), _drawn(8, 1, 3, 3)
    assert byte_sums(x, kernel, (1, 1), (1, 1), (1, 1)) is None
    assert byte_sums(x[:, :1], kernel, (1, 1), (1, 1), (1, 1)) is not None


def test_maps_of_groups_take_none(monkeypatch: pytest.MonkeyPatch) -> None:
    made = _noted(monkeypatch)
    x, weight = _drawn(2, 6, 5, 5, low=0, high=1).double(), _drawn(6, 1, 3, 3).double()
    got = sums_of(F.conv2d, x, weight, (1, 1, 1, 6)).with_bias(None, 2)
    assert torch.equal(got, F.conv2d(x, weight, None, 1, 1, 1, 6))
    assert not made


def test_bytes_do_not_vouch_for_floats(monkeypatch: pytest.MonkeyPatch) -> None:
    made = _noted(monkeypatch)
    op = program.Synapse(weight="w", bias="b", space=2)
    exact = ExactMap.of(op, "here", _drawn(5, 7, 3, 3).double(), None)
    x = _drawn(1, 2, 7, 6, 6, low=0, high=1).double()
    for given in (x, x * 300, x, x * 300):
        exact(given)
    assert len(made) == 2
    assert len(exact.checked) == 2
