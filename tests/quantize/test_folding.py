"""Batch norms into weights, scales for groups: what is left is integers."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from networks.tiny import compare, images, tiny  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from lapilli.ir import ops  # noqa: E402
from lapilli.model.capture.capture import capture  # noqa: E402
from lapilli.quantize import quantize  # noqa: E402
from lapilli.quantize.plan import plan  # noqa: E402
from lapilli.quantize.weights import Folded, fold, largest_fits, round_units  # noqa: E402

pytestmark = pytest.mark.torch


def _parameters(model: nn.Module) -> tuple[Any, Any, Any]:
    """Plan, folded units and captured program."""
    captured = capture(model, (1, 4, 4))
    made = plan(captured, Fraction(1, 16))
    return captured, made, {n: fold(captured, u) for n, u in made.units.items()}


def _unit(made: Any, path: str) -> str:
    (name,) = (n for n, u in made.units.items() if u.path == path)
    return str(name)


@pytest.mark.parametrize("gamma", [0.5, -0.5, 0.0])
def test_a_norm_is_folded_exactly(gamma: float) -> None:
    """With dyadic parameters nothing rounds: both sides are the same numbers."""
    model = tiny()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.round(parameter * 64) / 64)
        for norm in (model.bn, model.a_bn):
            norm.eps = 0.0
            norm.running_var.fill_(0.25)  # type: ignore[union-attr]
            norm.running_mean.copy_(torch.arange(len(norm.running_mean)) / 8 - 0.25)  # type: ignore[union-attr,arg-type]
            norm.weight.fill_(gamma)
    _, made, folded = _parameters(model)
    exact: Any = model.double()
    x = torch.randint(-16, 17, (9, 1, 4, 4)).double() / 8
    s = torch.randint(0, 2, (9, 8)).double()
    with torch.no_grad():
        wants = {"conv": exact.bn(exact.conv(x)), "a": exact.a_bn(exact.a(s)), "b": exact.b(s)}
    for path, want in wants.items():
        unit = folded[_unit(made, path)]
        weight, bias = torch.from_numpy(unit.weight), torch.from_numpy(unit.bias)
        got = (
            functional.conv2d(x, weight, bias, padding=1)
            if path == "conv"
            else functional.linear(s, weight, bias)
        )
        assert torch.equal(got, want), path
        assert want.unique().numel() > (1 if gamma or path == "b" else 0)


def test_a_negative_gamma_turns_the_weights() -> None:
    model = tiny()
    with torch.no_grad():
        model.bn.weight.copy_(torch.tensor([1.0, -1.0, 1.0, -1.0]))
    made = quantize(model, images())
    op = made.network.graph["conv"].op
    assert isinstance(op, ops.Conv2d)
    own, turned = np.sign(model.conv.weight.detach().numpy()), np.sign(op.weight.array)
    assert np.array_equal(np.where(turned[::2] == 0, own[::2], turned[::2]), own[::2])
    assert np.array_equal(np.where(turned[1::2] == 0, -own[1::2], turned[1::2]), -own[1::2])
    assert compare(made, images(seed=3)) > 1000


def _own(folded: Mapping[str, Folded]) -> dict[str, Fraction]:
    return {name: largest_fits(unit.weight, 8) for name, unit in folded.items()}


def test_a_residual_group_shares_its_scale() -> None:
    captured, made, folded = _parameters(tiny())
    units = round_units(made, folded, dict.fromkeys(folded, 8), _own(folded), {}, {})
    a, b, conv, fc, head = (_unit(made, p) for p in ("a", "b", "conv", "fc", "head"))
    assert made.groups[a] == made.groups[b] == a
    assert {made.groups[n] for n in (conv, fc, head)} == {conv, fc, head}
    assert units[a].output_scale == units[b].output_scale
    lif2, lif3 = (
        next(c.name for c in captured.calls.values() if c.path == p) for p in ("lif2", "lif3")
    )
    assert made.feeds[lif2] == {a}
    assert made.feeds[lif3] == {a, b}
    for name, unit in units.items():
        assert unit.weight_scale * made.units[name].input_scale == unit.output_scale
        real = folded[name].weight / float(unit.weight_scale * 2**unit.exponent)
        assert np.abs(np.rint(real)).max() in range(64, 128)  # each of them uses its bits
        assert np.array_equal(np.rint(real) * 2**unit.exponent, unit.weight.array)
    assert {unit.exponent for unit in units.values()} > {0}


def test_weights_and_biases_are_the_nearest_integers() -> None:
    _, made, folded = _parameters(tiny())
    compared = 0
    for name, unit in round_units(
        made, folded, dict.fromkeys(folded, 8), _own(folded), {}, {}
    ).items():
        for integers, real, scale, step in (
            (unit.weight.array, folded[name].weight, unit.weight_scale, 2**unit.exponent),
            (unit.bias.array, folded[name].bias, unit.output_scale, 1),
        ):
            off = np.abs(integers - real / float(scale))
            assert off.max() <= step / 2
            compared += off.size
    assert compared > 100
