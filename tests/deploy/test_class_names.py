"""Names of classes, from folders or a list, and a few samples of class folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch")
pytest.importorskip("sklearn")

from lapilli.deploy.cli import frame
from lapilli.deploy.cli.app import app
from lapilli.deploy.cli.class_order import order_hint
from lapilli.deploy.cli.image_set import Images
from lapilli.deploy.cli.options import class_names_of
from lapilli.export.native import load_network
from lapilli.ir.errors import InputError
from lapilli.model.loading.checkpoint import load_checkpoint

pytestmark = pytest.mark.torch

CHECKPOINT = Path(__file__).parents[2] / "model" / "checkpoints" / "digits_spikformer.safetensors"
COMPARE = ["compare", "net.lapilli", "--module", "net.py:Net", "--images", "pictures"]
LEVELS = {"dark": 20, "grey": 120, "bright": 230}
_NET = """
import torch
from torch import nn
from lapilli.model.families.lif import LIF

class Net(nn.Module):
    def __init__(self, classes=3):
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.lif = nn.Linear(16, 12), LIF(v_threshold=0.2)
        self.head = nn.Linear(12, classes)

    def forward(self, x):
        return self.head(self.lif(self.fc(x.flatten(1)).repeat(4, 1, 1))).mean(0)
"""


@pytest.fixture(autouse=True)
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Class folders of 6, 4 and 2 pictures, and a class of one's own."""
    rng = np.random.default_rng(0)
    for (name, level), count in zip(LEVELS.items(), (6, 4, 2), strict=True):
        for i in range(count):
            path = tmp_path / "pictures" / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(level - 20, level + 20, (4, 4), dtype=np.uint8)).save(path)
    (tmp_path / "net.py").write_text(_NET)
    monkeypatch.chdir(tmp_path)


def quantized(*more: str, status: int = 0) -> tuple[str, ...]:
    words = ["quantize", "net.py:Net", "--calibration", "pictures", "--no-normalisation"]
    assert frame.run(app, [*words, "-o", "net.lapilli", *more]) == status
    return load_network(Path("net.lapilli")).classes if status == 0 else ()


