"""Encodings of images by the host: their definitions, exactness on every simulator, files."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lapilli.deploy.comparison.compare import compare_all
from lapilli.deploy.comparison.targets import target
from lapilli.export.native import load_network, save_network
from lapilli.ir.encoding import Encoding
from lapilli.ir.errors import FormatError, InputError, QuantizeError

_IMAGE = (1, 8, 8)


def every_pixel() -> np.ndarray:
    return np.arange(256, dtype=np.uint8).reshape(4, *_IMAGE)


# ---- definitions, computed in another way ------------------------------------------------------


@pytest.mark.parametrize("steps", [2, 3, 4, 7, 16])
def test_first_spikes_are_brain_cogs(steps: int) -> None:
    got = Encoding.of(f"ttfs:T={steps}", _IMAGE).values(every_pixel())
    x = [Fraction(p, 255) for p in range(256)]
    for i in range(steps):
        shows = [steps - i - 1 < steps * v <= steps - i for v in x]
        expected = np.where(shows, 1 / (i + 1), 0.0)
        assert np.array_equal(got[:, i].ravel(), expected)
    assert np.array_equal((got > 0).sum(1).ravel(), np.arange(256) > 0)


def test_phases_are_the_bits_of_256_x() -> None:
    got = Encoding.of("phase:T=10", _IMAGE).values(every_pixel())
    for p in range(256):
        bits = f"{(256 * p // 255) & 255:08b}"
        shown = [int(bits[t % 8]) * 0.5 ** (t % 8) for t in range(10)]
        assert got.reshape(4, 10, 64)[p // 64, :, p % 64].tolist() == shown
    assert not got[3, :, 0, 7, 7].any()  # white


def test_rates_follow_the_pixel_and_not_the_batch() -> None:
    encoding = Encoding.of("rate:T=64,seed=5", _IMAGE)
    images = every_pixel()
    together = encoding.values(images)
    alone = np.concatenate([encoding.values(image[None]) for image in images[::-1]])[::-1]
    assert np.array_equal(together, alone)
    assert np.array_equal(np.unique(together), [0.0, 1.0])
    share = together.mean(1).ravel()
    assert share[0] == 0
    assert share[255] == 1
    assert np.abs(share - np.arange(256) / 255).max() < 0.25  # four deviations of 64 draws
    other = Encoding.of("rate:T=64,seed=6", _IMAGE).values(images)
    assert not np.array_equal(together, other)
    stream = hashlib.shake_128(b"5\n" + images[1].tobytes()).digest(4 * 64 * 64)
    for place, shown in enumerate(together[1].ravel().tolist()):
        word = int.from_bytes(stream[4 * place : 4 * place + 4], "little")
        assert shown == (word * 255 < images[1].ravel().tolist()[place % 64] << 32)


def test_a_population_fires_sooner_the_nearer_its_centre_is() -> None:
    steps, m = 5, 6
    got = Encoding.of(f"population:T={steps},m={m}", _IMAGE).values(every_pixel())
    assert got.shape == (4, steps, m, 8, 8)
    x = np.arange(256) / 255
    for i in range(1, m + 1):
        centre, width = (2 * i - 3) / (2 * (m - 2)), 1 / (1.5 * (m - 2))
        response = np.exp(-((x - centre) ** 2) / (2 * width**2))
        late = steps * (1 - response)
        far = np.abs(late - np.rint(late)) > 1e-9  # floats may err at the edge
        spikes = got[:, :, i - 1].transpose(0, 2, 3, 1).reshape(256, steps)
        for p in np.flatnonzero(far):
            expected = np.zeros(steps)
            if late[p] < steps:
                expected[int(late[p])] = 1
            assert np.array_equal(spikes[p], expected)
    nearest = round(255 * 3 / 8)  # the centre of the third
    assert got[nearest // 64, 0, 2].ravel()[nearest % 64] == 1


def test_sequences_tell_an_image_in_order() -> None:
    image = np.arange(2 * 3 * 4).reshape(1, 2, 3, 4)
    rows, columns, pixels = (Encoding.of(k, (2, 3, 4)) for k in ("rows", "columns", "pixels"))
    assert rows.moved(image)[0, 1].tolist() == [4, 5, 6, 7, 16, 17, 18, 19]
    assert columns.moved(image)[0, 1].tolist() == [1, 5, 9, 13, 17, 21]
    assert pixels.moved(image)[0, 5].tolist() == [5, 17]
    assert (rows.steps, columns.steps, pixels.steps) == (3, 4, 12)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("magic:T=4", "'magic' is none of rate, phase"),
        ("rate", "needs 2 to 65536 steps"),
        ("rate:T=1", "needs 2 to 65536 steps"),
        ("rate:T=4,p=2", "p is none of T, seed, m"),
        ("rate:T=x", "is not like rate:T=4,seed=0"),
        ("phase:T=4,seed=1", "draws nothing"),
        ("population:T=4", "takes 3 to 256 neurons"),
        ("rate:T=4,m=5", "takes 3 to 256 neurons"),
        ("rows:T=5", "are 8 steps"),
    ],
)
def test_encodings_that_are_none(text: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        Encoding.of(text, _IMAGE)


# ---- networks ------------------------------------------------------------------------------------

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.torch

from torch import Tensor, nn  # noqa: E402

from lapilli.model.families.lif import LIF  # noqa: E402
from lapilli.quantize import Quantized, quantize  # noqa: E402
from lapilli.quantize.encoded import encoded_images  # noqa: E402
from lapilli.quantize.pytorch.float_module import FloatModule  # noqa: E402
from lapilli.quantize.replay import reference_of  # noqa: E402


class Hears(nn.Module):
    """Steps (T, B, ...) of anything, to three logits."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.fc, self.lif = nn.Linear(features, 12), LIF(v_threshold=0.2)
        self.mid, self.lif2 = nn.Linear(12, 10), LIF(v_threshold=0.2)
        self.head = nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.lif2(self.mid(self.lif(self.fc(x.flatten(2)))))
        logits: Tensor = self.head(x.mean(0))
        return logits


