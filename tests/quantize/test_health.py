"""Exact and no good: what quantizing warns of, in notes, in files and in comparisons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from lapilli.deploy.comparison.compare import compare  # noqa: E402
from lapilli.export.native import load_network, save_network  # noqa: E402
from lapilli.ir.recipe import NoteKind  # noqa: E402
from lapilli.model.digits import PREPROCESSING, load_digits, trained  # noqa: E402
from lapilli.model.families.lif import LIF  # noqa: E402
from lapilli.quantize import Quantized, quantize  # noqa: E402
from lapilli.quantize.health import Rates, _one_answer, _rate_notes  # noqa: E402
from lapilli.simulators.reference import Reference  # noqa: E402

pytestmark = pytest.mark.torch


class Stream(nn.Module):
    """A membrane stream: the stem's currents go on beside those of a block, in one scale."""

    def __init__(self, stem: float = 1.0, block: float = 1.0, v_threshold: float = 0.5) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.block = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(1)
        self.first, self.last = LIF(v_threshold=v_threshold), LIF(v_threshold=v_threshold)
        self.head = nn.Linear(6, 3)
        with torch.no_grad():
            self.stem.weight.mul_(stem)
            self.stem.bias.zero_()  # type: ignore[union-attr]
            self.block.weight.mul_(block)
            self.block.bias.zero_()  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:
        u: Tensor = self.stem(x).expand(4, *x.shape[:1], 6, *x.shape[2:])
        s = self.first(u)
        y = u + self.block(s.flatten(0, 1)).unflatten(0, (4, -1))
        logits: Tensor = self.head(self.last(y).mean((3, 4))).mean(0)
        return logits


def images(count: int = 24) -> Tensor:
    drawn: Tensor = torch.rand(count, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    return drawn


def made(target: str = "lava", **options: float) -> Quantized:
    return quantize(Stream(**options).eval(), images(), target=target)


def kinds(quantized: Quantized) -> set[NoteKind]:
    return {note.kind for note in quantized.notes if note.is_warning}


def test_a_healthy_network_is_not_warned_of() -> None:
    healthy = made()
    assert kinds(healthy) == set()
    assert healthy.health.images == tuple(
        dict.fromkeys(np.linspace(0, 23, 16).astype(int).tolist())
    )
    assert all(0 < r.in_float < 1 for r in healthy.health.rates.values())
    assert all(0 < r.in_integers < 1 for r in healthy.health.rates.values())
    assert max(healthy.health.zeroed.values()) < 0.2


_APART = {"stem": 0.02, "block": 200.0, "v_threshold": 0.005}


def test_a_stream_of_small_and_large_weights_loses_none() -> None:
    healed = made("lava", **_APART)
    assert kinds(healed) == set()
    assert max(healed.health.zeroed.values()) < 0.2


@pytest.fixture(scope="module")
def blind() -> Quantized:
    """The stem's weights lie below the unit of the stream: it became zeros."""
    return made("stock", **_APART)


def test_a_network_that_lost_its_image_is_told(blind: Quantized, tmp_path: Path) -> None:
    assert kinds(blind) == {NoteKind.LOST_WEIGHTS, NoteKind.SILENT, NoteKind.SAME_ANSWER}
    assert blind.health.zeroed["stem"] == 1.0
    assert blind.health.rates["first"].in_float > 0
    assert blind.health.rates["first"].in_integers == 0
    assert len(set(blind.health.integer_answers)) == 1
    texts = [str(n) for n in blind.notes]
    assert "stem: 100.0% of its weights became 0: the layer is lost" in texts
    save_network(blind.network, tmp_path / "net.lapilli")
    assert load_network(tmp_path / "net.lapilli") == blind.network


def test_every_comparison_says_so(blind: Quantized) -> None:
    network = blind.network
    pixels = np.random.default_rng(0).integers(0, 256, (5, 1, 6, 6)).astype(np.uint8)
    got = Reference().compile(network.graph)
    found = compare(network, blind.reference, got, pixels)
    assert {n.kind for n in found.warnings} == kinds(blind)
    assert found.mismatches == 0
    assert "first" in found.vacuous
    assert not found.exact


@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        (lambda m: m.block.weight.zero_(), NoteKind.UNUSUAL_WEIGHTS, "all its weights are 0"),
        (
            lambda m: m.block.weight[0, 0, 0, 0].fill_(1e30),
            NoteKind.UNUSUAL_WEIGHTS,
            "its largest weight is 1e+30",
        ),
    ],
)  # fmt: skip
def test_weights_that_are_no_weights(
    change: Callable[[Stream], object], kind: NoteKind, text: str
) -> None:
    model = Stream().eval()
    with torch.no_grad():
        change(model)
    notes = [n for n in quantize(model, images()).notes if n.kind is kind]
    assert any(n.path == "block" and n.text.startswith(text) for n in notes)


