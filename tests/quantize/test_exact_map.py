"""A captured program's linear maps: float32 where nothing is rounded, and the bits of float64."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402, N812
from torch import Tensor  # noqa: E402

from lapilli.ir.errors import MismatchError  # noqa: E402
from lapilli.ir.tensor import IntTensor  # noqa: E402
from lapilli.model.capture import program  # noqa: E402
from lapilli.quantize.pytorch import shared_maps  # noqa: E402
from lapilli.quantize.pytorch.exact_map import ExactMap, WholeNumbers  # noqa: E402
from lapilli.quantize.pytorch.runnable import _Weights  # noqa: E402
from lapilli.quantize.pytorch.shared_maps import SharedMaps, sums_of  # noqa: E402
from lapilli.quantize.weights import IntegerUnit  # noqa: E402

pytestmark = pytest.mark.torch


def _op(space: int, groups: int = 1) -> program.Synapse:
    return program.Synapse(
        weight="w", bias="b", space=space, padding=(1, 1) if space else (0, 0), groups=groups
    )


def _drawn(*shape: int, seed: int = 0, most: int = 127) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    drawn: Tensor = torch.randint(-most, most + 1, shape, generator=generator).double()
    return drawn


_SHAPES = {
    0: ((5, 7), (2, 3, 4, 7)),
    1: ((5, 7, 3), (2, 3, 7, 6)),
    2: ((5, 7, 3, 3), (2, 3, 7, 6, 6)),
}


def _by_torch(space: int, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    if not space:
        return F.linear(x, weight, bias)
    convolve: Any = F.conv1d if space == 1 else F.conv2d
    y: Tensor = convolve(x.flatten(0, 1), weight, bias, padding=1)
    return y.reshape(*x.shape[:2], *y.shape[1:])


@pytest.mark.parametrize("space", [0, 1, 2])
@pytest.mark.parametrize("scale", [2.0**-9, 1.0, 2.0**20])
def test_whole_numbers_give_the_bits_of_float64(space: int, scale: float) -> None:
    shape, given = _SHAPES[space]
    weight, bias = _drawn(*shape) * scale, _drawn(shape[0], seed=1) * scale
    made = ExactMap.of(_op(space), "here", weight, bias)
    assert made.kernel.dtype is torch.float32
    x = (_drawn(*given, seed=2) > 60).double()
    for _ in range(2):  # checked the first time, trusted the second
        assert torch.equal(made(x), _by_torch(space, x, weight, bias))
    assert made(x).dtype is torch.float64
    assert len(made.checked) == 1


@pytest.mark.parametrize("space", [0, 1, 2])
def test_what_is_no_whole_number_stays_in_float64(space: int) -> None:
    shape, given = _SHAPES[space]
    weight, bias = _drawn(*shape), _drawn(shape[0], seed=1)
    made = ExactMap.of(_op(space), "here", weight, bias)
    x = _drawn(*given, seed=2) / 3
    assert torch.equal(made(x), _by_torch(space, x, weight, bias))
    assert not made.checked
    real = ExactMap.of(_op(space), "here", weight + 1 / 3, bias)
    assert real.kernel.dtype is torch.float64


@pytest.mark.parametrize(("beyond", "narrow"), [(0, True), (1, False)])
def test_the_bound_is_the_last_integer_that_float32_holds(beyond: int, narrow: bool) -> None:
    weight = torch.tensor([[-127.0, 1.0], [3.0, 0.0]]).double()
    made = ExactMap.of(_op(0), "here", weight, None)
    assert made.most * made.unit == 128
    x = torch.tensor([[[2.0**24 / 2 / 128 + beyond, -1.0]]]).double()  # in units of a half
    assert made.unit == 0.5
    assert torch.equal(made(x), F.linear(x, weight))
    assert bool(made.checked) == narrow


@pytest.mark.parametrize("space", [0, 1, 2])
def test_bytes_give_the_bits_of_float64(space: int) -> None:
    """Of spikes, by bytes if there are such operators, and of signed numbers, by float32."""
    shape, given = _SHAPES[space]
    kernel, bias = _drawn(*shape), _drawn(shape[0], seed=1)
    whole = WholeNumbers(kernel.to(torch.int8), 0.25, float(kernel.abs().flatten(1).sum(1).max()))
    assert torch.equal(whole.real(), kernel / 4)
    made = ExactMap.of(_op(space), "here", whole, bias)
    assert made.kernel.dtype is torch.int8
    for x in ((_drawn(*given, seed=2) > 60).double(), _drawn(*given, seed=2)):
        assert torch.equal(made(x), _by_torch(space, x, kernel / 4, bias))
    assert len(made.checked) == 1
    x = _drawn(*given, seed=2) / 3  # beyond float32
    assert torch.equal(made(x), _by_torch(space, x, kernel / 4, bias))


def test_depthwise_bytes_are_made_float64() -> None:
    weight, x = _drawn(4, 1, 3, 3), _drawn(2, 3, 4, 5, 5)
    made = ExactMap.of(_op(2, groups=4), "here", WholeNumbers(weight.to(torch.int8), 2.0, 0), None)
    assert made.kernel.dtype is torch.float64
    want = F.conv2d(x.flatten(0, 1), weight * 2, padding=1, groups=4)
    assert torch.equal(made(x).flatten(0, 1), want)


def _unit(weight: Any, scale: Fraction, factors: tuple[int, ...] = ()) -> IntegerUnit:
    return IntegerUnit(
        IntTensor.of(weight), IntTensor.of([3, -1]), scale, Fraction(1, 4), factors=factors
    )


@pytest.mark.parametrize(
    ("weight", "scale"),
    [([[127, -3], [0, 5]], Fraction(1, 8)), ([[-640, 320], [64, 0]], Fraction(-2))],
)
def test_the_integers_of_a_unit_are_taken_as_they_are(weight: Any, scale: Fraction) -> None:
    unit = _unit(weight, scale)
    found, bias = _Weights({"u": unit})["u"]
    assert isinstance(found, WholeNumbers)
    assert found.kernel.dtype is torch.int8
    assert torch.equal(found.real(), torch.from_numpy(unit.real_weight))
    assert found.most == float(found.kernel.double().abs().sum(1).max())
    assert bias is not None
    assert torch.equal(bias, torch.from_numpy(unit.real_bias))


@pytest.mark.parametrize(
    ("weight", "scale", "factors"),
    [
        ([[-128, 3], [0, 5]], Fraction(1, 8), ()),
        ([[255, 3], [0, 5]], Fraction(1, 8), ()),
        ([[0, 0], [0, 0]], Fraction(1, 8), ()),
        ([[7, 3], [0, 5]], Fraction(1, 3), ()),
        ([[7, 3], [0, 5]], Fraction(1, 8), (3, 1)),
    ],
)
def test_what_is_no_byte_stays_real(weight: Any, scale: Fraction, factors: tuple[int, ...]) -> None:
    unit = _unit(weight, scale, factors)
    found, _ = _Weights({"u": unit})["u"]
    assert isinstance(found, Tensor)
    assert torch.equal(found, torch.from_numpy(unit.real_weight))


def test_depthwise_stays_in_float64_and_nothing_is_nothing() -> None:
    weight = _drawn(4, 1, 3, 3)
    assert ExactMap.of(_op(2, groups=4), "here", weight, None).kernel.dtype is torch.float64
    silent = ExactMap.of(_op(0), "here", torch.zeros(2, 3).double(), None)
    assert torch.equal(silent(torch.ones(1, 1, 3).double()), torch.zeros(1, 1, 2).double())


def test_a_float32_that_rounds_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a convolution by a transform would."""
    exact = ExactMap._applied

    def rounding(self: ExactMap, x: Tensor, weight: Tensor, bias: Any) -> Tensor:
        y = exact(self, x, weight, bias)
        return y * (1 + 2.0**-23) if y.dtype is torch.float32 else y

    monkeypatch.setattr(ExactMap, "_applied", rounding)
    made = ExactMap.of(_op(2), "here", _drawn(5, 7, 3, 3), None)
    with pytest.raises(MismatchError, match="here: PyTorch's float32 rounds"):
        made(torch.ones(2, 3, 7, 6, 6).double())


