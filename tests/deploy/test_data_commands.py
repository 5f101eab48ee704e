"""The commands on data as people have them: resized, binned, left out, remembered."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lapilli.deploy.cli import frame
from lapilli.deploy.cli.app import app
from lapilli.deploy.cli.images import how_for
from lapilli.deploy.data.binning import Binning
from lapilli.deploy.data.pictures import ImageError
from lapilli.deploy.data.reading import How
from lapilli.deploy.data.source import open_data
from lapilli.deploy.data.transforms import Transform
from lapilli.export.native import load_network

pytest.importorskip("torch")
pytest.importorskip("sklearn")

CHECKPOINT = Path(__file__).parents[2] / "model" / "checkpoints" / "digits_spikformer.safetensors"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders of digits, each pixel four times, so that resizing to 8 x 8 gives them back."""
    from lapilli.model.digits import load_digits

    folder = tmp_path_factory.mktemp("digits")
    for half, split in zip(("train", "test"), load_digits(), strict=True):
        for digit in range(10):
            for i in np.flatnonzero(split.labels == digit)[:8]:
                image = split.images[i, 0].repeat(2, 0).repeat(2, 1)
                path = folder / half / str(digit) / f"{i:04}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(path)
    return folder


@pytest.fixture(scope="module")
def network(folders: Path) -> Path:
    output = folders / "net.lapilli"
    words = ["quantize", str(CHECKPOINT), "-o", str(output), "--resize", "8:nearest"]
    halves = folders / "train"
    assert frame.run(app, [*words, "--calibration", str(halves)]) == 0
    return output


def answer(words: list[str], capsys: pytest.CaptureFixture[str], status: int = 0) -> Any:
    capsys.readouterr()
    assert frame.run(app, [*words, "--json"]) == status
    return json.loads(capsys.readouterr().out)


def test_the_recipe_keeps_what_the_calibration_used(network: Path, folders: Path) -> None:
    recipe = load_network(network).recipe
    assert recipe is not None
    told = recipe.images
    assert (told["format"], told["resize"], told["kernel"]) == ("class folders", [8], "nearest")
    assert str(folders) not in json.dumps(dict(told))
    pixels = open_data(folders, How(test=False, transform=Transform(resize=(8,), kernel="nearest")))
    digest = hashlib.sha256(pixels.read(range(80)).tobytes()).hexdigest()
    assert (told["count"], told["sha256"]) == (80, digest)


