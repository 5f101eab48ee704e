"""Time and batch, followed through reshapes: against arrays whose elements say where they are."""

from __future__ import annotations

import math
from itertools import accumulate

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")

from lapilli.model.capture import axes
from lapilli.model.capture.axes import Dims, Factor, MixError

pytestmark = pytest.mark.torch

T, B = Factor("T", 4), Factor("B", 7)
Array = npt.NDArray[np.int64]


def _six(n: int = 6) -> Factor:
    return Factor("", n)


def _numbered(dims: Dims) -> Array:
    """Element = t * 10000 + b * 100 + position in its time step, in row-major order."""
    factors = [f for dim in dims for f in dim]
    grids = np.indices([f.size for f in factors])
    t, b, rest = (np.zeros([f.size for f in factors], np.int64) for _ in range(3))
    for f, grid in zip(factors, grids, strict=True):
        if f.name == "T":
            t = grid
        elif f.name == "B":
            b = grid
        else:
            rest = rest * f.size + grid
    return np.asarray(t * 10000 + b * 100 + rest).reshape(axes.shape(dims))


@st.composite
def layouts(draw: st.DrawFn) -> Dims:
    """T, B and up to three anonymous factors, in any order, in any grouping."""
    rest = [Factor("", draw(st.sampled_from([2, 3, 4, 6]))) for _ in range(draw(st.integers(0, 3)))]
    if math.prod(f.size for f in rest) > 100:
        rest = rest[:2]
    factors = draw(st.permutations([T, B, *rest]))
    dims: list[tuple[Factor, ...]] = []
    joined, alone = draw(st.integers(0, 31)), draw(st.integers(0, 31))
    for i, factor in enumerate(factors):
        if dims and joined >> i & 1:
            dims[-1] = (*dims[-1], factor)
        else:
            dims.append((factor,))
        if alone & joined >> i & 1:
            dims.append(())
    return tuple(dims)


@st.composite
def factorisations(draw: st.DrawFn, total: int) -> tuple[int, ...]:
    """Sizes whose product is `total`, with ones among them."""
    sizes: list[int] = []
    while total > 1 and len(sizes) < 6:
        size = draw(st.sampled_from([n for n in range(1, total + 1) if total % n == 0]))
        sizes.append(size)
        total //= size
    return (*sizes, total)


def _whole(dims: Dims, sizes: tuple[int, ...]) -> bool:
    """Whether each of T and B would lie inside one of the new dimensions."""
    bounds = list(accumulate(reversed(sizes), lambda a, b: a * b, initial=1))
    stride = 1
    for factor in reversed([f for dim in dims for f in dim]):
        end = stride * factor.size
        if factor.name and not all(stride % c == 0 or c % end == 0 for c in bounds):
            return False
        stride = end
    return True


def test_a_reshape_is_followed_or_refused() -> None:
    followed = refused = 0

    @settings(max_examples=1000)
    @given(layouts(), st.data())
    def reshape(dims: Dims, data: st.DataObject) -> None:
        nonlocal followed, refused
        sizes = data.draw(factorisations(math.prod(axes.shape(dims))))
        array = _numbered(dims)
        if not _whole(dims, sizes):
            refused += 1
            with pytest.raises(MixError):
                axes.reshape(dims, sizes)
            return
        followed += 1
        after = axes.reshape(dims, sizes)
        assert axes.shape(after) == sizes
        steps = axes.to_steps(array.reshape(sizes), after, B.size)
        _check_steps(steps, after)
        before = axes.to_steps(array, dims, B.size)
        assert np.array_equal(before.reshape(steps.shape), steps)

    reshape()
    assert followed > 100
    assert refused > 100


def _check_steps(steps: Array, dims: Dims) -> None:
    """Each (t, b) holds its own elements, in order."""
    assert steps.shape == (T.size, B.size, *axes.step_shape(dims))
    flat = steps.reshape(T.size, B.size, -1)
    t, b, n = np.indices(flat.shape)
    assert np.array_equal(flat, t * 10000 + b * 100 + n)