def test_silence_vouches_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    made = ExactMap.of(_op(2), "here", _drawn(5, 7, 3, 3), None)
    x = torch.zeros(2, 3, 7, 6, 6).double()
    made(x)
    assert not made.checked
    x[1, 2] = 1  # one row of six that hears something
    compared = []
    exact = ExactMap._applied

    def counted(self: ExactMap, x: Tensor, weight: Tensor, bias: Any) -> Tensor:
        compared.append((len(x), x.dtype, bool(x.any())))
        return exact(self, x, weight, bias)

    monkeypatch.setattr(ExactMap, "_applied", counted)
    made(x)
    assert compared == [(6, torch.float32, True), (1, torch.float64, True)]
    assert len(made.checked) == 1


@pytest.mark.parametrize("unit", [2.0**-5, 1.0, 2.0**30])
def test_values_of_any_unit_give_the_bits_of_float64(unit: float) -> None:
    weight = _drawn(5, 7, 3, 3)
    made = ExactMap.of(_op(2), "here", weight, None)
    x = _drawn(2, 3, 7, 6, 6, seed=2) * unit
    assert torch.equal(made(x), _by_torch(2, x, weight, torch.zeros(5).double()))
    assert len(made.checked) == 1


def test_maps_of_one_form_vouch_for_each_other_and_for_no_other() -> None:
    checked: set[Any] = set()
    x = torch.ones(2, 3, 7, 6, 6).double()
    maps = [ExactMap.of(_op(2), "here", _drawn(5, 7, 3, 3, seed=n), None, checked) for n in (0, 1)]
    for made in maps:
        made(x)
    assert len(checked) == 1
    wide = ExactMap.of(replace(_op(2), stride=(2, 1)), "here", _drawn(5, 7, 3, 3), None, checked)
    for other, given in ((wide, x), (maps[0], x[:, :2])):
        before = len(checked)
        other(given)
        assert len(checked) == before + 1
    ExactMap.of(_op(2), "here", _drawn(4, 7, 3, 3), None, checked)(x)
    assert len(checked) == 4
    maps[0](x.transpose(3, 4).contiguous().transpose(3, 4))  # laid out otherwise
    assert len(checked) == 5


