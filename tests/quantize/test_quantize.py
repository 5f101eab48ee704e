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
from lapilli.quantize import Quantized, quantize  # noqa: E402
from lapilli.quantize.neurons import INSTEAD  # noqa: E402
from lapilli.simulators.reference import Reference  # noqa: E402

pytestmark = pytest.mark.torch


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
    assert top / 2 < largest <= top
    if bits > 2:  # with three levels some neurons are silent
        assert compare(made, x) > 1000


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