@given(layouts(), st.integers(1, 9))
def test_steps_of_another_batch(dims: Dims, batch: int) -> None:
    resized = tuple(tuple(Factor("B", batch) if f.name == "B" else f for f in dim) for dim in dims)
    steps = axes.to_steps(_numbered(resized), dims, batch)
    assert steps.shape == (T.size, batch, *axes.step_shape(dims))
    assert np.array_equal(steps // 100 % 100, np.indices(steps.shape)[1])
    assert np.array_equal(steps // 10000, np.indices(steps.shape)[0])


@settings(max_examples=300)
@given(layouts(), st.data())
def test_a_permutation_is_one_of_each_step(dims: Dims, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(dims))))
    step = axes.step_axes(dims)
    moved = [a for d in order if (a := step[d]) is not None]
    before = axes.to_steps(_numbered(dims), dims, B.size)

    permuted = tuple(dims[d] for d in order)
    after = axes.to_steps(_numbered(dims).transpose(order), permuted, B.size)

    assert np.array_equal(before.transpose(0, 1, *(a + 2 for a in moved)), after)


@given(layouts())
def test_axes_of_a_step(dims: Dims) -> None:
    step = axes.step_axes(dims)
    shape = axes.step_shape(dims)
    assert [a for a in step if a is not None] == list(range(len(shape)))
    for dim, axis in zip(dims, step, strict=True):
        sizes = math.prod(f.size for f in dim if not f.name)
        assert axis is None or shape[axis] == sizes
        assert axes.kept(dim) == (axis is not None)
        assert axis is not None or axes.named(dim)
    assert axes.has(dims, "T")
    assert axes.has(dims, "B")


@pytest.mark.parametrize(
    ("dims", "sizes", "shown"),
    [
        (((T,), (B,), (_six(12),)), (28, 12), "[T*B, 12]"),
        (((T, B), (_six(12),)), (4, 7, 3, 4), "[T, B, 3, 4]"),
        (((T,), (B,), (_six(), _six(4))), (4, 7, 8, 3), "[T, B, 8, 3]"),
        (((T,), (B,), (_six(),), (_six(4),)), (4, 7, 8, 3), "[T, B, 8, 3]"),
        (((B,), (T,), (_six(),)), (7, 1, 8, 3), "[B, 1, T*2, 3]"),
        (((B,), (_six(),), (T,)), (7, 3, 8), "[B, 3, 2*T]"),
    ],
)
def test_what_a_reshape_becomes(dims: Dims, sizes: tuple[int, ...], shown: str) -> None:
    assert axes.show(axes.reshape(dims, sizes)) == shown


@pytest.mark.parametrize(
    ("dims", "sizes", "problem"),
    [
        (((T,), (B,)), (2, 14), "cuts through T"),
        (((T, B),), (7, 4), "cuts through T"),
        (((B,), (T,), (_six(),)), (7, 2, 12), "cuts through T"),
        (((_six(),), (B,), (T,)), (6, 14, 2), "cuts through T"),
        (((T,), (_six(),)), (5, 5), "cuts through T"),
        (((_six(),),), (6, 2), "cannot reshape"),
    ],
)
def test_what_is_refused(dims: Dims, sizes: tuple[int, ...], problem: str) -> None:
    with pytest.raises(MixError, match=problem):
        axes.reshape(dims, sizes)


@pytest.mark.parametrize(
    ("a", "b", "shown"),
    [
        (((T,), (B,), (_six(),)), ((T,), (B,), (_six(),)), "[T, B, 6]"),
        (((T,), (B,), (_six(),)), ((T,), (B,), ()), "[T, B, 6]"),
        (((T,), (B,), ()), ((T,), (B,), (_six(),)), "[T, B, 6]"),
        (((T, B), (_six(),)), ((T, B), ()), "[T*B, 6]"),
    ],
)
def test_what_may_be_combined(a: Dims, b: Dims, shown: str) -> None:
    assert axes.show(axes.broadcast(a, b)) == shown


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (((T,), (B,)), ((B,), (T,))),
        (((T,), (B,)), ((T,), (_six(7),))),
        (((T,), (B,)), ((T,), ())),
        (((T,), (B,)), ((B,),)),
        (((T,), (B,)), ((), ())),
        (((T, B),), ((B, T),)),
    ],
)
def test_what_may_not(a: Dims, b: Dims) -> None:
    with pytest.raises(MixError):
        axes.broadcast(a, b)
    with pytest.raises(MixError):
        axes.broadcast(b, a)


def test_sizes_of_one_have_no_factor() -> None:
    assert axes.anonymous(3, 1, 2) == ((_six(3),), (), (_six(2),))
    assert axes.show(axes.anonymous(3, 1, 2)) == "[3, 1, 2]"