@pytest.mark.parametrize(
    ("rates", "kind"),
    [
        (Rates(0.1, 0.0), NoteKind.SILENT),
        (Rates(0.5, 1.0), NoteKind.SATURATED),
        (Rates(0.0, 0.0), None),
        (Rates(1.0, 1.0), None),
        (Rates(0.2, 0.3), None),
    ],
)
def test_silent_and_saturated_are_against_float(rates: Rates, kind: NoteKind | None) -> None:
    assert [n.kind for n in _rate_notes({"lif": rates})] == ([kind] if kind else [])


@pytest.mark.parametrize(
    ("in_float", "in_integers", "told"),
    [
        ([0, 1, 2, 3] * 5, [2] * 19 + [0], "answers class 2 (counted from 0) to 19 of 20 images,"),
        ([0, 1, 2, 3] * 5, [2] * 20, "in float to 5: it hardly"),
        ([0, 1, 2, 3] * 5, [2] * 15 + [3, 0, 1, 0, 3], ""),  # 11 of 15 that float answers otherwise
        ([0, 1, 2, 3] * 5, [0, 1, 2, 3] * 5, ""),
        ([2] * 64, [2] * 64, ""),  # a calibration of one class
        ([2] * 57 + [1] * 7, [2] * 64, ""),  # of one class, of which float misses some
        ([2] * 50 + [1] * 14, [2] * 64, "in float to 50"),  # mostly of one: the rest is lost
        ([0, 1, 2, 3, 4, 5, 6], [9] * 7, ""),  # too few to say
        ([], [], ""),  # an answer that names no class
    ],
)
def test_one_answer_to_nearly_all_images_is_told(
    in_float: list[int], in_integers: list[int], told: str
) -> None:
    said = _one_answer(in_float, in_integers)
    assert (told in said) if told else not said


def test_a_network_that_answers_one_class_is_warned_of() -> None:
    """The digits at two bits without a scale for each channel: 70 of 360 right."""
    training, _ = load_digits()
    shown = PREPROCESSING.normalise(training.images[:32])
    model, mean, std = trained("spike_driven"), PREPROCESSING.mean, PREPROCESSING.std
    lost = quantize(model, shown, weight_bits=2, examined=32, mean=mean, std=std)
    assert len(set(lost.health.float_answers)) > 8
    said = [n.text for n in lost.notes if n.kind is NoteKind.SAME_ANSWER]
    answer, count = Counter(lost.health.integer_answers).most_common(1)[0]
    assert len(said) == 1
    assert said[0].startswith(f"answers class {answer} (counted from 0) to {count} of 32 images,")
    kept = quantize(model, shown, weight_bits=4, examined=32, mean=mean, std=std)
    assert NoteKind.SAME_ANSWER not in kinds(kept)


def test_images_that_are_not_pixels_by_255_are_told() -> None:
    model = Stream().eval()
    normalised = (images() - 0.5) / 0.2
    assert NoteKind.NORMALISATION in kinds(quantize(model, normalised))
    told = quantize(model, normalised, mean=(0.5,), std=(0.2,))
    assert NoteKind.NORMALISATION not in kinds(told)


class Normed(nn.Module):
    """A batch norm behind the stem, trained on images of mean 0 and variance 1."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.norm = nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.lif, self.head = LIF(v_threshold=0.5), nn.Linear(6, 3)
        with torch.no_grad():
            self.norm.train()(self.stem(torch.randn(400, 1, 6, 6)))
            self.norm.momentum = 1.0
            self.norm(self.stem(torch.randn(400, 1, 6, 6)))

    def forward(self, x: Tensor) -> Tensor:
        s = self.lif(self.norm(self.stem(x)).expand(4, -1, -1, -1, -1))
        logits: Tensor = self.head(s.mean((3, 4))).mean(0)
        return logits


@pytest.mark.parametrize(("scale", "warned"), [(1.0, False), (0.1, True), (10.0, True)])
def test_images_unlike_those_of_training_are_told(scale: float, warned: bool) -> None:
    x = torch.randn(40, 1, 6, 6, generator=torch.Generator().manual_seed(3)) * scale
    notes = quantize(Normed().eval(), x, mean=(0.0,), std=(1.0,)).notes
    assert any(n.kind is NoteKind.NORMALISATION and n.path == "norm" for n in notes) == warned