def test_what_two_forwards_share_vouches_for_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight = torch.ones(2, 3, 7, 6, 6).double(), _drawn(5, 7, 3, 3)
    checked: set[Any] = set()
    sums_of(torch.conv2d, x.flatten(0, 1), weight, ((1, 1), (1, 1), (1, 1), 1), checked=checked)
    assert len(checked) == 1
    made = ExactMap.of(_op(2), "here", weight, None, checked)
    with monkeypatch.context() as unchecked:
        unchecked.setattr(ExactMap, "_check", lambda *_: 1 / 0)
        made(x)
    ExactMap.of(replace(_op(2), padding=(1, 0)), "here", weight, None, checked)(x)
    assert len(checked) == 2


# ---- maps of two forwards, while it is shown that the program is the author's ------------------


@pytest.mark.parametrize("space", [0, 1, 2])
@pytest.mark.parametrize("multiple", [1, 49])
def test_sums_in_float32_give_the_bits_of_float64(space: int, multiple: int) -> None:
    function = (F.linear, F.conv1d, F.conv2d)[space]
    shape, given = _SHAPES[space]
    weight, bias = _drawn(*shape, most=7) * multiple / 64, _drawn(5, seed=1, most=7) / 4
    x = (_drawn(6, *given[-space - 1 :], seed=2) > 60).double() * multiple / 8
    forms: list[tuple[Any, ...]] = [()] if not space else [(), (2, 1, 1, 1)]
    for others in forms:
        sums = sums_of(function, x, weight, others, multiple)
        assert sums.numbers.dtype is torch.float32
        for some in (None, bias):
            got = sums.with_bias(some, space)
            assert got.dtype is torch.float64
            assert torch.equal(got, function(x, weight, some, *others))


def test_depthwise_sums_in_float32_give_the_bits_of_float64() -> None:
    weight, x = _drawn(6, 1, 7, 7, most=7), (_drawn(3, 6, 9, 9, seed=1) > 60).double()
    sums = sums_of(F.conv2d, x, weight, (1, 3, 1, 6))
    assert sums.numbers.dtype is torch.float32
    assert torch.equal(sums.with_bias(None, 2), F.conv2d(x, weight, None, 1, 3, 1, 6))


@pytest.mark.parametrize("how", ["thirds", "many bits", "beyond"])
def test_what_float32_could_round_is_left_to_float64(how: str) -> None:
    weight, x = _drawn(6, 6, 3, 3, most=7), (_drawn(2, 6, 5, 5, seed=1) > 60).double()
    if how == "thirds":
        x = x / 3
    if how == "many bits":
        weight[0, 0, 0, 0] = 7 + 2.0**-9
    if how == "beyond":
        x[0, 0, 0, 0] += 2.0**24
    sums = sums_of(F.conv2d, x, weight, ())
    assert sums.numbers.dtype is torch.float64
    assert torch.equal(sums.with_bias(None, 2), F.conv2d(x, weight))


