"""Scales that learn: the integers are those of the nearest scale that they admit."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from networks.bright_sides import KNOWN, Merged, require_equal_spikes, split  # noqa: E402
from networks.tiny import Tiny, tiny  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from lapilli.ir.errors import LapilliError, MismatchError, QuantizeError  # noqa: E402
from lapilli.model.families.lif import LIF  # noqa: E402
from lapilli.model.fit import Options  # noqa: E402
from lapilli.quantize import quantize  # noqa: E402
from lapilli.quantize.channel_scales import nearest_scales  # noqa: E402
from lapilli.quantize.finetuning import FineTuned, finetune  # noqa: E402
from lapilli.quantize.finetuning.fake_quantized import FakeQuantized  # noqa: E402
from lapilli.quantize.finetuning.rounding import Rounded  # noqa: E402
from lapilli.quantize.finetuning.straight_through import by_steps, straight_through  # noqa: E402
from lapilli.quantize.finetuning.tuning import require_trained  # noqa: E402
from lapilli.quantize.frontier import frontier  # noqa: E402
from lapilli.quantize.options import QuantizeOptions, steps_as_text  # noqa: E402
from lapilli.quantize.replay import reference_of  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]
_IMAGES = KNOWN.normalise(split().images)


def tuned(model: nn.Module, scales: str = "tensor", epochs: int = 2, **more: Any) -> FineTuned:
    images = split()
    options = {"mean": KNOWN.mean, "std": KNOWN.std, "weight_bits": 3, "scales": scales, **more}
    training = Options(epochs=epochs, batch=8, warmup=1, learning_rate=1e-1)
    return finetune(
        model, images.images, images.labels, training=training, weight_scale="learned", **options
    )


def options_of(scales: str, **more: Any) -> QuantizeOptions:
    known = QuantizeOptions(mean=KNOWN.mean, std=KNOWN.std, weight_bits=3, scales=scales)
    made: Any = {**known, **more}
    options: QuantizeOptions = made
    return options


@pytest.mark.parametrize("scales", ["tensor", "channel", "group:3"])
def test_learned_scales_quantize_to_the_integers_that_were_trained(scales: str) -> None:
    done = tuned(tiny(), scales)
    network = done.quantized.network
    assert network.recipe is not None
    taken = [(r.weight_scale, r.factors) for r in network.recipe.synapses]
    for model in (tiny(), done.module):  # they have moved, and are not the nearest
        nearest = quantize(model, _IMAGES, **options_of(scales)).network
        assert nearest.recipe is not None
        assert taken != [(r.weight_scale, r.factors) for r in nearest.recipe.synapses]
    for record in network.recipe.synapses:
        assert record.weight_scale.numerator == 1
        assert record.weight_scale.denominator.bit_count() == 1
        odd = [m // (m & -m) for m in record.factors]
        assert all(m < 32 for m in odd)
        assert max(record.factors, default=1).bit_length() <= 16
        assert bool(record.factors) is (scales != "tensor")

    again = Tiny().eval()
    again.load_state_dict(done.module.state_dict())
    text = json.loads(json.dumps(steps_as_text(done.weight_steps)))  # as a file keeps them
    steps = {path: tuple(map(float, each)) for path, each in text.items()}
    learned = options_of(scales, weight_scale="learned", weight_steps=steps)
    made = quantize(again, _IMAGES, **learned)
    assert made.network.graph.digest == network.graph.digest
    assert made.network.recipe is not None
    assert made.network.recipe.options == network.recipe.options
    fake = FakeQuantized(again, _IMAGES, learned)
    require_trained(fake, made)
    assert require_equal_spikes(fake, _IMAGES[:8]) == 4
    replayed = reference_of(network, again)
    for name, value in done.quantized.reference.module.state_dict().items():
        assert torch.equal(value, replayed.module.state_dict()[name]), name


def test_a_cut_run_goes_on_from_its_steps() -> None:
    done = tuned(tiny())
    ended = tuned(tiny(), resumed=done.module, done=2, weight_steps=done.weight_steps)
    assert ended.epochs == ()
    assert ended.weight_steps == done.weight_steps == done.epochs[-1].weight_steps
    assert ended.quantized.network.digest == done.quantized.network.digest
    more = tuned(tiny(), epochs=3, resumed=done.module, done=2, weight_steps=done.weight_steps)
    assert more.weight_steps != done.weight_steps


@pytest.mark.parametrize("spoiled", ["fc", "a", "head"])
def test_planted_a_step_that_is_another_in_the_result_is_caught(spoiled: str) -> None:
    model = tiny()
    fake = FakeQuantized(model, _IMAGES, options_of("tensor", weight_scale="learned"))
    steps = fake.weight_steps
    wrong = {**steps, spoiled: tuple(2 * s for s in steps[spoiled])}
    made = quantize(
        model, _IMAGES, **options_of("tensor", weight_scale="learned", weight_steps=wrong)
    )
    with pytest.raises(MismatchError, match="is not what was trained"):
        require_trained(fake, made)


def test_planted_steps_that_move_after_the_last_look_are_caught() -> None:
    fake = FakeQuantized(tiny(), _IMAGES, options_of("channel", weight_scale="learned"))
    with torch.no_grad():
        next(p for name, p in fake.named_parameters() if "moved" in name)[0] += 1
    learned = options_of("channel", weight_scale="learned", weight_steps=fake.weight_steps)
    with pytest.raises(MismatchError, match="is not what was trained"):
        require_trained(fake, quantize(fake.module, _IMAGES, **learned))
    fake.requantize()
    require_trained(fake, quantize(fake.module, _IMAGES, **learned))


def test_learning_begins_with_the_nearest_weights() -> None:
    for scales in ("tensor", "channel"):
        fake = FakeQuantized(tiny(), _IMAGES, options_of(scales, weight_scale="learned"))
        require_trained(fake, quantize(tiny(), _IMAGES, **options_of(scales)))


def test_a_step_has_the_gradient_of_its_integers_less_that_of_their_weights() -> None:
    step, most = 0.25, 3
    real = np.array([[0.30, -0.55], [0.9, -0.1]])
    whole = np.clip(np.rint(real / step), -most, most) * step
    made = Rounded(whole, np.zeros(2), np.full((2, 1), step), real)
    assert made.inside.tolist() == [[True, True], [False, True]]
    # of n * step, n = 1, -2, 3 and 0; straight through the rounding n has the slope of real / step
    want = np.log(2) * np.array([[1 * step - 0.30, -2 * step + 0.55], [3 * step, 0 + 0.1]])
    assert np.allclose(made.slope(), want)

    given, slope = torch.tensor(whole), torch.tensor(made.slope())
    grad = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64)
    for moved, wanted in (
        (torch.zeros(2, requires_grad=True), (grad * slope).sum(1)),
        (torch.zeros(1, requires_grad=True), (grad * slope).sum().reshape(1)),
    ):
        weight = torch.tensor(real, requires_grad=True)
        inside = torch.tensor(made.inside)
        y = straight_through(weight, by_steps(given, moved, slope, 1), inside)
        assert torch.equal(y, given)
        (y * grad).sum().backward()
        assert torch.equal(weight.grad, grad * inside)
        assert torch.allclose(moved.grad, wanted.float())


def test_neighbours_that_share_a_scale_share_its_gradient() -> None:
    moved, ones = torch.zeros(2, requires_grad=True), torch.ones(5, 2)
    by_steps(ones, moved, ones, 3).sum().backward()
    assert moved.grad is not None
    assert moved.grad.tolist() == [6.0, 4.0]


@pytest.mark.parametrize(
    ("wanted", "together", "factors", "unit", "exponents"),
    [
        ({"a": [1.0, 1.0, 2.0]}, 1, (1, 1, 2), Fraction(1), {"a": 0}),
        ({"a": [1.03, 1.04, 1.97]}, 1, (16, 17, 32), Fraction(1, 16), {"a": 0}),
        ({"a": [1.0, 3.0]}, 2, (1, 1, 3, 3), Fraction(1), {"a": 0}),
        ({"a": [1.0, 1.5], "b": [4.0, 6.0]}, 1, (2, 3), Fraction(1, 2), {"a": 0, "b": 2}),
        ({"a": [1.0, 2.0], "b": [4.0, 2.0]}, 1, (23, 23), Fraction(1, 16), {"a": 0, "b": 1}),
        ({"a": [2.0**-20, 1.5]}, 1, (1, 3 << 10), Fraction(1, 2048), {"a": 0}),
    ],
    ids=["exact", "the nearest of 16", "together", "a stream", "a mean", "16 bits"],
)
def test_the_nearest_scales(
    wanted: dict[str, list[float]],
    together: int,
    factors: tuple[int, ...],
    unit: Fraction,
    exponents: dict[str, int],
) -> None:
    given = {name: np.array(each) for name, each in wanted.items()}
    found = nearest_scales(given, len(factors), together=together)
    assert (found.factors, found.unit, found.exponents) == (factors, unit, exponents)


class Twice(nn.Module):
    """One linear map, used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.map, self.head = nn.Linear(16, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.a, self.b, self.c = (LIF(v_threshold=0.25) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(self.first(x.flatten(1)).expand(4, -1, -1))
        y: Tensor = self.head(self.c(self.map(self.b(self.map(x)))).mean(0))
        return y


@pytest.mark.parametrize(("model", "learned"), [(Twice, 3), (Merged, 2)])
def test_shared_and_merged_maps_have_one_step(model: type[nn.Module], learned: int) -> None:
    net = model().eval()
    fake = FakeQuantized(net, _IMAGES, options_of("tensor", weight_scale="learned"))
    require_equal_spikes(fake, _IMAGES[:6])
    fake(_IMAGES).square().sum().backward()
    moved = {n: p for n, p in fake.named_parameters() if "moved" in n}
    assert len(moved) == learned
    assert all(p.grad is not None and p.grad.any() for p in moved.values())
    done = tuned(net)
    for path in ("map", "map#1") if model is Twice else ():
        assert done.weight_steps[path] == done.weight_steps["map"]


_STEPS: dict[str, tuple[float, ...]] = dict.fromkeys(("conv", "fc", "a", "b", "head"), (0.125,))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"weight_steps": _STEPS}, "weight_steps are those of weight_scale 'learned'"),
        ({"weight_scale": "learned"}, "takes the weight_steps that `finetune` has learned"),
        ({"weight_scale": "learned", "weight_steps": {}}, "takes paths and numbers"),
        ({"weight_scale": "learned", "weight_steps": {"fc": (0.5,)}}, "has no weight_steps, and"),
        ({"weight_scale": "learned", "weight_steps": {**_STEPS, "no": (1,)}}, "is no linear map"),
        ({"weight_scale": "learned", "weight_steps": {**_STEPS, "fc": (0.0,)}}, "takes positive"),
        ({"weight_scale": "learned", "weight_steps": {**_STEPS, "fc": (np.inf,)}}, "takes posit"),
        ({"weight_scale": "learned", "weight_steps": {**_STEPS, "fc": ()}}, "takes positive"),
        ({"weight_scale": "learned", "weight_steps": {**_STEPS, "fc": "1"}}, "takes positive"),
        ({"weight_scale": "learned", "weight_steps": {**_STEPS, "fc": (1.0, 1.0)}},
         "layer 'fc': has 2 weight_steps and 1 scales"),
        ({"weight_scale": "learned", "weight_steps": _STEPS, "scales": "channel"},
         "has 1 weight_steps and"),
    ],
)  # fmt: skip
def test_refusals(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(LapilliError, match=reason):
        quantize(tiny(), _IMAGES, **options)


def test_bits_are_not_shared_out_on_learned_scales() -> None:
    with pytest.raises(QuantizeError, match="none are shared out"):
        frontier(tiny(), _IMAGES, weight_scale="learned", weight_steps=_STEPS)
