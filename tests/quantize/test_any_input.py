"""Inputs that are no images: tokens, sequences, frames with time anywhere; encoded as they are."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from lapilli.deploy.comparison.compare import Comparison, compare_all  # noqa: E402
from lapilli.deploy.comparison.targets import target  # noqa: E402
from lapilli.export.native import load_network, save_network  # noqa: E402
from lapilli.ir.errors import CaptureError, InputError, QuantizeError  # noqa: E402
from lapilli.ir.types import Kind  # noqa: E402
from lapilli.model.capture.signature import Signature  # noqa: E402
from lapilli.model.families.lif import LIF  # noqa: E402
from lapilli.quantize import Quantized, quantize  # noqa: E402
from lapilli.quantize.replay import reference_of  # noqa: E402

pytestmark = pytest.mark.torch

_T, _SIZES = 5, {"N": 3, "C": 6, "F": 6, "H": 4, "W": 2}


class AnyInput(nn.Module):
    """Brings its input to (T, B, features), whatever its layout; the rest is always the same."""

    def __init__(self, layout: str, *, merged: bool = False) -> None:
        super().__init__()
        self.layout = layout
        self.own = layout.replace("T", "").replace("B", "")
        features = math.prod(_SIZES[axis] for axis in self.own)
        self.fc = nn.Linear(features, 12)
        self.second = nn.Linear(12, 12) if merged else nn.Identity()
        self.lif, self.lif2 = LIF(v_threshold=0.2), LIF(v_threshold=0.2)
        self.mid, self.head = nn.Linear(12, 10), nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        wanted = ("T" if "T" in self.layout else "") + "B" + self.own
        x = x.permute([self.layout.index(axis) for axis in wanted])
        if "T" not in self.layout:
            x = x.unsqueeze(0).repeat(_T, 1, *(1 for _ in self.own))
        x = self.lif(self.second(self.fc(x.flatten(2))))
        logits: Tensor = self.head(self.lif2(self.mid(x))).mean(0)
        return logits


def any_input(layout: str, *, merged: bool = False) -> AnyInput:
    torch.manual_seed(3)
    model = AnyInput(layout, merged=merged).eval()
    with torch.no_grad():
        model.mid.weight.mul_(4)
    return model


def drawn(layout: str, count: int, seed: int) -> Tensor:
    """Samples first, then time, then the others."""
    own = tuple(_SIZES[axis] for axis in Signature(layout=layout).canonical if axis in _SIZES)
    shape = (count, *((_T,) if "T" in layout else ()), *own)
    made: Tensor = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 2
    return made


def equal_everywhere(made: Quantized, given: np.ndarray) -> list[Comparison]:
    """PyTorch against every simulator that is at hand, and a file of it."""
    graph = made.network.graph
    others = {
        name: target(name).compile(graph) for name in ("reference", "event-driven", "onnx", "fast")
    }
    done = compare_all(made.network, made.reference, others, given)
    for comparison in done:
        comparison.require()
    return done


@pytest.mark.parametrize("layout", ["TBNC", "BTF", "BFT", "BF", "BCTHW", "CHWB", "NBTC"])
def test_every_order_of_axes_is_exact(layout: str, tmp_path: Path) -> None:
    model = any_input(layout)
    calibration = drawn(layout, 12, 0)
    if model.own == "CHW":
        calibration = calibration.abs().clamp(max=1)  # as pixel / 255 is
    made = quantize(model, calibration, layout=layout)
    graph, source = made.network.graph, made.network.input
    own = tuple(_SIZES[axis] for axis in model.own)
    assert graph.T == _T
    assert graph.types[graph.inputs[0]].shape == own
    images = model.own == "CHW"
    assert source.takes_pixels == images
    given = drawn(layout, 5, 1).numpy()
    if images:
        given = np.random.default_rng(1).integers(0, 256, given.shape, np.uint8)
    done = equal_everywhere(made, given)
    assert min(c.compared for c in done) > 1000

    save_network(made.network, tmp_path / "x.lapilli")
    loaded = load_network(tmp_path / "x.lapilli")
    assert loaded.digest == made.network.digest
    again = reference_of(loaded, model)
    run = again.run(loaded.encode(given))
    assert np.array_equal(
        run.values["logits"],
        made.reference.run(made.network.encode(given)).values["logits"],
    )


def test_a_program_in_the_authors_place_hears_steps_that_differ() -> None:
    made = quantize(any_input("BTF", merged=True), drawn("BTF", 12, 0), layout="BTF")
    assert any("merged" in str(note) for note in made.notes)
    equal_everywhere(made, drawn("BTF", 5, 1).numpy())


def test_an_input_axis_that_is_taken_for_another_is_noticed() -> None:
    """A planted fault: the same numbers, transposed, are another input."""
    made = quantize(any_input("BFT"), drawn("BFT", 12, 0), layout="BFT")
    given = drawn("BFT", 5, 1)
    network = made.network
    want = made.reference.run(network.encode(given.numpy()))
    swapped = given.flip(1)
    got = target("reference").compile(network.graph).run(network.encode(swapped.numpy()))
    assert not np.array_equal(want.values["lif"], got.values["lif"])


def test_numbers_are_rounded_half_to_even_and_cut_off() -> None:
    source = quantize(any_input("BF"), drawn("BF", 12, 0), layout="BF").network.input
    assert (source.mean, source.std) == ((), ())
    unit = 2.0**-source.exponent
    given = np.array([[0.5, 1.5, 2.5, -0.5, 1e9, -1e9]]) * unit
    assert source.encode(given).tolist() == [[0, 2, 2, 0, source.hi, source.lo]]
    assert source.encode(np.array([[3]], np.int8) * 0 + 1).dtype == np.int64


def test_counts_of_any_shape_stay_what_they_are() -> None:
    drawn_events = torch.poisson(
        torch.full((12, _T, 6), 0.7), generator=torch.Generator().manual_seed(1)
    )
    made = quantize(any_input("TBF"), drawn_events, layout="TBF", counts=True)
    graph, source = made.network.graph, made.network.input
    assert graph.types[graph.inputs[0]].kind is Kind.COUNTS
    assert (source.mean, source.exponent, source.lo) == ((), 0, 0)
    equal_everywhere(made, drawn_events[:6].numpy())


@pytest.mark.parametrize(
    ("layout", "shape", "options", "error", "problem"),
    [
        ("TBNC", (4, 5, 6), {}, QuantizeError, r"calibration must be \(count, T, N, C\)"),
        ("TF", (4, 6), {}, CaptureError, "layout 'TF' is no order of axes"),
        ("BTTF", (4, 5, 5, 6), {}, CaptureError, "every one once"),
        ("bf", (4, 6), {}, CaptureError, "a capital letter each"),
        ("B", (4,), {}, CaptureError, "is no order of axes"),
        ("BF", (4, 6), {"mean": [0.5]}, QuantizeError, "mean and std are of pixels"),
        ("BTF", (4, 1, 6), {}, CaptureError, "a single time step; drop that axis, use layout BF"),
    ],
)
def test_what_is_no_such_input(
    layout: str,
    shape: tuple[int, ...],
    options: dict[str, list[float]],
    error: type[Exception],
    problem: str,
) -> None:
    numbers = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    model = any_input("BTF" if "T" in layout else "BF")
    with pytest.raises(error, match=problem):
        quantize(model, numbers, layout=layout, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (np.zeros((2, _T, 7)), r"expected inputs of shape \(6,\) each, got \(5, 7\)"),
        (np.zeros((2, 3, 6)), "images of 3 steps; the graph takes 5"),
        (np.full((2, _T, 6), np.nan), "got NaN among them"),
        (np.full((2, _T, 6), "x"), "expected real numbers"),
    ],
)
def test_what_a_network_does_not_take(given: np.ndarray, problem: str) -> None:
    network = quantize(any_input("BTF"), drawn("BTF", 12, 0), layout="BTF").network
    with pytest.raises(InputError, match=problem):
        network.encode(given)


def test_the_signature_of_the_module_is_kept(exact_on: Callable[..., int]) -> None:
    asked = Signature(layout="NBTC")
    assert asked.canonical == "BTNC"
    assert asked.images((5, 3, 6), 7) == (3, 7, 5, 6)
