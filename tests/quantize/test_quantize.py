"""Integers from a trained module: exact on both sides, and small enough."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

torch = pytest.importorskip("torch")

from networks.tiny import compare, images, integer_weights, integers, tiny  # noqa: E402

from lapilli.ir.recipe import NoteKind  # noqa: E402
from lapilli.model.digits import Split  # noqa: E402
from lapilli.model.loading.preprocess import Preprocessing  # noqa: E402
from lapilli.quantize import Quantized, quantize  # noqa: E402
from lapilli.quantize.neurons import INSTEAD  # noqa: E402
from lapilli.simulators.reference import Reference  # noqa: E402

pytestmark = pytest.mark.torch
_SOME = tuple(range(7, 157, 10))  # pixels


@pytest.mark.parametrize(
    "options",
    [{}, {"affine": False}, {"T": 2}, {"T": 10}, {"tau": 1.0}, {"tau": 4.0}, {"seed": 5}],
    ids=str,
)
@pytest.mark.parametrize("target", ["lava", "stock"])
def test_pytorch_is_the_graph(options: dict[str, Any], target: str) -> None:
    made = quantize(tiny(**options), images(), target=target)
    assert compare(made, images(40, seed=2)) > 1000
    if target == "stock":
        assert NoteKind.INTEGER_NEURON not in {note.kind for note in made.notes}


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"tau": 1.5}, "decay 0.333333 is no multiple of 1/4096"),
        ({"T": 12}, "its decay moves 11 bits below the unit"),
        ({"tau": 16.0}, "its decay moves 12 bits below the unit"),
    ],
)
def test_an_inexact_neuron_is_replaced_on_both_sides(options: dict[str, Any], why: str) -> None:
    made = quantize(tiny(**options), images())
    assert compare(made, images(40, seed=2)) > 1000
    notes = [n for n in made.notes if n.kind is NoteKind.INTEGER_NEURON]
    assert len(notes) == 4
    for i, note in enumerate(notes):  # one of them also says that its state had no room
        assert note.path == f"lif{i}"
        assert note.text.startswith(f"{INSTEAD}: {why}")


@pytest.mark.parametrize("bits", range(2, 9))
def test_weights_keep_to_their_bits(bits: int) -> None:
    made = quantize(tiny(), images(), weight_bits=bits)
    most = [int(np.abs(w).max()) for w in integer_weights(made).values()]
    top = (1 << (bits - 1)) - 1
    assert len(most) == 5
    assert max(most) <= top
    assert sum(m > top // 2 for m in most) >= 3  # and use them
    given = integers(made, images(8))
    assert made.reference.run_images(given).values["logits"][-1].shape == (8, 3)


@pytest.mark.parametrize("bits", [2, 4, 8, 10])
def test_the_input_keeps_to_its_bits(bits: int) -> None:
    x = images()
    made = quantize(tiny(), x, input_bits=bits)
    source, top = made.network.input, (1 << (bits - 1)) - 1
    assert (source.lo, source.hi) == (-top, top)
    largest = float(x.abs().max()) * 2.0**source.exponent
    assert top / 2 < largest <= top + 1  # one too many may be cut off
    if bits > 2:  # with three levels some neurons are silent
        assert compare(made, x) > 1000


@pytest.mark.parametrize(
    ("pixels", "mean", "std", "bits", "exponent"),
    [
        ((*_SOME, 255), 0.3, 0.35, 8, 6),  # 255 becomes 2, which is 128 / 64: one too many
        ((*_SOME, 255), 0.3, 0.35, 10, 8),
        ((*_SOME, 254), 0.3, 0.35, 8, 6),  # 127.3 / 64: the nearest integer is 127
        ((*_SOME, 255), 0.3, 0.34, 8, 5),  # 131.8 / 64 would be cut by several units
        ((0, 0, 0, 0, *_SOME[4:], 255), 0.5, 0.5, 8, 6),  # -1 is exact at 64, and frequent
        ((0, *_SOME), 0.5, 0.5, 8, 7),
    ],
)
def test_an_image_that_lacks_one_integer_is_cut_where_all_lie_nearer_so(
    pixels: tuple[int, ...], mean: float, std: float, bits: int, exponent: int
) -> None:
    known = Preprocessing(mean=(mean,), std=(std,), classes=())
    each = np.resize(np.array(pixels, np.uint8), (8, 16))
    mixed = np.random.default_rng(0).permuted(each, axis=1).reshape(8, 1, 4, 4)
    x = known.normalise(mixed)
    made = quantize(tiny(), x, mean=(mean,), std=(std,), input_bits=bits, examined=2)
    assert made.network.input.exponent == exponent
    top = (1 << (bits - 1)) - 1
    errors = {
        e: float(((x.double() * 2.0**e).round().clamp(-top, top) / 2.0**e - x).square().sum())
        for e in (exponent - 1, exponent, exponent + 1)
    }
    assert min(errors, key=errors.__getitem__) == exponent
    compare(made, x)


def test_a_rare_number_that_lacks_more_is_kept() -> None:
    known = Preprocessing(mean=(0.3,), std=(0.34,), classes=())
    pixels = np.resize(np.array(_SOME, np.uint8), (32, 1, 4, 4))
    pixels[0, 0, 0, 0] = 255  # 131.8 / 64
    x = known.normalise(pixels)
    cut = ((x * 64).round().clamp(-127, 127) / 64 - x).square().sum()
    assert cut < ((x * 32).round() / 32 - x).square().sum()  # by squares alone it would be cut
    made = quantize(tiny(), x, mean=known.mean, std=known.std, examined=2)
    assert made.network.input.exponent == 5


@pytest.mark.parametrize("name", ["spikformer", "spike_driven"])
def test_trained_networks_are_exact(
    quantized: Callable[[str], Quantized], name: str, test_split: Split
) -> None:
    made = quantized(name)
    assert compare_digits(made, test_split.images[:24]) > 100_000
    assert made.network.input.mean == (Fraction(3, 10),)
    assert made.network.input.std == (Fraction(2, 5),)
    assert all(np.abs(w).max() <= 127 for w in integer_weights(made).values())
    assert {b.name for b in made.bounds} == set(made.network.graph.neurons)


def compare_digits(made: Quantized, pixels: npt.NDArray[np.uint8]) -> int:
    (given,) = made.network.encode(pixels).values()
    trace = made.reference.run_images(given[0])
    got = Reference().compile(made.network.graph).run({"image": given})
    compared = 0
    for name in made.network.graph.neurons:
        assert np.array_equal(got.values[name], trace.values[name]), name
        assert np.array_equal(got.membranes[name], trace.membranes[name]), name
        assert 0 < got.values[name].mean() < 1, name
        compared += got.values[name].size
    assert np.array_equal(got.values["logits"][-1], trace.values["logits"][-1])
    return compared