def hears(features: int) -> Hears:
    torch.manual_seed(1)
    model = Hears(features).eval()
    with torch.no_grad():
        model.fc.weight.mul_(3)
        model.mid.weight.mul_(4)
    return model


CASES: dict[str, tuple[str, int, tuple[int, int]]] = {
    "rate:T=4,seed=3": ("TBCHW", 64, (0, 1)),
    "phase:T=8": ("TBCHW", 64, (0, 128)),
    "ttfs:T=4": ("TBCHW", 64, (0, 128)),
    "population:T=4,m=5": ("TBCHW", 320, (0, 1)),
    "rows": ("TBF", 8, (-127, 127)),
    "columns": ("TBF", 8, (-127, 127)),
    "pixels": ("TBF", 1, (-127, 127)),
}


def made_with(text: str, **options: Any) -> tuple[Quantized, nn.Module]:
    layout, features, _ = CASES[text]
    model = hears(features)
    images = torch.from_numpy(drawn(12, 0))
    return quantize(model, images, layout=layout, encoding=text, **options), model


def drawn(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *_IMAGE), np.uint8)


@pytest.mark.parametrize("text", CASES)
def test_encoded_networks_are_exact_from_a_file_too(text: str, tmp_path: Path) -> None:
    options = {"mean": [0.4], "std": [0.3]} if text in ("rows", "columns", "pixels") else {}
    made, model = made_with(text, **options)
    network, images = made.network, drawn(6, 1)
    assert network.encoding is not None
    assert str(network.encoding) == text
    assert network.encoding.steps == network.graph.T
    assert (network.input.lo, network.input.hi) == CASES[text][2]

    save_network(network, tmp_path / "n.lapilli")
    loaded = load_network(tmp_path / "n.lapilli")
    assert (loaded.encoding, loaded.digest) == (network.encoding, network.digest)
    assert loaded.digest != replace(loaded, encoding=None).digest
    reference = reference_of(loaded, model)
    others = {
        name: target(name).compile(loaded.graph)
        for name in ("reference", "event-driven", "onnx", "fast")
    }
    done = compare_all(loaded, reference, others, images, batch=4)
    for comparison in done:
        comparison.require()
        assert comparison.compared > 6 * network.graph.T * 22

    seen = encoded_images(network.encoding, images, *([[0.4], [0.3]] if options else []))
    given = loaded.encode(images)[network.graph.inputs[0]]
    unit = 0.5**network.input.exponent
    held = np.clip(seen.numpy(), network.input.lo * unit, network.input.hi * unit)
    assert np.abs(np.moveaxis(given, 0, 1) * unit - held).max() <= unit / 2
    assert np.abs(held - seen.numpy()).max() <= unit
    floats = FloatModule.beside(made.reference, model, lambda _: seen).run(images)
    assert floats.logits.shape == (6, 3)


