"""The author's module on integer grids: the side that PyTorch runs."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from networks.tiny import Tiny, images, integer_weights, integers, tiny  # noqa: E402

from lapilli.ir.errors import MismatchError  # noqa: E402
from lapilli.model.families.lif import LIF  # noqa: E402
from lapilli.quantize import quantize  # noqa: E402
from lapilli.quantize.pytorch import precision  # noqa: E402
from lapilli.quantize.pytorch.integer_neuron import on_grid  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("options", [{}, {"affine": False}, {"tau": 1.5}], ids=str)
def test_the_reference_has_the_authors_keys_on_grids(options: dict[str, Any]) -> None:
    model = tiny(**options)
    made = quantize(model, images())
    module: Any = made.reference.module

    assert module.state_dict().keys() == model.state_dict().keys()
    assert type(made.reference.module) is Tiny
    assert not module.training
    for path, whole in integer_weights(made).items():
        weight = module.get_submodule(path).weight
        assert weight.dtype == torch.float64
        ratio = set((weight.detach().numpy()[whole != 0] / whole[whole != 0]).tolist())
        assert len(ratio) == 1, path
        mantissa, _ = np.frexp(ratio.pop())
        assert mantissa == 0.5  # a power of two
        assert not weight.detach().numpy()[whole == 0].any()
    for norm in (module.bn, module.a_bn):
        assert norm.eps == 0
        assert torch.equal(norm.running_var, torch.ones_like(norm.running_var))
        shift = -norm.running_mean
        if norm.affine:
            assert torch.equal(norm.weight, torch.ones_like(norm.weight))
            assert not norm.running_mean.any()
            shift = norm.bias
        assert shift.any()
        assert torch.equal(torch.round(shift * 2**20), shift * 2**20)
    assert not module.a.bias.any()  # it is in the norm's shift
    assert module.b.bias.any()


def test_values_on_the_grid_are_read_exactly() -> None:
    for scale in (Fraction(1, 64), Fraction(5, 48), Fraction(3)):
        whole = np.arange(-5000, 5000, 7)
        real = np.float64(scale.numerator) * whole / np.float64(scale.denominator)
        assert np.array_equal(on_grid("n", real, scale), whole)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("at", [0, 40_000, 99_999])
def test_one_value_off_the_grid_among_many_is_named(at: int, dtype: type) -> None:
    whole = np.arange(-50_000, 50_000)
    values: Any = (whole / 64).astype(dtype).reshape(2, 5, -1)
    assert np.array_equal(on_grid("n", values, Fraction(1, 64)).ravel(), whole)
    assert np.array_equal(on_grid("n", values[:, ::2], Fraction(1, 64)), values[:, ::2] * 64)
    values.flat[at] += 0.25 / 64
    off = float(values.flat[at])
    with pytest.raises(MismatchError, match=f"n: {off!r} is no multiple of 1/64"):
        on_grid("n", values, Fraction(1, 64))


def test_a_value_off_a_grid_of_three_is_named() -> None:
    values = 3.0 * np.arange(-50_000, 50_000)
    values[70_000] += 1
    with pytest.raises(MismatchError, match=r"60001\.0 is no multiple of 3 in"):
        on_grid("n", values, Fraction(3))


@pytest.mark.parametrize("value", [1e30, -(2.0**63) - 2**12, 2.0**63])
def test_a_value_that_no_integer_holds_is_off_the_grid(value: float) -> None:
    with pytest.raises(MismatchError, match="is no multiple of 1/64"):
        on_grid("n", np.array([value]), Fraction(1, 64))


@pytest.mark.parametrize("off", [1e-9, -1e-12, 0.5, float("nan"), float("inf")])
def test_a_value_off_the_grid_is_named(off: float) -> None:
    values = np.array([1.0, 2.0, 3.0]) / 64
    values[1] += off / 64
    problem = "is no multiple of 1/64" if np.isfinite(off) else "NaN or infinity"
    with pytest.raises(MismatchError, match=rf"layer\.lif:.*{problem}"):
        on_grid("layer.lif", values, Fraction(1, 64))


@pytest.mark.parametrize(
    ("parameter", "node"),
    [
        ("conv.weight", "lif0"), ("bn.bias", "lif0"), ("fc.bias", "lif1"), ("a.weight", "lif2"),
        ("a_bn.running_mean", "lif2"), ("b.weight", "lif3"), ("head.bias", "logits"),
    ],
)  # fmt: skip
def test_a_parameter_off_its_grid_is_noticed(
    parameter: str, node: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A layer in float32 names the parameter; one in float64 gives the neuron such a current."""
    for largest, named in ((precision.LARGEST, re.escape(parameter)), (0, node)):
        monkeypatch.setattr(precision, "LARGEST", largest)
        made = quantize(tiny(), images())
        value = made.reference.module.state_dict()[parameter]
        value += 2.0**-30
        with pytest.raises(MismatchError, match=rf"^{named}: .* is no multiple of"):
            made.reference.run_images(integers(made, images()))


def test_membranes_are_those_of_the_pass_that_made_the_spikes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = quantize(tiny(), images())
    traced = LIF.trace
    seen: list[Any] = []

    def counted(self: LIF, x: Any) -> Any:
        seen.append(traced(self, x))
        return seen[-1]

    monkeypatch.setattr(LIF, "trace", counted)
    recording = made.reference.run_images(integers(made, images()))
    assert len(seen) == len(made.reference.neurons)
    assert len(recording.membranes) == len(seen)
    assert not any("trace" in vars(m) for m in made.reference.module.modules())


def test_spikes_that_are_not_those_of_the_membranes_are_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = quantize(tiny(), images())
    monkeypatch.setattr(LIF, "forward", lambda self, x: 1 - self.trace(x)[0])
    with pytest.raises(MismatchError, match="the traced spikes are not those of its forward"):
        made.reference.run_images(integers(made, images()))
