"""Weights of few bits: which power of two, single layers of their own, and the way back."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from networks.tiny import compare, images, tiny  # noqa: E402

from lapilli.ir import ops  # noqa: E402
from lapilli.ir.errors import QuantizeError  # noqa: E402
from lapilli.model.digits import Split  # noqa: E402
from lapilli.model.loading.checkpoint import Checkpoint  # noqa: E402
from lapilli.quantize import Quantized, quantize  # noqa: E402
from lapilli.quantize.replay import reference_of  # noqa: E402
from lapilli.quantize.weights import largest_fits, least_squares  # noqa: E402

pytestmark = pytest.mark.torch


def _error(weight: np.ndarray, scale: Fraction, bits: int) -> float:
    most = (1 << (bits - 1)) - 1
    rounded = np.rint(weight / float(scale)).clip(-most, most)
    return float(((weight - rounded * float(scale)) ** 2).sum())


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("seed", range(4))
def test_no_power_of_two_lies_nearer(bits: int, seed: int) -> None:
    weight = np.random.default_rng(seed).standard_t(4, size=(16, 40))
    chosen = least_squares(weight, bits)
    assert chosen.numerator.bit_count() == chosen.denominator.bit_count() == 1
    best = min(_error(weight, Fraction(2) ** e, bits) for e in range(-12, 6))
    assert _error(weight, chosen, bits) == best
    if bits <= 3:
        assert best < _error(weight, largest_fits(weight, bits), bits)  # the largest is cut off


@pytest.mark.parametrize("bits", [3, 4, 8])
@pytest.mark.parametrize("weight_scale", ["mse", "max"])
def test_cut_weights_are_exact_and_come_back(bits: int, weight_scale: str) -> None:
    made = quantize(tiny(), images(), weight_bits=bits, weight_scale=weight_scale)
    assert compare(made, images(40, seed=2)) > 1000
    again = Quantized(
        made.network, reference_of(made.network, tiny()), made.bounds, made.notes, made.health,
        made.signature,
    )  # fmt: skip
    assert compare(again, images(40, seed=2)) > 1000
    recipe = made.network.recipe
    assert recipe is not None
    assert {record.bits for record in recipe.synapses} == {bits}


def test_single_layers_have_bits_of_their_own() -> None:
    made = quantize(tiny(), images(), weight_bits=3, layer_bits={"fc": 8, "conv": 5})
    widths = {
        node.name: node.op.weight.mantissa.range.magnitude
        for node in made.network.graph.nodes
        if isinstance(node.op, ops.Weighted)
    }
    assert 64 <= widths["fc"] < 128
    assert 8 <= widths["conv"] < 16
    assert max(n for name, n in widths.items() if name not in ("fc", "conv")) <= 3
    assert compare(made, images(40, seed=2)) > 1000


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"layer_bits": {"nowhere": 4}}, "'nowhere': is no linear map"),
        ({"layer_bits": {"headd": 4}}, r"'headd': is no linear map.*; did you mean 'head'\?"),
        ({"layer_bits": {"lif1": 4}}, "'lif1': is no linear map"),
        ({"layer_bits": {"fc": 9}}, "weights take 2 to 8 bits, the input 2 to 16, not 9"),
        ({"layer_bits": {"fc": 4.0}}, r"not 4\.0"),
        ({"layer_bits": {3: 4}}, "layer_bits takes paths"),
        ({"layer_bits": 4}, "layer_bits takes paths"),
        ({"weight_scale": "mean"}, "no weight_scale 'mean': mse or max"),
        ({"mean": 0.5}, r"mean takes a list of numbers, .* as \(0\.5,\), not 0\.5"),
        ({"mean": (0.5,), "std": 0.3}, r"std takes a list of numbers, .* as \(0\.3,\), not 0\.3"),
        ({"mean": "0.5"}, r"as \(0\.5,\), not '0\.5'"),
        ({"mean": np.zeros(1)}, "mean takes a list of numbers"),
        ({"mean": (0.5, 0.5), "std": (0.3, 0.3)}, "channel"),
        ({"target": "brain"}, "no target 'brain': lava or stock"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(QuantizeError, match=why):
        quantize(tiny(), images(), **options)


@pytest.mark.parametrize(
    ("name", "bits", "right"), [("spikformer", 4, 350), ("spike_driven", 4, 345)]
)
def test_the_digits_are_still_told_apart(
    name: str,
    bits: int,
    right: int,
    checkpoint: Callable[[str], Checkpoint],
    training: Split,
    test_split: Split,
) -> None:
    from lapilli.model.digits import PREPROCESSING
    from lapilli.model.loading.checkpoint import build
    from lapilli.simulators.fast import Fast

    made = quantize(
        build(checkpoint(name)), PREPROCESSING.normalise(training.images[:200]), weight_bits=bits,
        mean=[0.3], std=[0.4], examined=1,
    ).network  # fmt: skip
    got = Fast(record=False).compile(made.graph).run(made.encode(test_split.images))
    answers = got.values[made.graph.outputs[0]][-1].argmax(-1)
    assert int((answers == test_split.labels).sum()) >= right
