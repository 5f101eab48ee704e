"""Nobody else's data: what quantization sees, and what it leaves alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from networks.tiny import Tiny, compare, images, integers, tiny  # noqa: E402

from lapilli.model.digits import PREPROCESSING, Split  # noqa: E402
from lapilli.model.families.lif import LIF  # noqa: E402
from lapilli.model.loading.checkpoint import Checkpoint, build  # noqa: E402
from lapilli.quantize import Quantized, quantize  # noqa: E402

pytestmark = pytest.mark.torch


def test_the_model_passed_in_is_not_changed() -> None:
    model = tiny()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    modules = dict(model.named_modules())

    made = quantize(model, images())
    made.reference.run_images(integers(made, images()))

    assert dict(model.named_modules()) == modules
    assert not any(m._forward_hooks or m.training for m in modules.values())
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert all(v.dtype == before[k].dtype for k, v in model.state_dict().items())
    assert {m.v_threshold for m in modules.values() if isinstance(m, LIF)} == {0.4}
    assert model.bn.eps == 1e-5


def test_a_run_changes_neither_answer_nor_memory() -> None:
    made = quantize(tiny(), images())
    given = integers(made, images())
    first, second = made.reference.run_images(given), made.reference.run_images(given)
    alone = made.reference.run_images(given[3:4])
    assert np.array_equal(first.values["logits"][-1], second.values["logits"][-1])
    assert np.array_equal(first.values["logits"][-1][3:4], alone.values["logits"][-1])


def test_nothing_but_model_and_calibration_counts() -> None:
    want = quantize(tiny(), images()).network
    assert want.recipe is not None
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    torch.set_default_dtype(torch.float64)
    try:
        other = quantize(tiny_as_float32(), images().float()).network
    finally:
        torch.set_default_dtype(torch.float32)
    assert other.recipe is not None
    assert torch.initial_seed() == 0  # of `tiny`: quantize draws and seeds nothing
    assert replace(other, recipe=None) == replace(want, recipe=None)
    assert other.digest == want.digest
    assert other.recipe.parameters == want.recipe.parameters
    model, given = tiny(), images()
    state = torch.get_rng_state()
    assert quantize(model, given).network == want
    assert torch.equal(torch.get_rng_state(), state)


def tiny_as_float32() -> Tiny:
    torch.set_default_dtype(torch.float32)
    model = tiny()
    torch.set_default_dtype(torch.float64)
    return model


def test_only_calibration_images_are_seen(
    checkpoint: Callable[[str], Checkpoint],
    spike_driven: Quantized,
    training: Split,
    test_split: Split,
) -> None:
    """The splits share no image, and test images of another world change nothing."""
    assert not {x.tobytes() for x in training.images} & {x.tobytes() for x in test_split.images}
    assert len(training.images) + len(test_split.images) == 1797
    kept = test_split.images.copy()
    try:
        test_split.images[...] = 255 - test_split.images
        again = quantize(
            build(checkpoint("spike_driven")),
            PREPROCESSING.normalise(training.images[:256]),
            mean=PREPROCESSING.mean,
            std=PREPROCESSING.std,
            classes=PREPROCESSING.classes,
        )
    finally:
        test_split.images[...] = kept
    assert again.network == spike_driven.network


def test_calibration_chooses_the_input_scale() -> None:
    x = images()
    near, far = (quantize(tiny(), x * k).network.input for k in (1, 5))
    assert near.exponent - far.exponent in (2, 3)
    # A single image at the end of the range decides; the others do not.
    x[1:] = 0
    assert quantize(tiny(), x).network.input.exponent >= near.exponent


def test_pixels_beyond_calibration_are_clipped_on_both_sides() -> None:
    made = quantize(tiny(), images() / 4)
    given = integers(made, images() * 4)
    assert given.max() == made.network.input.hi
    assert compare(made, images() * 4) > 1000