def test_a_map_that_rounds_is_found() -> None:
    def rounding(x: Tensor, *args: Any) -> Tensor:
        y = F.conv2d(x, *args)
        return y * (1 + 2.0**-23) if y.dtype is torch.float32 else y

    weight, x = _drawn(5, 7, 3, 3, most=7), torch.ones(2, 7, 5, 5).double()
    with pytest.raises(MismatchError, match="PyTorch's float32 rounds"):
        sums_of(rounding, x, weight, ())
    checked: set[Any] = set()
    sums_of(rounding, x * 0, weight, (), 1, checked)  # silence vouches for nothing
    with pytest.raises(MismatchError, match="PyTorch's float32 rounds"):
        sums_of(rounding, x, weight, (), 1, checked)
    sums_of(F.conv2d, x, weight, (), 1, checked)
    sums_of(F.conv2d, x, weight + 1, (), 1, checked)
    assert len(checked) == 1
    for other, given in ((weight[:4], x), (weight, x[:1])):
        before = len(checked)
        sums_of(F.conv2d, given, other, (), 1, checked)
        sums_of(F.conv2d, given, other, (2,), 1, checked)
        assert len(checked) == before + 2


def test_tokens_are_rows_of_a_shared_map(monkeypatch: pytest.MonkeyPatch) -> None:
    made = _computed(monkeypatch)
    weight, x = _drawn(5, 7, most=7), _drawn(2, 3, 4, 7)
    with SharedMaps():
        whole = F.linear(x, weight)
        assert torch.equal(F.linear(x.flatten(0, 1), weight), whole.flatten(0, 1))
    assert torch.equal(whole, F.linear(x, weight))
    assert len(made) == 1


def _computed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is computed under `SharedMaps`, a function for each."""
    made: list[Any] = []

    def noted(func: Any, *args: Any) -> Any:
        made.append(func)
        return sums_of(func, *args)

    monkeypatch.setattr(shared_maps, "sums_of", noted)
    return made


@pytest.mark.parametrize("space", [0, 1, 2])
@pytest.mark.parametrize("divisor", [1, 3])
def test_two_equal_maps_are_computed_once(
    space: int, divisor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in float64; and each has a result of its own, which it may change."""
    made = _computed(monkeypatch)
    shape, given = _SHAPES[space]
    weight, bias = _drawn(*shape, most=7), _drawn(5, seed=1)
    x = (_drawn(6, *given[-space - 1 :], seed=2) > 60).double() / divisor
    function = (F.linear, F.conv1d, F.conv2d)[space]
    for some in (None, bias):
        with SharedMaps():
            want = function(x, weight, some)
            kept = want.clone()
            want.zero_()
            assert torch.equal(function(x.clone(), weight.clone(), some), kept)
        assert bool(kept.any())
    assert len(made) == 2


@pytest.mark.parametrize("other", ["x", "weight", "stride", "groups", "function"])
def test_what_differs_in_a_bit_is_computed(other: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = _computed(monkeypatch)
    weight, x = _drawn(6, 6, 1, 1, most=7), (_drawn(2, 6, 5, 5, seed=1) > 60).double()
    with SharedMaps() as shared:
        if other == "x":
            F.conv2d(x, weight)
            x[1, 5, 4, 4] = 1 - x[1, 5, 4, 4]
            got, want = F.conv2d(x, weight), torch.einsum("nchw,oc->nohw", x, weight[:, :, 0, 0])
            assert torch.equal(got, want)
        elif other == "weight":
            F.conv2d(x, weight)
            F.conv2d(x, weight + 2.0**-30)
        elif other == "stride":
            assert F.conv2d(x, weight, None, 1).shape != F.conv2d(x, weight, None, 2).shape
        elif other == "groups":
            F.conv2d(x, weight[:, :1], None, 1, 0, 1, 6)
            F.conv2d(x, weight[:, :1] * 2, None, 1, 0, 1, 6)
        else:
            F.linear(x[0, 0], weight[:5, :5, 0, 0])
            F.conv1d(x[:1, 0], weight[:5, :5, 0])
        assert shared.waiting
        shared.forget()
        assert not shared.waiting
    assert len(made) == 2
