"""Training: schedules, changes of images, and runs that were cut."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from lapilli.model.families.lif import LIF  # noqa: E402
from lapilli.model.fit import (  # noqa: E402
    Options,
    Split,
    augmented,
    begin,
    count_right,
    fit,
)
from lapilli.model.loading.preprocess import Preprocessing  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]

_PREPROCESSING = Preprocessing(mean=(0.25,), std=(0.25,), classes=("left", "right"))


def halves(count: int) -> Split:
    """Images that are bright on the left or on the right, among noise."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 100, (count, 1, 8, 8), np.uint8)
    labels = rng.integers(0, 2, count)
    images[labels == 0, :, :, :4] += 100
    images[labels == 1, :, :, 4:] += 100
    return Split(images, labels)


class Net(nn.Module):
    """A convolution, a neuron of four steps, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.lif = LIF()
        self.head = nn.Linear(8 * 64, 2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, 8, 8) -> (B, 2)."""
        spikes = self.lif(self.norm(self.conv(x)).expand(4, -1, -1, -1, -1))
        logits: Tensor = self.head(spikes.mean(0).flatten(1))
        return logits


def model() -> nn.Module:
    begin(seed=0)
    return Net()


def test_it_learns_and_counts_what_is_right() -> None:
    training, held_out = halves(360).without_last(100)
    net = model()
    options = Options(epochs=6, batch=32, shift=1)
    epochs = list(fit(net, training, _PREPROCESSING.normalise, options, held_out=held_out))

    assert [epoch.number for epoch in epochs] == [1, 2, 3, 4, 5, 6]
    assert epochs[-1].loss < epochs[0].loss
    assert all(epoch.cpu_seconds > 0 for epoch in epochs)
    right = epochs[-1].right
    assert right is not None
    assert right >= 85  # chance has 50
    assert right == _PREPROCESSING.right(net, held_out.images, held_out.labels)
    assert all(p.is_contiguous() for p in net.parameters())
    assert not any(m.training for m in net.modules() if isinstance(m, LIF))


def test_a_run_that_was_cut_goes_on_where_it_was() -> None:
    training = halves(96)
    options = Options(epochs=3, batch=32, warmup=1, flip=True)
    seen: list[bytes] = []

    def prepare(images: np.ndarray) -> Tensor:
        seen.append(images.tobytes())
        return _PREPROCESSING.normalise(images)

    whole = list(fit(model(), training, prepare, options))
    first, seen = seen, []
    net = model()
    cut = list(itertools.islice(fit(net, training, prepare, options), 1))
    again = model()
    again.load_state_dict(net.state_dict())
    cut += list(fit(again, training, prepare, options, done=1))

    assert [epoch.number for epoch in cut] == [1, 2, 3]
    assert cut[0].loss == whole[0].loss
    assert seen == first  # the same images, in the same order, changed in the same way
    assert len(set(first)) == 9
    assert list(fit(again, training, prepare, options, done=3)) == []


def test_bfloat16_trains_parameters_of_float32() -> None:
    net = model()
    options = Options(epochs=1, batch=32, bfloat16=True)
    (epoch,) = fit(net, halves(128), _PREPROCESSING.normalise, options)
    assert 0 < epoch.loss < 1
    assert {p.dtype for p in net.parameters()} == {torch.float32}


def test_the_rate_rises_and_falls_and_rises_again_where_a_run_goes_on() -> None:
    options = Options(epochs=1, learning_rate=1.0, warmup=10)
    rates = [options.rate(step, 1000, step) for step in range(1000)]
    assert rates[:100] == sorted(rates[:100])
    assert rates[100] == 1.0
    assert rates[100:] == sorted(rates[100:], reverse=True)
    assert 0 < rates[999] < 1e-4
    resumed = [options.rate(step, 1000, step - 500) for step in range(500, 1000)]
    assert resumed[0] == pytest.approx(rates[500] / 10)
    assert resumed[9:] == rates[509:]


def test_images_are_moved_and_mirrored_and_stay_themselves() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(1, 256, (200, 2, 5, 6), np.uint8)
    options = Options(epochs=1, shift=1, flip=True)
    changed = augmented(images, options, np.random.default_rng(1))

    wide = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    found = set()
    for got, padded in zip(changed, wide, strict=True):
        fits = [
            (y, x, mirrored)
            for y, x, mirrored in itertools.product(range(3), range(3), (False, True))
            if np.array_equal(got[..., ::-1] if mirrored else got, padded[:, y : y + 5, x : x + 6])
        ]
        assert len(fits) == 1
        found.add(fits[0])
    assert len(found) == 18
    assert augmented(images, Options(epochs=1), rng) is images


def test_neurons_of_a_framework_are_at_rest_before_each_batch() -> None:
    """One that keeps its membrane from call to call would answer the second batch otherwise."""

    class Keeps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            spikingjelly = pytest.importorskip("spikingjelly.activation_based.neuron")
            self.first = nn.Linear(64, 32)
            self.lif = spikingjelly.LIFNode()
            self.head = nn.Linear(32, 2)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.head(self.lif(self.first(x.flatten(1))))
            return y

    begin(seed=0)
    net = Keeps()
    split = halves(100)
    options = Options(epochs=2, batch=32)  # the last batch is smaller: a state would not fit
    assert len(list(fit(net, split, _PREPROCESSING.normalise, options, held_out=split))) == 2
    assert count_right(net, split, _PREPROCESSING.normalise) == count_right(
        net, split, _PREPROCESSING.normalise
    )
