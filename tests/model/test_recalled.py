"""A linear map of the same bits is recalled; of others, and all else, it is computed."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from networks.two_neurons import Net  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from lapilli.ir.errors import CaptureError  # noqa: E402
from lapilli.model.capture import attributes, forked, layers, recalled  # noqa: E402
from lapilli.model.capture.output import Asked  # noqa: E402
from lapilli.model.capture.recalled import Results, key_of, recalling  # noqa: E402
from lapilli.model.capture.repeatability import check_repeatable  # noqa: E402
from lapilli.model.capture.signature import Signature  # noqa: E402
from lapilli.model.families.lif import LIF  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture(autouse=True)
def _all_are_worth_it(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(recalled, "_PRODUCTS", 1)
    monkeypatch.setattr(recalled, "_NUMBERS", 1)
    monkeypatch.setattr(recalled, "_MOST", 1 << 16)
    with torch.no_grad():
        yield


_LAYERS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "linear": (nn.Linear(5, 7), (2, 3, 5)),
    "conv1d": (nn.Conv1d(5, 7, 3, padding=1), (2, 5, 6)),
    "conv2d": (nn.Conv2d(5, 7, 3, stride=2, bias=False), (2, 5, 6, 6)),
}


def _spoiled(results: Results) -> None:
    """Change all that is kept, so that what is recalled shows."""
    assert results.index
    assert results._memory is not None
    for place in results.index.values():
        Results._at(results._memory, place).add_(1000)


@pytest.mark.parametrize("kind", _LAYERS)
def test_the_same_bits_are_recalled(kind: str) -> None:
    layer, shape = _LAYERS[kind]
    x = torch.randn(shape)
    results = Results()
    want = layer(x)
    with recalling(results):
        assert torch.equal(layer(x), want)
        layer(x).zero_()  # a copy: nobody else's
        assert torch.equal(layer(x.clone()), want)
        _spoiled(results)
        assert torch.equal(layer(x), want + 1000)
    assert torch.equal(layer(x), want)


@pytest.mark.parametrize("other", ["x", "weight", "bias", "stride"])
def test_other_bits_are_computed(other: str) -> None:
    layer, x = nn.Conv2d(5, 7, 3), torch.randn(2, 5, 6, 6)
    results = Results()
    with recalling(results):
        layer(x)
        _spoiled(results)
        if other == "x":
            x.data[1, 4, 5, 5] += 2.0**-20  # behind autograd's back
        elif other == "stride":
            layer.stride = (2, 1)
        else:
            layer.get_parameter(other).data[-1] *= 1 + 2.0**-20
        assert float(layer(x).abs().max()) < 500
    assert len(results.index) == 2


def test_what_computes_in_its_own_way_is_called_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    class Counting(Tensor):
        calls = 0

        @classmethod
        def __torch_function__(
            cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            cls.calls += func is torch.nn.functional.linear
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **(kwargs or {}))

    layer, x = nn.Linear(5, 7), torch.randn(2, 5).as_subclass(Counting)
    with recalling(Results()):
        layer(x)
        layer(x)
        assert Counting.calls == 2
        monkeypatch.setattr(recalled, "_PRODUCTS", 6)
        results = Results()
        with recalling(results):
            layer(torch.randn(2, 5))
        assert not results.index


def test_what_has_no_room_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recalled, "_MOST", 2 * 2 * 64)
    layer, results = nn.Linear(5, 17), Results()  # 68 bytes, and so two lines
    given = torch.randn(3, 1, 5)
    with recalling(results):
        for _ in range(2):
            for x in given:
                assert torch.equal(
                    layer(x), torch.nn.functional.linear(x, layer.weight, layer.bias)
                )
    assert len(results.index) == 2

    def refused_memory(number: int, length: int) -> Any:
        raise OSError

    monkeypatch.setattr(mmap, "mmap", refused_memory)
    with recalling(refused := Results()):
        assert torch.equal(layer(given[0]), layer(given[0]))
    assert not refused.index


def test_a_hash_is_of_every_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attributes, "_PART", 16)
    x = torch.arange(11, dtype=torch.float32)
    keys = set()
    for number in range(11):
        y = x.clone()
        y[number] = -y[number] - 1
        keys.add(key_of("f", [y]))
    keys |= {key_of("f", [x]), key_of("g", [x]), key_of("f", [x, 1]), key_of("f", [x.double()])}
    assert len(keys) == 15
    assert key_of("f", [x.reshape(1, 11)]) not in keys
    assert key_of("f", [x.clone()]) in keys


def test_bytes_are_hashed_where_they_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attributes, "_PART", 16)
    x = torch.arange(11, dtype=torch.float32)
    given = x.numpy().tobytes()
    parts = [given[start : start + 16] for start in range(0, 44, 16)]
    _, *found = attributes.bits(x)
    assert found == [hash(part).to_bytes(8, "little", signed=True) for part in parts]
    x.add_(1)  # it may still be written to
    assert list(attributes.bits(x))[1:] != found


class _Drifts(nn.Module):
    """A layer whose weights move a little with every call, or whose answer does."""

    def __init__(self, *, inside: bool) -> None:
        super().__init__()
        self.inside, self.calls = inside, 0
        self.layer = nn.Linear(20, 20)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.inside:
            self.layer.weight.data[0, 0] += 0.25
        y: Tensor = self.layer(x)
        return y if self.inside else y + self.calls


@pytest.mark.parametrize("can_fork", [True, False])
@pytest.mark.parametrize("inside", [True, False])
def test_a_state_behind_recalled_maps_is_found(
    inside: bool, can_fork: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forked, "_CAN_FORK", can_fork and forked._CAN_FORK)
    net = Net(LIF(), LIF())
    net.second = nn.Sequential(_Drifts(inside=inside), LIF())
    who = r"'second\.0\.layer': Linear" if inside else r"'second\.0': _Drifts"
    with pytest.raises(CaptureError, match=f"{who} keeps state from call to call"):
        check_repeatable(net.eval(), Signature(), (3, 4, 4), Asked())


class _Whispers(nn.Module):
    """What is given to its layer moves, by less than bfloat16 can tell, and less than fires."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.calls = nn.Linear(20, 20), 0
        nn.init.zeros_(self.layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        y: Tensor = self.layer(x + 1 + self.calls * 2.0**-20) * 0
        return x + y


@pytest.mark.parametrize("coarse", [True, False])
def test_arguments_of_maps_are_compared(coarse: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "_WORTH", 0)
    monkeypatch.setattr(layers, "_has_bfloat16", lambda: coarse)
    check_repeatable(Net(LIF(), LIF()).eval(), Signature(), (3, 4, 4), Asked())
    net = Net(LIF(), LIF())
    net.second = nn.Sequential(_Whispers(), LIF())
    with pytest.raises(CaptureError, match="keeps state from call to call"):
        check_repeatable(net.eval(), Signature(), (3, 4, 4), Asked())


@pytest.mark.parametrize("kind", _LAYERS)
def test_bfloat16_is_answered_in_float32(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "_WORTH", 0)
    monkeypatch.setattr(layers, "_has_bfloat16", lambda: True)
    layer, shape = _LAYERS[kind]
    x, results = torch.randn(shape), Results()
    want = layer.bfloat16()(x.bfloat16()).float()
    layer.float()
    with recalling(results) as given:
        for _ in range(2):
            got = layer(x)
            assert got.dtype is torch.float32
            assert torch.equal(got, want)
    assert len(given) == 2
    assert given[0] == given[1]
    ((_, _, kept, _),) = results.index.values()
    assert kept is torch.bfloat16
    with recalling(Results()), torch.autocast("cpu"):
        assert layer(x).dtype is torch.bfloat16
    with recalling(Results()):
        assert torch.equal(layer.double()(x.double()), layer(x.double()))
    layer.float()


@pytest.mark.parametrize("can_fork", [True, False])
def test_images_that_were_shown_are_recalled(
    can_fork: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also by the second process, which is told where the first one's results are."""
    noted = tmp_path / "noted"
    recall = Results.recall

    def noting(self: Results, key: bytes) -> Tensor | None:
        found = recall(self, key)
        with noted.open("a") as file:
            file.write("computed " if found is None else "recalled ")
        return found

    monkeypatch.setattr(Results, "recall", noting)
    monkeypatch.setattr(forked, "_CAN_FORK", can_fork and forked._CAN_FORK)
    check_repeatable(Net(LIF(), LIF()).eval(), Signature(), (3, 4, 4), Asked())
    found = noted.read_text().split()
    maps = len(found) // 5
    assert maps == 3
    assert found == ["computed"] * 2 * maps + ["recalled"] * 3 * maps