def test_another_seed_is_noticed() -> None:
    """A planted fault: the file's seed is not the one that the spikes were drawn with."""
    made, _ = made_with("rate:T=4,seed=3")
    network, images = made.network, drawn(6, 1)
    assert network.encoding is not None
    other = replace(network, encoding=replace(network.encoding, seed=4))
    want = made.reference.run(network.encode(images))
    got = target("reference").compile(network.graph).run(other.encode(images))
    assert not np.array_equal(want.values["lif"], got.values["lif"])


@pytest.mark.parametrize(
    ("images", "layout", "options", "problem"),
    [
        (torch.rand(4, 1, 8, 8), "TBCHW", {}, "calibration are bytes"),
        (torch.zeros(4, 1, 8, 8, dtype=torch.uint8), "BCHW", {}, "layout BCHW does not hold"),
        (torch.zeros(4, 1, 8, 8, dtype=torch.uint8), "TBF", {}, "layout TBF does not hold"),
        (torch.zeros(4, 8, 8, dtype=torch.uint8), "TBCHW", {}, r"takes images \(C, H, W\)"),
        (torch.zeros(4, 1, 8, 8, dtype=torch.uint8), "TBCHW", {"mean": [0.5]}, "not normalised"),
        (torch.zeros(4, 1, 8, 8, dtype=torch.uint8), "TBCHW", {"counts": True}, "not normalised"),
    ],
)
def test_what_cannot_be_encoded(
    images: Tensor, layout: str, options: dict[str, Any], problem: str
) -> None:
    with pytest.raises(QuantizeError, match=problem):
        quantize(hears(64), images, layout=layout, encoding="rate:T=4", **options)


def test_a_network_takes_the_images_of_its_encoding(tmp_path: Path) -> None:
    network = made_with("rows")[0].network
    for odd in (drawn(2, 0).astype(np.float32), drawn(2, 0)[:, :, :7], drawn(2, 0)[:, None]):
        with pytest.raises(InputError, match=r"takes uint8 images \(B, 1, 8, 8\)"):
            network.encode(odd)
    with pytest.raises(InputError, match="gives 64 steps of"):
        replace(network, encoding=Encoding.of("pixels", _IMAGE))


def test_a_file_whose_encoding_is_none(tmp_path: Path) -> None:
    network = made_with("rows")[0].network
    assert network.encoding is not None
    object.__setattr__(network.encoding, "kind", "magic")
    save_network(network, tmp_path / "n.lapilli")
    with pytest.raises(FormatError, match="'magic' is none of"):
        load_network(tmp_path / "n.lapilli")


@pytest.mark.slow
def test_784_steps_are_exact_and_what_they_cost_is_told() -> None:
    """A pixel a step: no state has a bit for each of 783 decays, so that integers stand in."""
    torch.manual_seed(1)
    images = np.random.default_rng(0).integers(0, 256, (6, 1, 28, 28), np.uint8)
    model = hears(1)
    made = quantize(model, torch.from_numpy(images[:4]), layout="TBF", encoding="pixels")
    graph = made.network.graph
    assert graph.T == 784
    told = [str(note) for note in made.notes if note.path in ("lif", "lif2")]
    assert told
    assert all("784" in text or "bits" in text for text in told)
    other = {"event-driven": target("event-driven").compile(graph)}
    (comparison,) = compare_all(made.network, made.reference, other, images[4:])
    comparison.require()
    assert comparison.compared > 2 * 784 * 22 * 3
