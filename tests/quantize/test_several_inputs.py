"""Several inputs by name: side by side in the graph, exact, and each in its own units."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

import lapilli as lp  # noqa: E402
from lapilli.deploy.comparison.golden import write_golden  # noqa: E402
from lapilli.export.nir.write.writer import save_nir  # noqa: E402
from lapilli.export.onnx.reader import read_onnx  # noqa: E402
from lapilli.export.onnx.writer import save_onnx  # noqa: E402
from lapilli.ir.errors import InputError, QuantizeError, UnsupportedError  # noqa: E402
from lapilli.ir.parts import as_rows, packed  # noqa: E402
from lapilli.model.families.lif import LIF  # noqa: E402
from lapilli.quantize import quantize  # noqa: E402

pytestmark = pytest.mark.torch

_T = 4


class Two(nn.Module):
    """Tokens (T, B, N, C) and a map (B, T, C, H, W), which is a hundred times as large."""

    def __init__(self, *, merged: bool = False) -> None:
        super().__init__()
        self.fc, self.lif = nn.Linear(6, 8), LIF(v_threshold=0.2)
        self.again = nn.Linear(8, 8) if merged else nn.Identity()
        self.conv, self.lif2 = nn.Conv2d(2, 3, 3, padding=1), LIF(v_threshold=20.0)
        self.head, self.other = nn.Linear(8, 3), nn.Linear(3 * 16, 3)

    def forward(self, *, tokens: Tensor, sight: Tensor) -> Tensor:
        s = self.lif(self.again(self.fc(tokens))).mean(2)
        y = sight.transpose(0, 1)
        y = self.lif2(self.conv(y.flatten(0, 1)).reshape(*y.shape[:2], 3, 4, 4))
        logits: Tensor = self.head(s.mean(0)) + self.other(y.flatten(2).mean(0))
        return logits


class Plain(nn.Module):
    """Two of one kind, without time."""

    def __init__(self, *, merged: bool = False) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(5, 8), nn.Linear(7, 8)
        self.again = nn.Linear(8, 8) if merged else nn.Identity()
        self.lif, self.head = LIF(v_threshold=0.3), nn.Linear(8, 3)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        x = self.again(self.left(left)) + self.right(right)
        logits: Tensor = self.head(self.lif(x.unsqueeze(0).repeat(_T, 1, 1))).mean(0)
        return logits


LAYOUTS = {Two: {"tokens": "TBNC", "sight": "BTCHW"}, Plain: {"left": "BF", "right": "BF"}}


def given(kind: type[nn.Module], count: int, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes: dict[str, tuple[int, ...]] = {"left": (count, 5), "right": (count, 7)}
    if kind is Two:
        shapes = {"tokens": (count, _T, 4, 6), "sight": (count, _T, 2, 4, 4)}
    made = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    if kind is Two:
        made["sight"] *= 100
    return made


def arrays(tensors: dict[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in tensors.items()}


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("kind", [Two, Plain])
def test_several_inputs_are_exact(kind: Any, merged: bool, tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = kind(merged=merged).eval()
    made = quantize(model, given(kind, 12, 0), layout=LAYOUTS[kind])
    network, images = made.network, arrays(given(kind, 5, 1))
    assert [part.name for part in network.parts] == list(LAYOUTS[kind])
    lp.save(network, tmp_path / "n.lapilli")
    loaded = lp.load(tmp_path / "n.lapilli")
    assert (loaded.digest, loaded.parts) == (network.digest, network.parts)
    simulators = ["reference", "event-driven", "onnx", "fast"]
    lp.compare(loaded, images, on=simulators, model=model).require()
    again = lp.compare(made, images, on="reference")
    again.require()
    assert again.comparisons[0].compared > 5 * _T * 8 * 3

    told = {name: torch.from_numpy(array) for name, array in images.items()}
    if kind is Two:
        told["tokens"] = told["tokens"].transpose(0, 1)
    with torch.no_grad():
        real = model(**told).numpy()
    (ours,) = network.read(lp.run(network, images)).values()
    scaled = ours * float(network.logit_scale)
    assert np.corrcoef(scaled.ravel(), real.ravel())[0, 1] > 0.9

    assert write_golden(network, as_rows(images), tmp_path / "g").values > 100
    save_onnx(network, tmp_path / "n.onnx")
    assert read_onnx(tmp_path / "n.onnx").digest == network.graph.digest
    with pytest.raises(UnsupportedError, match="encoded or joined"):
        save_nir(network, tmp_path / "n.nir")


def test_each_input_uses_all_the_bits() -> None:
    made = quantize(Two().eval(), given(Two, 12, 0), layout=LAYOUTS[Two])
    small, large = made.network.parts
    assert large.exponent - small.exponent in (6, 7)
    (encoded,) = made.network.encode(arrays(given(Two, 12, 0))).values()
    tokens, sight = encoded[..., : small.size], encoded[..., small.size :]
    assert min(np.abs(tokens).max(), np.abs(sight).max()) >= 32
    assert np.array_equal(encoded, made.network.encode(as_rows(arrays(given(Two, 12, 0))))["image"])


def test_inputs_in_another_place_are_another_answer() -> None:
    """A planted fault: the file says that the two lie the other way round."""
    torch.manual_seed(1)
    made = quantize(Two().eval(), given(Two, 12, 0), layout=LAYOUTS[Two])
    network, images = made.network, arrays(given(Two, 5, 1))
    other = replace(network, parts=network.parts[::-1])
    assert other.digest != network.digest
    want = made.reference.run(network.encode(images))
    got = lp.run(other, images)
    assert not np.array_equal(want.values["lif"], got.values["lif"])


@pytest.mark.parametrize(
    ("change", "options", "problem"),
    [
        ({}, {"layout": {"left": "BF"}}, "needs a layout for each of left, right"),
        ({}, {"layout": "BF"}, "needs a layout for each"),
        ({"left": torch.zeros(12, _T, 5)}, {"layout": {"left": "BTF", "right": "BF"}},
         "input 'right' has no time, others have"),
        ({"left": torch.zeros(12, 5, 1)}, {}, r"input 'left' must be a tensor \(count, F\)"),
        ({"left": torch.full((12, 5), torch.nan)}, {}, "input 'left' reaches nan"),
        ({"left": torch.zeros(11, 5)}, {}, "differ in their number of samples"),
        ({}, {"mean": [0.5]}, "mean is for a single input of images"),
    ],
)  # fmt: skip
def test_what_are_no_inputs(
    change: dict[str, Tensor], options: dict[str, Any], problem: str
) -> None:
    asked = {"layout": LAYOUTS[Plain], **options}
    with pytest.raises(QuantizeError, match=problem):
        quantize(Plain().eval(), {**given(Plain, 12, 0), **change}, **asked)


def test_layouts_by_name_need_inputs_by_name() -> None:
    with pytest.raises(QuantizeError, match="are for inputs by name"):
        quantize(Plain().eval(), torch.randn(4, 12), layout=LAYOUTS[Plain])


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"left": None}, "expected inputs left, right, got right"),
        ({"more": np.zeros((5, 1))}, "got left, right, more"),
        ({"left": np.zeros((5, 6))}, r"input 'left': expected real numbers of shape \(5,\) each"),
        ({"left": np.zeros((4, 5))}, "differ in their number of samples"),
    ],
)
def test_what_a_network_of_several_inputs_does_not_take(
    change: dict[str, Any], problem: str
) -> None:
    network = quantize(Plain().eval(), given(Plain, 12, 0), layout=LAYOUTS[Plain]).network
    images = {k: v for k, v in {**arrays(given(Plain, 5, 1)), **change}.items() if v is not None}
    with pytest.raises(InputError, match=problem):
        packed(network.parts, images)
