"""Bytes to integers, by the book: exact rationals, half to even, clipped."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapilli.ir import ops
from lapilli.ir.graph import Graph, Node
from lapilli.ir.network import InputQuantizer, Network
from lapilli.ir.types import IntRange, Kind, TensorType

_ALL = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)

rationals = st.fractions(min_value=-2, max_value=2, max_denominator=300)
spreads = st.fractions(min_value=Fraction(1, 20), max_value=3, max_denominator=300)


def _half_even(q: Fraction) -> int:
    """Nearest integer; of two equally near ones, the even."""
    below = q.numerator // q.denominator
    rest = q - below
    if rest == Fraction(1, 2):
        return below + below % 2
    return below + (rest > Fraction(1, 2))


@given(rationals, spreads, st.integers(-3, 9), st.integers(1, 127))
def test_every_byte_is_rounded_exactly(
    mean: Fraction, std: Fraction, exponent: int, top: int
) -> None:
    source = InputQuantizer(mean=(mean,), std=(std,), exponent=exponent, lo=-top, hi=top - 1)
    want = []
    for p in range(256):
        exact = (Fraction(p, 255) - mean) / std * Fraction(2) ** exponent
        want.append(max(-top, min(top - 1, _half_even(exact))))

    got = source.encode(_ALL)

    assert got.dtype == np.int64
    assert got.ravel().tolist() == want


def test_halves_go_to_the_even_side() -> None:
    # (p / 255 - 1/2) * 255 = p - 127.5: every byte is a tie.
    source = InputQuantizer(
        mean=(Fraction(1, 2),), std=(Fraction(8, 255),), exponent=3, lo=-200, hi=200
    )
    got = source.encode(_ALL).ravel()
    assert got[[125, 126, 127, 128, 129]].tolist() == [-2, -2, 0, 0, 2]
    assert not (got % 2).any()


def test_both_ends_are_clipped() -> None:
    source = InputQuantizer(mean=(Fraction(1, 2),), std=(Fraction(1),), exponent=4, lo=-3, hi=5)
    got = source.encode(_ALL)
    assert (got.min(), got.max()) == (-3, 5)
    assert len(np.unique(got)) == 9


def test_each_channel_has_its_own_table() -> None:
    source = InputQuantizer(
        mean=(Fraction(0), Fraction(1)), std=(Fraction(1), Fraction(1, 2)), exponent=0, lo=-9, hi=9
    )
    pixels = np.full((4, 2, 1, 1), 255, np.uint8)
    pixels[1:, 1] = 0
    assert source.encode(pixels)[..., 0, 0].tolist() == [[1, 0], [1, -2], [1, -2], [1, -2]]


_ONE = InputQuantizer(mean=(Fraction(0),), std=(Fraction(1),), exponent=0, lo=-1, hi=1)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((1, 4, 4), np.float32),
        np.zeros((1, 4, 4), np.int64),
        np.zeros((3, 4, 4), np.uint8),
        np.zeros((2, 3, 4, 4), np.uint8),
        np.zeros((4, 4), np.uint8),
    ],
    ids=lambda p: f"{p.dtype}{p.shape}",
)
def test_what_is_no_image_is_refused(pixels: npt.NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match=r"expected uint8 pixels \(\.\.\., 1, H, W\)") as caught:
        _ONE.encode(pixels)
    assert f"{pixels.dtype} {pixels.shape}" in str(caught.value)


def _network() -> Network:
    kind = TensorType((1, 2, 2), IntRange(-1, 1), Kind.GRADED)
    nodes = (Node("image", ops.Input(type=kind)), Node("sum", ops.Sum(axes=(1, 2)), ("image",)))
    return Network(
        graph=Graph(nodes, ("sum",), 3), input=_ONE, logit_scale=Fraction(1, 3), classes=("a", "b")
    )


def test_an_image_is_shown_at_every_step() -> None:
    pixels = np.array([[[[0, 255], [127, 128]]]], np.uint8)
    (shown,) = _network().encode(pixels).values()
    assert shown.shape == (3, 1, 1, 2, 2)
    assert shown.tolist() == [[[[[0, 1], [0, 1]]]]] * 3


def test_the_largest_logit_names_the_class() -> None:
    assert _network().classify(np.array([[1, 2], [5, -9], [0, 0]])) == ["b", "a", "a"]