def test_compare_on_class_folders(
    network: Path, folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["compare", str(network), "--checkpoint", str(CHECKPOINT), "--on", "reference"]
    words += ["--images", str(folders / "test"), "--count", "20"]
    assert frame.run(app, [*words, "--json"]) == 0  # resized as the calibration was
    out, err = capsys.readouterr()
    facts = json.loads(out)
    assert (facts["comparisons"][0]["images"], facts["comparisons"][0]["mismatches"]) == (20, 0)
    assert "read with --resize 8:nearest, as the network's file says; --resize none" in err
    refused = answer([*words, "--resize", "none"], capsys, status=2)
    assert "images are 1 x 16 x 16, the network takes 1 x 8 x 8; give --resize" in str(refused)


@pytest.mark.parametrize(
    "images",
    [
        {"resize": [0]},
        {"resize": {"a": 1}, "kernel": "nearest"},
        {"resize": [8], "kernel": ["magic"]},
        {"crop": "large"},
        {"frames": "many"},
        {"frames": True},
        {"bin_by": 7},
        {"sensor": [1, 2, 3]},
    ],
)
def test_a_recipe_that_says_nonsense(images: Any, network: Path) -> None:
    loaded = load_network(network)
    assert loaded.recipe is not None
    damaged = replace(loaded, recipe=replace(loaded.recipe, images=images))
    with pytest.raises(ImageError):
        how_for(damaged)


def test_what_the_recipe_says_of_events_and_what_the_caller_says(network: Path) -> None:
    loaded = load_network(network)
    assert loaded.recipe is not None
    told = Binning(frames=3, by="time", sensor=(8, 8)).describe()
    events = replace(loaded, recipe=replace(loaded.recipe, images=told))
    used = how_for(events, How(binning=Binning(by="count")))
    assert used.binning.or_else(used.usual_binning) == Binning(frames=3, by="count", sensor=(8, 8))
    assert str(used.usual_binning.but_for(used.binning)) == "--frames 3 --sensor 8x8"
    assert how_for(loaded).usual_binning == Binning(frames=loaded.graph.T)


def test_options_that_do_nothing_are_refused(
    network: Path, folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for more in (["--resize", "8"], ["--bin-by", "time"]):
        words = ["compare", str(network), "--on", "event-driven", *more]
        assert "digits are pictures of 8 x 8 that stay" in str(answer(words, capsys, status=2))
    words = ["compare", str(network), "--images", str(folders), "--frames", "4"]
    assert "holds no events; leave --frames" in str(answer(words, capsys, status=2))
    (picture,) = sorted((folders / "test" / "3").iterdir())[:1]
    words = ["run", str(network), str(picture), "--sensor", "8"]
    assert "pictures are no events" in str(answer(words, capsys, status=2))
    assert "one of them" in str(answer(["run", str(network)], capsys, status=2))


def test_one_of_the_images_cannot_be_read(
    network: Path, folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for digit in "0123456789":
        (tmp_path / digit).symlink_to(folders / "test" / digit)
    (tmp_path / "9").unlink()
    (tmp_path / "9").mkdir()
    (tmp_path / "9" / "broken.png").write_bytes(b"no picture")
    words = ["compare", str(network), "--checkpoint", str(CHECKPOINT), "--on", "reference"]
    words += ["--images", str(tmp_path)]
    assert "broken.png: not a picture" in str(answer(words, capsys, status=2))
    assert frame.run(app, [*words, "--skip-unreadable", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["comparisons"][0]["images"] == 72
    assert "broken.png: not a picture" in err
    assert "1 of 73 images are left out" in err


def test_run_and_golden_resize(
    network: Path, folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (picture,) = sorted((folders / "test" / "3").iterdir())[:1]
    answers = answer(["run", str(network), str(picture), "--resize", "8:nearest"], capsys)
    assert answers[0]["answer"] == "3"
    assert answer(["run", str(network), str(picture)], capsys) == answers
    more = ["--source", str(folders), "--count", "300", "--on", "event-driven"]
    rows = answer(["run", str(network), *more], capsys)
    assert len(rows) == 80
    assert next(r for r in rows if r["image"] == str(picture))["logits"] == answers[0]["logits"]
    refused = answer(["run", str(network), str(picture), "--resize", "none"], capsys, status=2)
    assert "is 16 x 16 pixels, the network takes 8 x 8; give --resize" in str(refused)
    words = ["golden", str(network), "--source", str(folders), "--count", "40", "--resize"]
    answer([*words, "8:nearest", "-o", str(tmp_path / "g")], capsys)
    given = np.load(tmp_path / "g" / "golden.npz")["input"]
    assert given.shape[1:] == (40, 1, 8, 8)


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("--resize", "big", "is no size"),
        ("--crop", "0", "is no size"),
        ("--bin-by", "luck", "is none of count, time"),
        ("--sensor", "1x2x3", "is no size"),
        ("--frames", "0", "greater than or equal to 1"),
    ],
)
def test_bad_values(
    option: str, value: str, sentence: str, network: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["compare", str(network), "--on", "event-driven", option, value]
    assert sentence in str(answer(words, capsys, status=2))


_OF_EVENTS = """
import torch
from torch import nn
from lapilli.model.families.lif import LIF

class Net(nn.Module):
    \"\"\"Takes (B, T, 2, 4, 4), counts of events.\"\"\"

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.flatten, self.linear = nn.Flatten(2), nn.Linear(32, 8)
        self.lif, self.head = LIF(tau=2.0, v_threshold=0.5), nn.Linear(8, 3)

    def forward(self, x):
        x = self.linear(self.flatten(x)).transpose(0, 1)
        return self.head(self.lif(x)).mean(0)
"""


def test_events_from_quantize_to_compare(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """How `quantize` binned them is all that `compare` and `run` need to know."""
    rng = np.random.default_rng(0)
    for i in range(12):
        columns: dict[str, Any] = {
            n: rng.integers(0, h, 64) for n, h in zip("xyp", (4, 4, 2), strict=True)
        }
        path = tmp_path / "events" / str(i % 3) / f"{i}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, t=np.sort(rng.integers(0, 1000, 64)), **columns)
    (tmp_path / "net.py").write_text(_OF_EVENTS)
    source, net = str(tmp_path / "events"), str(tmp_path / "net.lapilli")
    words = ["quantize", f"{tmp_path}/net.py:Net", "--calibration", source, "-o", net, "--counts"]
    words += ["--layout", "BTCHW", "--frames", "3", "--bin-by", "time", "--sensor", "4x4"]
    answer(words, capsys)
    words = ["compare", net, "--images", source, "--on", "event-driven"]
    assert frame.run(app, [*words, "--json"]) == 0
    out, err = capsys.readouterr()
    facts = json.loads(out)["comparisons"][0]
    assert (facts["images"], facts["mismatches"]) == (12, 0)
    assert "read with --frames 3 --bin-by time --sensor 4x4, as the network's file says" in err
    assert len(answer(["run", net, "--source", source, "--count", "2"], capsys)) == 2