def answer(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> Any:
    capsys.readouterr()
    assert frame.run(app, [*words, "--json"]) == status
    return json.loads(capsys.readouterr().out)


def test_names_of_class_folders_are_kept_and_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert quantized() == ("bright", "dark", "grey")
    rows = answer(capsys, "run", "net.lapilli", "pictures/dark/0.png", "pictures/bright/1.png")
    assert {row["answer"] for row in rows} <= set(LEVELS)
    told = answer(capsys, *COMPARE)
    assert all(side["mismatches"] == 0 for side in told["comparisons"])


def test_a_list_of_names_gives_the_order(capsys: pytest.CaptureFixture[str]) -> None:
    Path("names.txt").write_text("dark\n\ngrey \nbright\n")
    assert quantized("--class-names", "names.txt") == tuple(LEVELS)
    told = answer(capsys, *COMPARE)
    Path("pictures/dark").rename("dark")  # the others keep their numbers
    assert quantized("--class-names", "dark,grey,bright") == tuple(LEVELS)
    rows = answer(capsys, "run", "net.lapilli", "--source", "pictures")
    assert {row["answer"] for row in rows} <= set(LEVELS)
    assert told["comparisons"][0]["images"] == 12


def test_names_that_are_not_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert quantized("--arg", "classes=4") == ("0", "1", "2", "3")
    assert "pictures: names 3 classes, and the network tells 4 apart" in capsys.readouterr().err
    quantized("--arg", "classes=4", "--class-names", "a,b,c", status=2)
    assert "3 class names for 4 logits" in capsys.readouterr().err
    assert quantized("--arg", "classes=4", "--class-names", "dark,grey,bright,none")[3] == "none"
    assert "names 3 classes" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "sentence"),
    [("missing.txt", "no file of names, a line each"), ("a,b,a", "names 'a' twice")],
)
def test_lists_that_are_none(given: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        class_names_of(given)


def test_a_checkpoint_that_names_its_classes(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["quantize", str(CHECKPOINT), "-o", "digits.lapilli", "--class-names", "a,b"]
    assert frame.run(app, words) == 2
    assert "calls its classes 0, 1, 2, ... itself; leave --class-names" in capsys.readouterr().err


def test_few_of_class_folders_are_of_all_classes(capsys: pytest.CaptureFixture[str]) -> None:
    quantized("--calibration-count", "6")
    assert "pictures: 6 of 12 samples, from the classes in turn" in capsys.readouterr().err
    assert frame.run(app, ["run", "net.lapilli", "--source", "pictures", "--count", "6"]) == 0
    out, err = capsys.readouterr()
    assert [sum(f"/{name}/" in line for line in out.splitlines()) for name in LEVELS] == [3, 2, 1]
    assert "6 of 12 samples, from the classes in turn" in err


def test_folders_that_no_class_is_called_by(capsys: pytest.CaptureFixture[str]) -> None:
    quantized()
    Path("pictures/dark").rename("pictures/black")
    frame.run(app, ["run", "net.lapilli", "--source", "pictures"])
    assert "'black' is the name of no class of the network" in capsys.readouterr().err


def test_training_keeps_names_and_their_order_when_it_goes_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["train", "net.py:Net", "--data", "pictures", "--threads", "1", "--epochs"]
    assert frame.run(app, [*words, "1", "-o", "a.safetensors"]) == 0
    known = load_checkpoint(Path("a.safetensors")).preprocessing
    assert known is not None
    assert known.classes == ("bright", "dark", "grey")
    facts = answer(capsys, "inspect", "a.safetensors")  # mean and std are in the file, too
    assert [word.partition(" ")[0] for word in facts["missing"]] == ["the", "images"]
    made = ["quantize", "net.py:Net", "--checkpoint", "a.safetensors", "--calibration", "pictures"]
    assert frame.run(app, [*made, "-o", "a.lapilli"]) == 0
    network = load_network(Path("a.lapilli"))
    assert (network.classes, len(network.input.mean)) == (known.classes, 1)
    assert tuple(map(float, network.input.mean)) == known.mean
    names = ["--class-names", "dark,grey,bright", "-o", "b.safetensors"]
    assert frame.run(app, [*words, "1", *names]) == 0
    once = answer(capsys, *words, "2", *names, "--resume", "b.safetensors")
    assert frame.run(app, [*words, "1", *names]) == 0
    again = answer(capsys, *words, "2", "-o", "b.safetensors", "--resume", "b.safetensors")
    assert once["epochs"][0]["loss"] == again["epochs"][0]["loss"]


@pytest.mark.parametrize(
    ("answers", "order"),
    [
        ([0, 0, 0, 1, 1, 1, 2, 2, 2], ""),  # as they are
        ([2, 2, 2, 0, 0, 0, 1, 1, 1], "b,c,a"),
        ([2, 2, 2, 0, 0, 0, 1, 1, 0], "b,c,a"),  # one image is wrong either way
        ([2, 2, 2, 0, 0, 0, 0, 0, 0], ""),  # two classes are answered alike
        ([0, 1, 2, 0, 1, 2, 0, 1, 2], ""),  # no class has a usual answer
    ],
)
def test_the_order_in_which_answers_fit(answers: list[int], order: str) -> None:
    hint = order_hint(np.repeat([0, 1, 2], 3), answers, ("a", "b", "c"))
    assert hint.rpartition("--class-names ")[2] == order


def test_labels_are_numbered_anew_where_all_names_are_known() -> None:
    given = Images(np.zeros((3, 1)), np.array([0, 1, 0]), classes=("b", "c"))
    known = given.numbered_as(("a", "b", "c"))
    assert known.labels is not None
    assert (known.labels.tolist(), known.classes) == ([1, 2, 1], ("a", "b", "c"))
    assert given.numbered_as(("a", "b")) is given


def test_the_digits_that_nobody_asked_for_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["quantize", str(CHECKPOINT), "-o", "digits.lapilli", "--calibration-count", "8"]
    assert frame.run(app, words) == 0
    assert "calibrated on digits, scikit-learn's training images" in capsys.readouterr().err
    assert frame.run(app, [*words, "--calibration", "digits"]) == 0
    assert "calibrated on digits" not in capsys.readouterr().err
